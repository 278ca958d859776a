"""`chatserver chat` as a process: what a pipe, a script and a person at a terminal get."""

import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.client.terminal import LONGEST_LINE
from tests.client.fake import ZED, FakeServer
from tests.support.forking import Running, run
from tests.support.serving import eventually

SOON = 60.0  # s; never reached unless something is broken
#: What the command imports when it runs.
NEEDS = ("chatserver.client.terminal",)


@pytest.fixture(autouse=True)
def _nobody_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    async with server.running():
        yield server


async def start(server: FakeServer, *flags: str, place: str = "") -> Running:
    return await run("chatserver.cli", "chat", server.url + place, *flags, stdin=subprocess.PIPE, needs=NEEDS)


async def chat(server: FakeServer, typed: bytes, *flags: str) -> subprocess.CompletedProcess[bytes]:
    """What it says and how it ends when so much was typed, and no more."""
    said = {"stdout": b"", "stderr": b""}

    async def read(name: str, stream: trio.lowlevel.FdStream) -> None:
        async for chunk in stream:
            said[name] += chunk

    with trio.fail_after(SOON):
        process = await start(server, *flags)
        assert process.stdin is not None
        async with trio.open_nursery() as nursery:
            for name in said:
                nursery.start_soon(read, name, getattr(process, name))
            with suppress(trio.BrokenResourceError):  # it has ended before it had read everything
                await process.stdin.send_all(typed)
            await process.stdin.aclose()
        return subprocess.CompletedProcess((), await process.wait(), **said)


async def wait_until(condition: Callable[[], object]) -> None:
    with trio.fail_after(SOON):
        while not condition():  # noqa: ASYNC110  another process makes it true
            await trio.sleep(0.01)


def texts(server: FakeServer) -> list[str]:
    return [message["text"] for message in server.log]


async def test_send_publishes_each_line_in_order_whatever_is_lost(server: FakeServer) -> None:
    lines = [*(f"line {number}" for number in range(250)), "the last, without an end"]
    server.acks_to_lose = 2
    server.errors = [{"code": "rate_limited", "message": "slowly", "retry_after": 0.01}] * 2
    done = await chat(server, "\r\n  \n".join(lines).encode(), "--send")
    assert done.returncode == 0, done.stderr
    assert b"reconnecting in" in done.stderr
    assert texts(server) == lines
    assert server.joins == []


async def test_send_of_nothing_is_done(server: FakeServer) -> None:
    assert (await chat(server, b"", "--send")).returncode == 0


async def test_send_says_which_line_was_refused_and_goes_on(server: FakeServer) -> None:
    server.errors = [{"code": "too_large", "message": "too much"}]
    done = await chat(server, b"\na\nb\n", "--send")
    assert done.returncode == 1
    assert b"line 2 is not sent: too much (too_large)" in done.stderr
    assert texts(server) == ["b"]


async def test_a_line_without_an_end_is_not_kept_for_ever(server: FakeServer) -> None:
    done = await chat(server, b"x" * (LONGEST_LINE + 1), "--send")
    assert done.returncode == 1
    assert b"line 1 is longer than 1,048,576 B" in done.stderr


async def test_the_next_start_is_the_same_person_or_says_why_not(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert b"only" not in (await chat(server, b"hi\n", "--send")).stderr
    assert server.cookies == [None, "guest=g1"]
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)
    assert b"you are Me only until you leave: " in (await chat(server, b"hi\n", "--send")).stderr


async def test_a_room_that_refuses_us_is_the_end_and_said_once(server: FakeServer) -> None:
    server.errors = [{"code": "forbidden", "message": "members only"}]
    done = await chat(server, b"", "--plain")
    assert done.returncode == 1
    assert done.stderr.count(b"members only") == 1


async def test_send_gives_up_when_nobody_answers() -> None:
    server = FakeServer()
    async with server.running():
        pass  # takes a port, and leaves it
    done = await chat(server, b"a\nb\n", "--retry-for", "0.3", "--send")
    assert done.returncode == 1
    assert b"no acknowledgement for 0.3 s: line 1 and what follows may be lost" in done.stderr


