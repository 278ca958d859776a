"""Flags, backup, alerts, dashboard, log lines and image in the operators' docs work."""

import ast
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import requires
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import pytest
import trio
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chatserver.log.interface import LogOpenError, system_ms
from chatserver.log.signouts import SignOut
from chatserver.log.sqlite import SqliteLog
from chatserver.observe.numbers import Family, Totals
from chatserver.reasons import Reason
from chatserver.settings.fields import SPECS, Settings
from chatserver.settings.sources import load_settings
from chatserver.workers.child import END_PATIENCE
from tests.log.support import Clock, draft, running
from tests.support.certificates import certificate
from tests.support.groups import append
from tests.support.peers import ask, publish
from tests.support.serving import serving, until
from tests.test_docs import DOCS, ROOT, fences

OPERATIONS = DOCS / "operations.md"
NODES = DOCS / "nodes.md"
MONITORING = DOCS / "monitoring.md"
CONTAINERFILE = ROOT / "Containerfile"
EVERYTHING = "".join(page.read_text(encoding="utf-8") for page in (OPERATIONS, NODES, MONITORING, CONTAINERFILE))

_METRIC = re.compile(r"\b(?:chatserver|process)_[a-z_]+\b")
_LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error"}


def texts(kind: str = "") -> list[str]:
    """The fences of both pages, of all kinds or of one."""
    return [text for page in (OPERATIONS, NODES) for _, text in fences(page, kind)]


def fence(kind: str) -> str:
    [text] = texts(kind)
    return text


def image(instruction: str) -> list[str]:
    """The arguments of an instruction of the Containerfile, once for each occurrence."""
    text = CONTAINERFILE.read_text(encoding="utf-8").replace("\\\n", "")
    return re.findall(rf"^{instruction} +(.*)$", text, re.MULTILINE)


def test_flags_settings_and_variables_exist(tmp_path: Path) -> None:
    file = tmp_path / "chatserver.toml"
    file.write_text(fence("toml"))
    assert load_settings({}, {}, file).allow_host == ("chat.example.org",)
    commands = [line for text in texts() for line in text.splitlines() if "chatserver serve" in line]
    flags = {flag.replace("-", "_") for line in commands for flag in re.findall(r"--([a-z-]+)", line)}
    assert flags - {"config"} <= set(SPECS)
    variables = re.findall(r"CHATSERVER_([A-Z_]+)", EVERYTHING)
    assert variables
    assert {name.lower() for name in variables} <= set(SPECS)


# -- backup and restore -----------------------------------------------------------------------------------------------


def statement(kind: str) -> str:
    """The SQL that a fence gives to `sqlite3`."""
    [found] = re.findall(r'^sqlite3 \S+ "(.+)"$', fence(kind), re.MULTILINE)
    return str(found)


def run(database: Path, sql: str) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(sql)
    connection.close()


async def test_a_restored_backup_has_a_new_epoch(tmp_path: Path) -> None:
    """A cursor from before the restore is of another epoch; guests are the same users, and search works."""
    database, backup = tmp_path / "chat.db", tmp_path / "backup.db"
    async with serving(log=f"sqlite:{database}") as server:
        before = await publish(server.address, "lobby", "kept")
        run(database, statement("sh backup").replace("/var/backups/chat-$(date +%F).db", str(backup)))
        lost = await publish(server.address, "lobby", "lost")
    database.write_bytes(backup.read_bytes())
    run(database, statement("sh restore"))
    async with serving(log=f"sqlite:{database}") as server:
        after = await publish(server.address, "lobby", "instead")
        assert after["offset"] == lost["offset"]
        assert after["cursor"] != lost["cursor"]
        assert after["user"] == before["user"]
        page = (await ask(server.address, "GET", f"/rooms/lobby/messages?after={lost['cursor']}")).json
        assert page["recovered"] is False
        assert [each["text"] for each in page["messages"]] == ["kept", "instead"]
        page = (await ask(server.address, "GET", f"/rooms/lobby/messages?after={after['cursor']}")).json
        assert page["recovered"] is True


