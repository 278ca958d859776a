"""The tables, examples, links and names in the docs, compared with the program.

A fence marked `console example` holds `$ curl` commands with their output; one marked `text exchange` a WebSocket
conversation, `>` from the client and `<` to it; one marked `json pushed` messages that the server pushes. All of a page
run in order against one new server, so offsets and texts are compared as they stand. `k3f9` is the epoch of that
server's log; times, tokens and guests' names are compared by their form. Of a `sh` fence each line that begins with
`curl` is run in a room where others talk, and must be answered.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from cyclopts import App, CycloptsError, Parameter

from chatserver import cli as chatserver_cli
from chatserver.protocol import encoders
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import SPECS, flag_name
from loadgen import cli as loadgen_cli
from loadgen.personas import registry
from tests.support.peers import PATIENCE, Address, ask, publish
from tests.support.serving import server_process

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FORMS = {
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    "edited": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    "token": re.compile(r"[\w~-]{22,260}", re.ASCII),
    "version": re.compile(r"\d+\.\d+\.\d+"),
    "session": re.compile(r"[A-Za-z0-9_-]{22}"),
    "user.id": re.compile(r"g_[0-9a-f]{15}"),
    "user.name": re.compile(r"[A-Z][a-z]+ [A-Z][a-z]+ \d\d"),
}


def fences(page: Path, kind: str = "") -> list[tuple[str, str]]:
    """Kind and text of a page's fences, of all kinds or of one."""
    found: list[tuple[str, str]] = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [fence for fence in found if kind in ("", fence[0])]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- tables -----------------------------------------------------------------------------------------------------------


def test_tables_match_the_code_and_a_stale_one_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/tables.py lists the tables: states, reasons, error codes, limits and more. An extra page has a wrong row."""
    copies = tmp_path / "docs"
    shutil.copytree(DOCS, copies, ignore=shutil.ignore_patterns("*.png", "*.py"))
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    wrong = page.replace("| `pong-deadline` |", "| `pong-is-late` |")
    assert wrong != page
    (copies / "wrong.md").write_text(wrong, encoding="utf-8")
    monkeypatch.syspath_prepend(DOCS)
    tables = import_module("tables")
    monkeypatch.setattr(tables, "DOCS", copies)
    assert tables.main(["--check"]) == 1
    assert capsys.readouterr().out == "wrong.md is stale; run: python docs/tables.py\n"


def test_every_package_that_is_imported_is_in_the_table() -> None:
    """Packages of the program itself: `loadgen/peers/` runs third-party servers, if they are installed."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"<!-- from code: dependencies -->\n(.*?)<!-- end -->", text, re.DOTALL)
    named = re.findall(r"^\| `([\w.-]+)", shown, re.MULTILINE)
    ours = "\n".join(text for file, text in code("chatserver", "loadgen").items() if file.parent.name != "peers")
    packages = packages_distributions()
    modules = set(re.findall(r"^ *(?:import|from) (\w+)", ours, re.MULTILINE)) - {"chatserver", "loadgen"}
    imported = {packages[module][0].replace("_", "-") for module in modules & packages.keys()}
    assert sorted(imported, key=str.lower) == sorted(named, key=str.lower)


def test_pushed_messages_match_the_encoders() -> None:
    made = [
        encoders.typing("lobby", encoders.User("g_2d4a90c4b1f0e37", "Brisk Otter 34")),
        encoders.read("lobby", 41),
        encoders.gap("lobby", "k3f9-2", "k3f9-9000"),
        encoders.error(None, ErrorCode.FORBIDDEN, "you are banned in lobby for another 60 s", 60, room="lobby"),
        encoders.error(None, ErrorCode.FORBIDDEN, "you may not write in lobby for another 60 s", 60),
        encoders.goaway("restart", 3.2),
        encoders.expiring(30.0),
    ]
    told = "".join(text for _, text in fences(DOCS / "protocol.md", "json pushed"))
    assert not list(differences([json.loads(line) for line in told.splitlines()], [json.loads(each) for each in made]))


# -- examples ---------------------------------------------------------------------------------------------------------