async def test_send_to_a_server_that_does_not_want_us(server: FakeServer) -> None:
    server.refusals = [403]
    done = await chat(server, b"a\n", "--send")
    assert done.returncode == 1
    assert done.stderr == b"chatserver: the server answered 403: not now\n"


@asynccontextmanager
async def plain(server: FakeServer, *flags: str, place: str = "") -> AsyncIterator[Running]:
    """`chatserver chat --plain` in its room, until it ends by itself."""
    process = await start(server, *(flags or ("--plain",)), place=place)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdin, process.stdout, process.stderr:
        try:
            await wait_until(lambda: server.members)
            with trio.fail_after(SOON):
                yield process
                await process.wait()
        finally:
            process.kill()


async def test_plain_prints_one_line_a_message_and_publishes_lines(server: FakeServer) -> None:
    await server.say("before\x1b[2J")
    got = b""
    async with plain(server) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send_all(b"hello\n")
        await wait_until(lambda: len(server.log) == 2)
        await server.say("two\nlines")
        while got.count(b"\n") < 3:
            got += await process.stdout.receive_some()
        process.send_signal(signal.SIGTERM)  # while it waits for another line
    assert got.decode().splitlines() == [
        r"2026-11-20T12:00:00.123Z Zed: before\x1b[2J",
        "2026-11-20T12:00:00.123Z Me: hello",
        r"2026-11-20T12:00:00.123Z Zed: two\nlines",
    ]
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("place", "flags", "room"),
    [("/#ops/42", (), "ops"), ("/#ops", ("--plain", "--room", "den"), "den"), ("/#", (), "lobby")],
)
async def test_the_url_may_name_the_room_as_the_page_does(
    server: FakeServer, place: str, flags: tuple[str, ...], room: str
) -> None:
    async with plain(server, *flags, place=place) as process:
        process.terminate()
    assert [join["room"] for join in server.joins] == [room]


async def test_json_is_an_object_a_line_of_everything(server: FakeServer) -> None:
    got: list[dict[str, Any]] = []
    async with plain(server, "--json") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send_all(b"hello\n")
        await wait_until(lambda: server.log)
        await server.say("bye")
        text = b""
        while text.count(b"\n") < 4:
            text += await process.stdout.receive_some()
        got = [json.loads(line) for line in text.splitlines()]
        process.terminate()
    assert [event["type"] for event in got] == ["hello", "entered", "message", "message"]
    assert {name: got[-1][name] for name in ("room", "offset", "text", "user")} == {
        "room": "lobby", "offset": 2, "text": "bye", "user": ZED,
    }  # fmt: skip
    sent = await chat(server, b"a\nb\n", "--send", "--json")
    assert [json.loads(line)["offset"] for line in sent.stdout.splitlines()] == [3, 4]


async def test_plain_ends_when_its_reader_leaves(server: FakeServer) -> None:
    async with plain(server) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdin.aclose()  # the end of what we say is not the end of what we hear
        await process.stdout.aclose()
        await server.say("anybody?")
        said = b"".join([chunk async for chunk in process.stderr])
    assert said == b"chatserver: connected as Me\nchatserver: in lobby, 1 here\n"
    assert process.returncode == 0


class Terminal:
    """A pseudo-terminal with `chatserver chat` in it."""

    def __init__(self, process: Running, descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    async def until(self, text: str) -> str:
        """Wait for a text after the last one waited for; return what was shown between the two."""
        with trio.fail_after(SOON):
            while text not in self._shown:
                await trio.lowlevel.wait_readable(self._descriptor)
                self._shown += os.read(self._descriptor, 65_536).decode("utf-8", "replace")
        before, _, self._shown = self._shown.partition(text)
        return before

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)