async def test_times_from_a_clock_that_was_ahead_can_be_set_right(tmp_path: Path) -> None:
    """Later messages had the wrong time for as long as the clock had been ahead, and users could not sign in again."""
    database, clock = str(tmp_path / "chat.db"), Clock()
    clock.ms = system_ms() + 365 * 86_400_000
    async with running(SqliteLog(database, wall_ms=clock)) as log:
        for room in ("lobby", "emptied"):
            await append(log, draft(room=room))
        clock.ms += 10
        assert await log.retain(lambda room: (0, 1 if room == "emptied" else 0)) == {"emptied": 2}
        await log.signouts.add(SignOut(1, False, clock.ms, clock.ms + 10))
    [script] = re.findall(r'"(.+)"', fence("sh clock"), re.DOTALL)
    connection = sqlite3.connect(database)
    connection.executescript(script)
    connection.close()
    async with running(SqliteLog(database)) as log:
        for room in ("lobby", "emptied"):
            assert (await append(log, draft("now", room=room))).record.time <= system_ms()
        [found], _ = await log.signouts.load(system_ms())
        assert found.time <= system_ms()


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 on this machine")
async def test_a_damaged_file_is_saved_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    """A server refused what was saved: as the database of another program, or for the damage of its search index."""
    database, saved = tmp_path / "chat.db", tmp_path / "saved.db"
    async with serving(log=f"sqlite:{database}") as server:
        for number in range(9):
            made = await publish(server.address, "lobby", f"number{number} {'x' * 2_000}")
    connection = sqlite3.connect(database)
    [[index]] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'search_data'")
    connection.close()
    content = bytearray(database.read_bytes())
    for at in (content.index(b"number4") // 4096 * 4096, (index - 1) * 4096):
        content[at : at + 4096] = bytes(range(256)) * 16
    database.write_bytes(content)
    with pytest.raises(LogOpenError, match="damaged"):
        await SqliteLog(str(database)).run(lambda records: None)
    await trio.run_process(["/bin/sh", "-c", fence("sh salvage")], cwd=tmp_path)
    async with serving(log=f"sqlite:{saved}") as server:
        page = (await ask(server.address, "GET", "/rooms/lobby/messages")).json
        kept = [each["offset"] for each in page["messages"]]
        assert kept[0] == 1
        assert 5 not in kept
        assert kept[-1] == 9
        assert page["cursor"].endswith("-9"), "or the next page would have some of these again"
        after = await publish(server.address, "lobby", "new")
        assert after["offset"] == 10
        assert after["cursor"] != f"{made['cursor'].partition('-')[0]}-10"
        search = "/search?q=number8"
        found = await until(lambda: ask(server.address, "GET", search), lambda answer: answer.json["results"])
        assert [each["offset"] for each in found.json["results"]] == [9]


# -- metrics ----------------------------------------------------------------------------------------------------------


DASHBOARD = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))


def expressions() -> Iterator[str]:
    """The expressions of the dashboard and of the alerts."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    yield from re.findall(r"expr: (.+)$", fence("yaml alerts"), re.MULTILINE)


async def test_metrics_of_dashboard_and_alerts_exist(tmp_path: Path) -> None:
    asked = list(expressions())
    assert len(asked) > 30
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key) as server:
        told = (await ask(server.address, "GET", "/metrics")).body.decode()
    names = set(re.findall(r"^(\w+)", told, re.MULTILINE))
    names |= {"chatserver_worker_deaths_total", "chatserver_shard_up"}  # with --workers, and with --shared
    labels = set(re.findall(r'[{,](\w+)="', told)) | {"instance"}
    for each in asked:
        assert set(_METRIC.findall(each)) <= names, each
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", each):
            assert set(group.split(", ")) <= labels, each


def test_prometheus_asks_where_the_server_answers() -> None:
    toml, scrape = fence("toml"), fence("yaml scrape")
    [address] = re.findall(r'^metrics_listen = (".+")$', toml, re.MULTILINE)
    assert f"targets: [{address}]" in scrape
    [name] = re.findall(r"server_name: ([a-z.]+)", scrape)
    assert f'allow_host = ["{name}"]' in toml
    [job] = re.findall(r"job_name: (\w+)", scrape)
    assert set(re.findall(r'job="(\w+)"', fence("yaml alerts"))) == {job}


def test_panels_in_operations_a_second_show_rates_only() -> None:
    a_second = [panel for panel in DASHBOARD["panels"] if panel["fieldConfig"]["defaults"]["unit"] == "ops"]
    assert len(a_second) > 3
    shown = [target["expr"] for panel in a_second for target in panel["targets"]]
    assert [each for each in shown if " (rate(" not in each and "sum(rate(" not in each] == []


def test_the_dashboard_adds_up_only_what_nodes_do_not_share() -> None:
    """Two nodes on one database report the same mutes and bans, and the panel showed twice as many."""
    added = {name for each in expressions() for name in re.findall(r"\bsum\((?:chatserver|process)_\w+", each)}
    names = {name.removeprefix("sum(") for name in added}
    assert len(names) > 5
    nodes = [[Family(name, "", "gauge", [(name, {}, 1.0)]) for name in sorted(names)]] * 2
    totals = Totals().text(nodes).decode()
    assert {name for name in names if f"\n{name} 2.0\n" not in totals} == set()


def test_reasons_that_the_page_names_exist() -> None:
    [line] = re.findall(r"how many were (.+?),? and the log line", OPERATIONS.read_text().replace("\n", " "))
    assert set(re.findall(r"`([a-z-]+)`", line)) <= {reason.label for reason in Reason}


# -- log lines --------------------------------------------------------------------------------------------------------


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.expr, set[str]]]:
    """Level, event and fields of each line that a module writes, by itself or through a limiter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for level, arguments in ((node.func, node.args), (next(iter(node.args), None), node.args[1:])):
                if isinstance(level, ast.Attribute) and ast.unparse(level.value) == "_log" and arguments:
                    yield level.attr, arguments[0], {each.arg for each in node.keywords if each.arg is not None}