def differences(told: Any, got: Any, where: str = "", form: str = "") -> Iterator[str]:
    """The places where an answer differs from the page."""
    if isinstance(told, dict) and isinstance(got, dict):
        if told.keys() != got.keys():
            yield f"{where}: fields {sorted(got)}, the page says {sorted(told)}"
            return
        is_user = told.keys() == {"id", "name"}
        for key in told:
            yield from differences(told[key], got[key], f"{where}.{key}", f"user.{key}" if is_user else key)
    elif isinstance(told, list) and isinstance(got, list) and len(told) == len(got):
        for index, (one, other) in enumerate(zip(told, got, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif form == "took_ms":
        if not isinstance(got, float):
            yield f"{where}: {got!r} is no duration"
    elif form in _FORMS and isinstance(told, str) and _FORMS[form].fullmatch(told):
        if not isinstance(got, str) or not _FORMS[form].fullmatch(got):
            yield f"{where}: {got!r} has not the form of a {form}"
    elif told != got or type(told) is not type(got):  # 25 and 25.0 are not one type in Go, Rust and Swift
        yield f"{where}: {got!r}, the page says {told!r}"


def check_output(told: str, got: str) -> None:
    """Compare the output of a command: JSON as a whole, else line by line with the JSON in each."""
    try:
        wrong = list(differences(json.loads(told), json.loads(got)))
    except ValueError:
        assert len(told.splitlines()) == len(got.splitlines()), got
        wrong = []
        for one, other in zip(told.splitlines(), got.splitlines(), strict=True):
            at = one.find("{")
            if at < 0:
                wrong += [] if one == other else [f"{other!r}, the page says {one!r}"]
            else:
                assert one[:at] == other[:at]
                wrong += differences(json.loads(one[at:]), json.loads(other[at:]))
    assert not wrong, got


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each `$ command`, which may go on after a backslash, and the output below it."""
    for part in re.split(r"^\$ ", text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip()


async def run_curl(command: str, lines: int, *more: str) -> str:
    """The output of a command; of a stream (`-N`), as many lines as the page shows."""
    curl, *arguments = shlex.split(command, comments=True)
    assert curl == "curl", f"only curl is run: {command}"
    stream = any(re.match(r"-\w*N", argument) for argument in arguments)
    process = await trio.lowlevel.open_process(
        ["curl", "-q", *more, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    output = b""
    try:
        with trio.fail_after(PATIENCE):
            async for data in process.stdout:
                output += data
                if stream and output.count(b"\n") > lines:
                    break
            if not stream:
                assert await process.wait() == 0, command
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
    got = output.decode().splitlines()
    return "\n".join(got[:lines] if stream else got)


async def talk(address: Address) -> None:
    while True:
        await publish(address, "lobby", "hello")
        await trio.sleep(0.1)


async def run_exchange(text: str, address: Address) -> None:
    """Send and expect in the order of the page, which need not show `hello` and presence."""
    url = f"ws://{address.host}:{address.port}/ws"
    with trio.fail_after(PATIENCE):
        async with trio_websocket.open_websocket_url(url) as socket:
            for part in re.split(r"^(?=[<>] )", text, flags=re.MULTILINE)[1:]:
                message = json.loads(part[2:])
                if part[0] == ">":
                    await socket.send_message(json.dumps(message))
                    continue
                got = json.loads(await socket.get_message())
                while got["type"] in {"hello", "presence"} - {message["type"]}:
                    got = json.loads(await socket.get_message())
                assert not list(differences(message, got)), got


needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="no curl on this machine: the examples of the docs are curl commands"
)


@needs_curl
@pytest.mark.parametrize("page", [page for page in PAGES if "```console example" in page.read_text()], ids=name_of)
async def test_examples_give_the_output_of_the_page(page: Path, tmp_path: Path) -> None:
    async with server_process(tmp_path, "--port", "0", "--log", "memory:", "--quiet", is_forked=True) as server:
        address = server.address
        empty = await ask(address, "GET", "/rooms/epoch")
        epoch = empty.json["cursor"].removesuffix("-0")
        for kind, told in fences(page):
            text = told.replace("k3f9", epoch).replace("127.0.0.1:8000", f"{address.host}:{address.port}")
            if kind == "console example":
                for command, output in commands(text):
                    check_output(output, await run_curl(command, len(output.splitlines())))
            elif kind == "text exchange":
                await run_exchange(text, address)


@needs_curl
async def test_curl_commands_of_the_pages_are_answered(tmp_path: Path) -> None:
    lines = [line for page in PAGES for _, text in fences(page, "sh") for line in text.splitlines()]
    typed = [line for line in lines if line.startswith("curl ")]
    assert typed
    async with server_process(tmp_path, "--port", "0", "--log", "memory:", "--quiet", is_forked=True) as server:
        address = server.address
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, address)
            for line in typed:
                answer = await run_curl(line.replace("127.0.0.1:8000", f"{address.host}:{address.port}"), 10, "-si")
                head, _, body = answer.partition("\n\n")
                assert re.match(r"HTTP/1\.1 20[01] ", head), f"{line}: {answer}"
                assert body, line
            nursery.cancel_scope.cancel()


# -- links and names --------------------------------------------------------------------------------------------------


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_have_a_target() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), (page, link)
            assert not anchor or anchor in anchors(target), (page, link)


ARCHITECTURE = DOCS / "architecture.md"
STATES = DOCS / "states.md"
#: The pages about the present version; the others record measurements and changes.
TOPICS = [page for page in PAGES if page.parent != DOCS / "measurements" and page.name != "CHANGELOG.md"]


@cache
def code(*folders: str) -> dict[Path, str]:
    """The modules in some folders."""
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return {file: file.read_text(encoding="utf-8") for file in files}


@cache
def sections() -> list[tuple[Path, str]]:
    """The parts of the architecture page, each with the folder that its heading names (or the root)."""
    parts = re.split(r"^#+ (.+)$", prose(ARCHITECTURE), flags=re.MULTILINE)
    found = []
    for head, body in zip(parts[1::2], parts[2::2], strict=True):
        folder = re.search(r"`([a-z/]+)/`", head)
        found.append((ROOT / folder[1] if folder else ROOT, f"{head}\n{body}"))
    return found


def test_files_that_the_architecture_names_exist() -> None:
    named = 0
    for folder, text in sections():
        for name in re.findall(r"`([\w./-]+(?:\.py|\.md|\.toml|/))`", text):
            named += 1
            assert (folder / name).exists() or (ROOT / name).exists(), f"{name} (in {folder})"
    assert named > 50


def test_types_that_the_architecture_names_exist() -> None:
    homes: defaultdict[str, str] = defaultdict(str)
    for text in code("chatserver").values():
        for name in re.findall(r"^class (\w+)|^(\w+)\b.* =", text, re.MULTILINE):
            homes["".join(name)] += text
    for name in set(re.findall(r"`([A-Z]\w*[a-z]\w*(?:\.\w+)?)`", prose(ARCHITECTURE) + prose(STATES))):
        owner, _, member = name.partition(".")
        assert re.search(rf"\b{member}\b", homes[owner]), name


#: Flags of podman that a page names.
OTHERS_FLAGS = {"--format", "--init", "--memory"}


NO_NEGATIVE = Parameter(negative="")


def flags_of(app: App) -> Iterator[str]:
    """The flags of a command line and of all its commands."""
    # no flag of ours has a --no- form
    for argument in app.assemble_argument_collection(default_parameter=NO_NEGATIVE) if app.default_command else []:
        yield from argument.names if argument.parse else ()
    for name in app:
        if name.startswith("-"):
            yield name
        else:
            yield from flags_of(app[name])


@cache
def flags() -> set[str]:
    """All flags of our programs."""
    programs = [ROOT / "tests" / name / "__main__.py" for name in ("bench", "fuzz", "million", "soak")]
    parsers = [program.read_text(encoding="utf-8") for program in programs]
    added = {flag for parser in parsers for flag in re.findall(r'add_argument\(\s*"(--[a-z-]+)"', parser)}
    return added | {*flags_of(chatserver_cli.app), *flags_of(loadgen_cli.app)}


def test_flags_and_metrics_that_the_pages_name_exist() -> None:
    everything = "\n".join(code("chatserver", "loadgen").values())
    for page in TOPICS:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"`(--[a-z][a-z-]+)", text))
        assert named <= flags() | OTHERS_FLAGS, (page, named - flags())
        for metric in set(re.findall(r"`(chatserver_[a-z_]+)", text)):
            assert f'"{metric.removesuffix("_total")}"' in everything, (page, metric)


def test_settings_metrics_and_figures_are_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in TOPICS)
    assert not [name for name in SPECS if not re.search(rf"--{flag_name(name)}(?![\w-])", text)]
    source = "\n".join(code("chatserver/observe").values())
    assert not [name for name in set(re.findall(r'"((?:chatserver|process)_[a-z_]+)"', source)) if name not in text]
    figures = (DOCS / "figures.md").read_text(encoding="utf-8")
    source = "\n".join(code("loadgen").values())
    assert not [name for name in re.findall(r'\bFigure\(\s*"([a-z0-9_]+)"', source) if f"| `{name}` |" not in figures]


_COMMAND = re.compile(r"^(?:\$ |.*\| )?(?:\.venv/bin/)?(chatserver|loadgen) ([a-z].*)$", re.MULTILINE)


def test_commands_of_the_pages_are_valid() -> None:
    """Flags in examples are checked as well as those in the text."""
    programs = {"chatserver": chatserver_cli.app, "loadgen": loadgen_cli.app}
    typed = [(page, text.replace("\\\n", " ").replace("$!", "1")) for page in TOPICS for _, text in fences(page)]
    commands = [(page, *command) for page, text in typed for command in _COMMAND.findall(text)]
    assert len(commands) > 30
    for page, program, rest in commands:
        words = shlex.split(re.split(r" [|>&]", rest)[0], comments=True)
        try:
            programs[program].parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            raise AssertionError(f"{page.name}: {program} {rest}: {error}") from None


def test_no_page_and_no_message_installs_the_server_by_its_name() -> None:
    """An index of packages may have another program of that name."""
    texts = code("chatserver") | {page: page.read_text(encoding="utf-8") for page in TOPICS}
    assert not [file for file, text in texts.items() if re.search(r"pip install '?chatserver", text)]


def test_the_index_lists_every_campaign() -> None:
    index = DOCS / "measurements" / "README.md"
    listed = re.findall(r"\]\((2026[^)]*)\) \|", index.read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.name for page in index.parent.glob("2*.md"))


def test_the_readme_counts_the_attacks() -> None:
    attacks = sum(not persona.honest for persona in registry().values())
    assert f"It plays {attacks} kinds" in prose(ROOT / "README.md")


def test_the_architecture_names_every_module() -> None:
    """A reader finds modules by this map."""
    for file in code("chatserver"):
        if file.name == "__init__.py":
            continue
        here = [text for folder, text in sections() if folder == file.parent]
        whole = file.relative_to(ROOT).as_posix()
        assert any(f"`{file.name}`" in text or f"`{whole}`" in text for text in here), whole