@asynccontextmanager
async def terminal(server: FakeServer, *, code: int = 0) -> AsyncIterator[Terminal]:
    """A person in the room, until the command ends by itself with this exit code and the terminal as it was."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", "TZ": "UTC"}
    process = await run(
        "chatserver.cli", "chat", server.url, stdin=theirs, stdout=theirs, stderr=theirs, needs=NEEDS,
        environment=environment,
    )  # fmt: skip
    person = Terminal(process, ours)
    try:
        await person.until("in lobby, 1 here")
        assert not person.echoes()
        yield person
        with trio.fail_after(SOON):
            assert await process.wait() == code
        assert person.echoes()
    finally:
        process.kill()
        await process.wait()
        os.close(theirs)
        os.close(ours)


async def test_a_person_talks_and_leaves(server: FakeServer) -> None:
    async with terminal(server) as person:
        person.type("hello there\r")
        await person.until("12:00\x1b[0m")
        await person.until("hello there\r\n")
        person.type("half a line")
        await person.until("half a line")
        await server.say("an interruption")
        await person.until("an interruption\r\nlobby> half a line")  # the line typed so far is whole again
        person.type("\x1b[D")
        await person.until("half a line\x1b[1D")
        person.type("\x05\x15/bogus\r")
        await person.until("no such command")
        person.type("//slash\r")
        await person.until("/slash\r\n")
        person.type("/quit\r")
    assert texts(server) == ["hello there", "an interruption", "/slash"]


async def test_a_person_pastes_a_block_and_takes_a_line_back(server: FakeServer) -> None:
    async with terminal(server) as person:
        person.type("\x1b[200~two\rlines\x1b[201~")
        await person.until("two⏎lines")
        person.type("\r")
        await person.until("       lines\r\n")
        await person.until("\r\x1b[Jlobby> ")  # it is acknowledged, and nothing else is drawn but what we type
        person.type("never said")
        await person.until("never said")
        person.process.send_signal(signal.SIGINT)
        await person.until("\r\x1b[Jlobby> ")
        person.type("said\r\x04")
    assert texts(server) == ["two\nlines", "said"]


async def test_a_person_looks_around(server: FakeServer) -> None:
    async with terminal(server) as person:
        person.type("/help\r")
        await person.until("/react [#N] EMOJI")
        person.type("/who\r")
        await person.until("3 in lobby: Me, Zed and 1 more")
        person.type("/join ops\r")
        await person.until("in ops, 1 here")
        await person.until("ops> ")
        server.errors = [{"code": "bad_room", "message": "no such room"}]
        person.type("/join Nowhere!\r")
        await person.until("the server says: Nowhere!: no such room (bad_room)")
        person.type("/who\r")
        await person.until("3 in ops")
        person.type("/leave lobby\r")
        await person.until("left lobby")
        person.type("/leave\r")
        await person.until("left ops")
        for line in ("nobody hears this", "/who", "/delete #1", "/leave"):
            person.type(f"{line}\r")
            await person.until("you are in no room; /join ROOM")
        await eventually(lambda: len(server.asked) == 4)  # a room is left at once here, there when it is heard
        person.type("/quit\r")
    assert server.asked == [("members", "lobby"), ("members", "ops"), ("leave", "lobby"), ("leave", "ops")]


async def test_a_person_changes_what_was_said(server: FakeServer) -> None:
    async with terminal(server) as person:
        await server.say("first\x1b[2J words")
        await person.until("#1")
        person.type("/reply yes, @Z\t indeed\r")
        await person.until("↳ #1 Zed: first\\x1b[2J words")
        await person.until("yes, @Zed  indeed\r\n")
        person.type("/edit better\r/react :ta\t\r")  # one after the other, though both are typed at once
        await person.until("Me edited #2: better\x1b[0m\r\n")
        await person.until("Me put 🎉 on #2 (1)")
        person.type("/react #1 -+1\r")
        await person.until("Me took 👍 off #1 (1)")
        person.type("/me waves\r")
        await person.until("waves\r\n")
        person.type("/delete #1\r")
        await person.until("Me deleted #1")
        person.type("/reply #1 what was it?\r")
        await person.until("↳ #1 Zed: (deleted)")
        person.type("/edit\r")
        await person.until("/edit [#N] TEXT: change a message")
        person.type("/delete it\r")
        await person.until("'it' is too much here. /delete [#N]: ")
        person.type("/etc/passwd is a file\r")
        await person.until("/etc/passwd is a file\r\n")
        person.type("/search words\r")  # the fake has nothing but a WebSocket
        await person.until("there is nothing here (not_found)")
        person.type("/quit\r")
    reply, edit = server.log[1:3]
    assert (reply["reply_to"], reply["mentions"]) == (1, ["u_z"])
    assert (edit["type"], edit["target"]) == ("edit", 2)


async def test_who_comes_and_goes_is_one_line_until_something_is_said(server: FakeServer) -> None:
    ann, bob, cy, dee = ({"id": f"u_{name}", "name": name} for name in ("Ann", "Bob", "Cy", "Dee"))
    async with terminal(server) as person:
        await server.tell(type="presence", room="lobby", joined=[ann, bob], left=[], members=3)
        await person.until("Ann, Bob joined · 3 here")
        await server.tell(type="presence", room="lobby", joined=[cy, dee], left=[ann], members=4)
        assert "\x1b[1A" in await person.until("Bob, Cy, Dee joined · 4 here")
        await server.tell(type="presence", room="lobby", joined=[ann], left=[], members=5)
        assert "\x1b[1A" in await person.until("4 people joined · 5 here")
        await server.say("hello")
        await person.until("hello")
        await server.tell(type="presence", room="lobby", joined=[], left=[dee], members=4)
        assert "\x1b[1A" not in await person.until("Dee left · 4 here")
        person.type("\x04")


async def test_a_line_divides_what_came_while_nobody_looked(server: FakeServer) -> None:
    async with terminal(server) as person:
        await server.say("seen")
        assert "─── new" not in await person.until("seen")
        person.type("\x1b[Oa")
        await person.until("lobby> a")
        await server.say("@Me, are you there?")
        assert "─── new" in await person.until("are you there?")
        await server.say("hello?")
        assert "─── new" not in await person.until("hello?")
        await server.tell(type="typing", room="lobby", user=ZED)
        await person.until("lobby (Zed typing)> ")
        person.type("\x15\x04")


async def test_a_person_sees_that_the_connection_is_gone_and_back(server: FakeServer) -> None:
    async with terminal(server) as person:
        await server.close_all(1012, "restart")
        await person.until("1012 restart; reconnecting in")
        await person.until("back in lobby")
        server.refusals, server.retry_after = [503] * 50, "1"
        await server.close_all(1012, "restart")
        await person.until("1012 restart; reconnecting in")
        await person.until("lobby (offline)> ")
        await person.until("the server answered 503")
        person.type("/who\r")
        await person.until("there is no connection")
        await wait_until(lambda: len(server.refusals) < 49)
        server.refusals.clear()
        assert "503" not in await person.until("back in lobby"), "it is said once"
        person.type("\x04")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_terminal_is_restored_after_a_signal(server: FakeServer, number: int) -> None:
    async with terminal(server, code=128 + number) as person:
        person.process.send_signal(number)


async def test_the_terminal_is_restored_when_the_server_wants_us_gone(server: FakeServer) -> None:
    async with terminal(server, code=1) as person:
        await server.close_all(4500, "banned")
        await person.until("closed the connection for good: 4500 banned")


async def test_a_file_that_holds_no_token_is_named(server: FakeServer, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, why in ((tmp_path / "none", "No such file or directory"), (binary, "it is no text")):
        ended = await chat(server, b"", "--token", f"@{path}")
        assert ended.returncode == 2
        assert f"--token: cannot read {path}: {why}" in ended.stderr.decode()