def test_the_page_lists_every_line_of_the_log() -> None:
    levels: defaultdict[str, set[str]] = defaultdict(set)
    fields: defaultdict[str, set[str]] = defaultdict(set)
    computed = 0
    for file in sorted((ROOT / "chatserver").rglob("*.py")):
        if "client" in file.parts:
            continue
        for level, event, names in calls(ast.parse(file.read_text(encoding="utf-8"))):
            if level == "debug":  # never written
                continue
            computed += not isinstance(event, ast.Constant)
            # An action of a moderator is named by the audit trail; a fault, by its place.
            constants = {"event": ("fault", "fault_in_close"), "entry.action": ()}
            found = (event.value,) if isinstance(event, ast.Constant) else constants[ast.unparse(event)]
            for each in found:
                levels[str(each)].add(_LEVELS[level])
                fields[str(each)] |= names
    assert computed == 2
    table = re.search(r"<!-- events -->\n(.*?)<!-- end of events -->", EVERYTHING, re.DOTALL)
    assert table is not None
    told = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \| (.*?) \| \S.* \|$", table[1], re.MULTILINE)
    assert {event: set(level.split(", ")) for event, level, _ in told} == levels
    assert {event: set(re.findall(r"\w+", names)) for event, _, names in told} == fields


# -- many nodes -------------------------------------------------------------------------------------------------------

_YAML_LINE = re.compile(r"(?:- )?\{.*\}|(?:- )?(?:[\w.-]+|<<):(?: .+)?")


def test_the_yaml_has_the_layout_of_yaml() -> None:
    """The YAML is not parsed, since the tests have no parser."""
    for kind in ("yaml compose", "yaml kubernetes"):
        lines = [line for line in fence(kind).splitlines() if line != "---"]
        assert len(lines) > 20
        for line, following in pairwise(lines):
            text = line.lstrip(" ")
            assert _YAML_LINE.fullmatch(text), line
            assert all(text.count(one) == text.count(other) for one, other in ("[]", "{}")), line
            assert text.count('"') % 2 == 0, line
            deeper = len(following) - len(following.lstrip(" ")) - (len(line) - len(text))
            if deeper > 0:
                assert deeper == 2, following
                assert re.search(r"(^- .*|:|: &\w+)$", text), f"nothing can be in {line}"


def number(name: str, text: str) -> int:
    [found] = re.findall(rf"{name}\W+(\d+)", text)
    return int(found)


def test_a_pod_has_time_to_drain() -> None:
    text = fence("yaml kubernetes")
    waits = number("sleep", text) + number("--drain-timeout", text)
    assert number("terminationGracePeriodSeconds", text) >= waits + END_PATIENCE
    assert number("stop_grace_period", fence("yaml compose")) >= Settings().drain_timeout + END_PATIENCE


async def test_the_probes_are_answered() -> None:
    probes = re.findall(r"path: (/\w+), port: (\w+)", fence("yaml kubernetes"))
    assert probes == [("/readyz", "http"), ("/healthz", "metrics"), ("/healthz", "metrics")]
    async with serving(host=("0.0.0.0",), metrics_listen="0.0.0.0:0", allow_host=("chat.example.org",)) as server:
        ports = {"http": server.address, "metrics": server.metrics_address}
        for path, port in probes:  # with the pod's address as Host
            answer = await ask(ports[port], "GET", path, headers={"Host": "10.1.2.3:8000"})
            assert answer.status == 200, path


# -- the image --------------------------------------------------------------------------------------------------------


def test_compose_requires_each_password() -> None:
    """A node made again in a shell without DB_PASSWORD would have an empty one."""
    variables = re.findall(r"\$\{([^}]*)\}", fence("yaml compose"))
    assert variables
    assert all(re.fullmatch(r"[A-Z_]+:\?.+", each) for each in variables)


def test_every_service_of_compose_starts_again_after_a_reboot() -> None:
    """Docker started both nodes again, and no database."""
    text = fence("yaml compose")  # with anchors: three descriptions for five services
    assert text.count("restart: unless-stopped") == len(re.findall("(?:build|image): ", text)) == 3


