"""`chatserver chat` as a process, with pipes and in scripts."""

import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.terminal.arguments import may_change
from chatserver.terminal.modes import LONGEST_LINE
from tests.client.fake import ZED, FakeServer
from tests.support.forking import Running, run
from tests.support.serving import eventually
from tests.terminal.commanded import NEEDS, SOON, chat, start, texts


async def test_send_publishes_each_line_in_order_whatever_is_lost(server: FakeServer) -> None:
    lines = [*(f"line {number}" for number in range(250)), "the last, without an end"]
    server.acks_to_lose = 2
    server.errors = [{"code": "rate_limited", "message": "slowly", "retry_after": 0.01}] * 2
    done = await chat(server, "\r\n  \n".join(lines).encode(), "--send")
    assert done.returncode == 0, done.stderr
    assert b"; reconnecting" in done.stderr
    assert (await chat(server, b"", "--send")).returncode == 0, "nothing is sent"
    assert texts(server) == lines
    assert server.joins == []


@pytest.mark.parametrize(
    ("faults", "typed", "flags", "said", "stored"),
    [
        ({"errors": [{"code": "too_large", "message": "too much"}]}, b"\na\nb\n", ("--send",),
         b"line 2 is not sent: too much\n", ["b"]),
        ({}, b"a\nf\xfcnf\nb\n", ("--send",), b"line 2 is not sent: this text is not valid UTF-8\n", ["a", "b"]),
        ({}, b"x" * (LONGEST_LINE + 1), ("--send",), b"line 1 is longer than 1,048,576 B\n", []),
        ({"errors": [{"code": "forbidden", "message": "members only"}]}, b"", ("--plain",), b"members only\n", []),
        ({"refusals": [403], "refuses_after": trio.Event()}, b"a\n", ("--send",),
         b"chatserver: nothing is sent\nchatserver: the server answered 403: no\\x1bc\n", []),
        ({"refusals": [503] * 99}, b"a\nb\n", ("--send", "--retry-for", "0.3"),
         b"no answer within 0.3 s\n", []),
    ],
    ids=("a refused line", "a line in Latin-1", "an endless line", "a refused room", "a refused client", "no answer"),
)  # fmt: skip
async def test_a_failure_is_one_line_and_exit_code_1(
    server: FakeServer, faults: dict[str, Any], typed: bytes, flags: tuple[str, ...], said: bytes, stored: list[str]
) -> None:
    for name, fault in faults.items():
        setattr(server, name, fault)
    done = await chat(server, typed, *flags)
    assert (done.returncode, done.stderr.count(said)) == (1, 1)
    assert texts(server) == stored


@pytest.mark.parametrize(
    ("end", "typed", "code", "left"),
    [
        ("signal", b"", 128 + signal.SIGINT, None),
        ("signal", b"three\nfour\n", 128 + signal.SIGINT, b"line 3 may be lost, and what follows is not sent"),
        ("token", b"", 1, None),
        ("token", b"three\nfour\n", 1, b"line 3 may be lost, and what follows is not sent"),
        ("reader", b"three\nfour\n", 1, b"line 4 and what follows are not sent"),
        ("reader", b"three\n", 1, None),
    ],
)
async def test_an_early_end_of_send_says_at_which_line_if_any_is_left(
    server: FakeServer, end: str, typed: bytes, code: int, left: bytes | None
) -> None:
    """With a reader that leaves, as in `… | head -1`, it said that all is well, later that unsent lines may be lost."""
    async with plain(server, "--send", "--json") as it:
        await it.stdin.send_all(b"one\n\n")
        await it.lines(1)
        server.deaf = end != "reader"
        if end == "reader":
            await it.stdout.aclose()
        await it.stdin.send_all(typed)
        if typed and end != "reader":
            await eventually(lambda: server.unheard > 0)
        if end == "signal":
            it.process.send_signal(signal.SIGINT)
        elif end == "token":
            await server.close_all(4503, "the token has run out")
        said = b"".join([chunk async for chunk in it.stderr])
    assert it.process.returncode == code
    assert re.findall(rb"(line \d .*)\n", said) == ([left] if left else []), said


async def test_send_waits_for_lines_of_a_pipe_that_does_not_block(server: FakeServer) -> None:
    """Other programs that had it open may have made it so. It ended as if all lines were sent."""
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    with trio.fail_after(SOON), os.fdopen(ours, "wb") as lines:
        process = await run("chatserver.cli", "chat", server.url, "--send", stdin=theirs, needs=NEEDS)
        os.close(theirs)
        await eventually(lambda: bool(server.connections), within=SOON)
        lines.write(b"late\n")
        lines.close()
        assert await process.wait() == 0
    assert texts(server) == ["late"]


async def test_send_does_not_take_unreadable_input_for_its_end(server: FakeServer) -> None:
    with trio.fail_after(SOON), Path(os.devnull).open("wb") as unreadable:  # noqa: ASYNC230  (as nohup does)
        process = await run("chatserver.cli", "chat", server.url, "--send", stdin=unreadable.fileno(), needs=NEEDS)
        assert process.stderr is not None
        said = b"".join([chunk async for chunk in process.stderr])
        assert await process.wait() == 1
        last = said.splitlines()[-1]  # it may have connected before it read
        assert last == b"chatserver: standard input: Bad file descriptor"


async def test_the_next_start_is_the_same_user_or_says_why_not(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert b"only" not in (await chat(server, b"hi\n", "--send")).stderr
    assert server.cookies == [None, "guest=g1"]
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)
    words = b"you are Me only until you leave: /dev/null/chatserver: Not a directory\n"
    assert words in (await chat(server, b"hi\n", "--send")).stderr