def test_the_page_makes_the_secret_that_pods_read() -> None:
    [made] = [line for text in texts("sh") for line in text.splitlines() if "create secret" in line]
    literals = set(re.findall(r"--from-literal=(\w+)=", made))
    references = re.findall(r"secretKeyRef: \{name: (\w+), key: (\w+)\}", fence("yaml kubernetes"))
    assert set(references) == {("chat", key) for key in literals}
    assert "secret generic chat " in made


def test_a_pod_may_write_where_workers_put_their_sockets() -> None:
    text = fence("yaml kubernetes")
    assert "readOnlyRootFilesystem: true" in text
    mounted = dict(re.findall(r"\{name: (\w+), mountPath: (\S+)\}", text))
    assert mounted == {"tmp": "/tmp"}
    assert re.findall(r"\{name: (\w+), emptyDir: \{\}\}", text) == list(mounted)


def test_everything_in_the_image_has_one_version() -> None:
    """All direct and indirect dependencies of the server are in constraints.txt."""
    pinned = set(re.findall(r"^(\S+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    pinned = {canonicalize_name(each) for each in pinned}
    [extras] = re.findall(r"'\.\[(.+)\]'", " ".join(image("RUN")))
    waiting = [Requirement(f"chatserver[{extras}]")]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        for text in requires(wanted.name) or ():
            needed = Requirement(text)
            applies = needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *wanted.extras))
            if applies and str(needed) not in seen:
                seen.add(str(needed))
                waiting.append(needed)
                assert canonicalize_name(needed.name) in pinned, f"{wanted.name} needs {needed.name}"
    assert len(seen) > 30


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_the_source_tree_may_be_in_a_folder_with_a_space(tmp_path: Path) -> None:
    """pip, too, takes the constraints for several files where there is a space between them."""
    tree = tmp_path / "the chat"
    pip = tree / ".venv" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.write_text("#!/bin/sh\nexec cat $PIP_CONSTRAINT\n")
    pip.chmod(0o755)
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    made = subprocess.run(["make", "install"], cwd=tree, check=True, capture_output=True, text=True)
    assert (ROOT / "constraints.txt").read_text(encoding="utf-8") in made.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_an_environment_without_pip_is_made_anew(tmp_path: Path) -> None:
    """After an upgrade of Python, or the installation of python3-venv, each `make run` ended in an error."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    environment, system = tmp_path / ".venv" / "bin" / "python", tmp_path / "python3"
    environment.write_text("#!/bin/sh\nexit 1\n")
    made = 'mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "$*"'
    system.write_text(f'#!/bin/sh\ncase "$*" in "-m venv"*) {made};; esac\n')
    for each in (environment, system):
        each.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    command = ["make", "install", f"PYTHON={system}"]
    for times in (1, 0):
        said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert said.count("-m venv --clear .venv\n") == times


def test_the_image_is_made_of_existing_files() -> None:
    sources = [word for line in image("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "chatserver", "loadgen"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
    [user] = image("USER")
    assert int(user) > 0
    assert image("ENTRYPOINT") == ['["chatserver", "serve"]']
    [account] = [line for line in image("RUN") if "useradd" in line]
    assert f"--uid {user} --user-group" in account
    assert "--system" not in account, "the group would have another number, from the range of the base image"


def test_podman_keeps_the_health_check() -> None:
    """An image in podman's default format, OCI, has none: podman warns and drops it."""
    commands = re.findall(r"podman build[^\n]*", EVERYTHING)
    assert len(commands) == 2
    assert all("--format docker" in each for each in commands)


@pytest.mark.parametrize("tls", [False, True], ids=["the image's", "the page's, with TLS"])
async def test_the_health_check_fails_only_without_an_answer(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is quiet while the server answers, and an error otherwise.

    With TLS the certificate is for the public name, and the check connects by address. Podman gives the host's proxy to
    containers: the check asked that for 127.0.0.1, and a healthy server was unhealthy for ever.
    """
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    if tls:
        [*_, option] = shlex.split(fence("sh health"))
        code = shlex.split(option)[-1]
        cert, key = certificate(tmp_path, names=("chat.example.org",))
    else:
        [line] = image("HEALTHCHECK")
        code = json.loads(line[line.index("[") :])[-1]
        cert = key = ""
    async with serving(host=("0.0.0.0",), tls_cert=cert, tls_key=key) as server:
        here = code.replace("127.0.0.1:8000/healthz", f"127.0.0.1:{server.address.port}/healthz")
        assert here != code
        program = compile(here, "HEALTHCHECK", "exec")
        await trio.to_thread.run_sync(exec, program)
    with pytest.raises(URLError):
        await trio.to_thread.run_sync(exec, program)