async def test_a_new_token_in_its_file_is_used(server: FakeServer, tmp_path: Path) -> None:
    """The client ended with the token that it had found at its start, or with the first one of a long outage."""
    file = tmp_path / "token"
    file.write_text("first\n")
    async with plain(server, "--token", f"@{file}") as it:
        file.write_text("second\n")
        await eventually(lambda: "second" in server.tokens, within=SOON)
        server.deaf = True
        file.write_text("third\n")
        await eventually(lambda: server.unheard > 0, within=SOON)
        file.write_text("fourth\n")
        server.deaf = False
        await eventually(lambda: server.tokens[-1] == "fourth", within=SOON)
        it.process.terminate()


def test_a_token_is_read_again_from_a_file_and_not_from_a_pipe(tmp_path: Path) -> None:
    """The client stopped at the second reading, and no signal but SIGKILL ended it."""
    file, pipe = tmp_path / "token", tmp_path / "pipe"
    file.write_text("first")
    os.mkfifo(pipe)
    assert [may_change(f"@{path}") for path in (file, pipe, tmp_path / "gone")] == [True, False, False]
    assert not may_change(str(file))


@dataclass
class Piped:
    """`chatserver chat` with its pipes."""

    process: Running
    stdin: trio.lowlevel.FdStream
    stdout: trio.lowlevel.FdStream
    stderr: trio.lowlevel.FdStream

    async def lines(self, count: int) -> list[str]:
        text = b""
        while text.count(b"\n") < count:
            text += await self.stdout.receive_some()
        return text.decode().splitlines()


@asynccontextmanager
async def plain(server: FakeServer, *flags: str, place: str = "") -> AsyncIterator[Piped]:
    """`chatserver chat --plain` in its room, until it ends by itself."""
    process = await start(server, *(flags or ("--plain",)), place=place)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdin, process.stdout, process.stderr:
        try:
            await eventually(lambda: bool(server.connections if "--send" in flags else server.members), within=SOON)
            with trio.fail_after(SOON):
                yield Piped(process, process.stdin, process.stdout, process.stderr)
                await process.wait()
        finally:
            process.kill()


async def test_plain_prints_one_line_a_message_and_publishes_lines(server: FakeServer) -> None:
    await server.say("before\x1b[2J")
    async with plain(server) as it:
        await it.stdin.send_all(b"/hello\n")  # of a program, which knows no commands
        await eventually(lambda: len(server.log) == 2)
        await server.say("two\nlines")
        got = await it.lines(3)
        it.process.terminate()  # while it waits for another line
    assert got == [
        r"2026-11-20T12:00:00.123Z Zed: before\x1b[2J",
        "2026-11-20T12:00:00.123Z Me: /hello",
        r"2026-11-20T12:00:00.123Z Zed: two\nlines",
    ]
    assert it.process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("place", "flags", "room"),
    [("/#%6fps/42", (), "ops"), ("/#ops", ("--plain", "--room", "den"), "den"), ("/#", (), "lobby")],
)
async def test_the_url_may_name_the_room_as_the_page_does(
    server: FakeServer, place: str, flags: tuple[str, ...], room: str
) -> None:
    async with plain(server, *flags, place=place) as it:
        it.process.terminate()
    assert [join["room"] for join in server.joins] == [room]


async def test_json_is_an_object_a_line_of_everything(server: FakeServer) -> None:
    async with plain(server, "--json") as it:
        await it.stdin.send_all(b"hello\n")
        await eventually(lambda: bool(server.log))
        await server.say("bye")
        got = [json.loads(line) for line in await it.lines(4)]
        it.process.terminate()
    assert [event["type"] for event in got] == ["hello", "entered", "message", "message"]
    assert {name: got[-1][name] for name in ("room", "offset", "text", "user")} == {
        "room": "lobby", "offset": 2, "text": "bye", "user": ZED,
    }  # fmt: skip
    sent = await chat(server, b"a\nb\n", "--send", "--json")
    assert sent.stderr == b"", "a job of cron is silent while all is well"
    assert [json.loads(line)["offset"] for line in sent.stdout.splitlines()] == [3, 4]


async def test_while_the_reader_pauses_pings_are_answered_and_a_signal_ends_the_client(server: FakeServer) -> None:
    """It was lost to the room after a ping without an answer, and Ctrl-C did nothing."""
    async with plain(server, "--json") as it:
        for number in range(4):
            await server.say(f"{number} " + "x" * 64 * 1024)  # each of them fills a pipe
        (connection,) = server.connections
        await it.lines(1)
        await connection.ping()
        it.process.send_signal(signal.SIGINT)
        assert await it.process.wait() == 128 + signal.SIGINT


async def test_plain_ends_when_its_reader_leaves(server: FakeServer) -> None:
    async with plain(server) as it:
        await it.stdin.aclose()  # after the end of input, output goes on
        await it.stdout.aclose()
        await server.say("anybody?")
        said = b"".join([chunk async for chunk in it.stderr])
    assert said == b"chatserver: connected as Me\nchatserver: in lobby, 1 here\n"
    assert it.process.returncode == 0


async def test_output_to_a_full_disk_is_an_error_of_one_line(server: FakeServer) -> None:
    with trio.fail_after(SOON), Path("/dev/full").open("wb") as full:  # noqa: ASYNC230
        process = await run(
            "chatserver.cli", "chat", server.url, "--json", stdout=full.fileno(), needs=NEEDS
        )  # fmt: skip
        assert process.stderr is not None
        said = b"".join([chunk async for chunk in process.stderr])
        assert (await process.wait(), said) == (1, b"chatserver: standard output: No space left on device\n")
