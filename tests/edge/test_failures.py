"""Errors that a peer can cause repeatedly: the first few in a second are log lines, the others are counted."""

from collections.abc import Callable
from typing import Any

import pytest

from chatserver.api.answers import Later, given_anyway
from chatserver.api.conversation import Conversation
from chatserver.exits import EXIT_LOG
from chatserver.log.interface import LogUnavailable
from chatserver.log.memory import MemoryLog
from chatserver.observe.logs import LINES_PER_SECOND
from chatserver.server import Server
from chatserver.settings.fields import Settings
from tests.support.peers import ask, chatter, connect
from tests.support.serving import Serving, serving

TIMES = 3 * LINES_PER_SECOND
WORDS = "the disk is full"


def failing(error: Exception) -> Callable[..., Any]:
    async def fail(*_: object) -> None:
        raise error

    return fail


async def in_one_second(server: Serving, ask_once: Callable[[int], Any], event: str) -> set[tuple[str, str]]:
    """Ask `TIMES` times; LINES_PER_SECOND lines must be logged. Returns their reasons and details."""
    server.server.parts.connections.lines.report = lambda: None  # type: ignore[method-assign]
    for number in range(TIMES):
        await ask_once(number)
    lines = [line for line in server.logs if line["event"] == event]
    assert len(lines) == LINES_PER_SECOND
    return {(line["reason"], line.get("detail", "")) for line in lines}


async def test_a_handler_that_waits_is_refused_an_invalid_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is checked before the request's fields are dropped for the wait."""
    async with serving() as server:
        handle = lambda request: Later(failing(KeyError())(), given_anyway)  # noqa: E731
        monkeypatch.setattr(server.server.parts.exchanges._routes, "handle", handle)
        async with connect(server.address) as peer:
            for _ in range(2):
                answer = await peer.request("GET", "/rooms", headers={"Authorization": "Bearer not.a.token"})
                assert (answer.status, answer.error) == (401, "unauthenticated")


async def test_a_server_that_cannot_read_its_bans_says_why_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason comes out of nested exception groups, not as `Exceptions from Trio nursery (1 sub-exception)`."""
    log = MemoryLog()
    monkeypatch.setattr(log.sanctions, "load", failing(LogUnavailable(WORDS)))
    monkeypatch.setattr("chatserver.server.open_log", lambda *_: log)
    assert await Server(Settings(port=0, log="memory:"), total=10).main() == EXIT_LOG
    assert capsys.readouterr().err == f"chatserver: --log memory:: sanctions and sign-outs cannot be read: {WORDS}\n"


@pytest.mark.parametrize("over", ["http", "websocket"])
async def test_a_log_that_cannot_read(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each failed request would be 4,000 lines a second on one core."""
    async with serving() as server, chatter(server.address) as friend:
        monkeypatch.setattr(server.server.parts.log, "head", failing(LogUnavailable(WORDS)))

        async def read(number: int) -> None:
            if over == "http":
                answer = await ask(server.address, "GET", "/rooms/lobby")
                refused = answer.json["error"]
                assert answer.status == 503
            else:
                refused = await friend.ask("join", room=f"r{number}")
            # Neither publishes, so neither answer may speak of storing a message or of its key.
            assert (refused["code"], refused["message"]) == ("unavailable", "the log cannot be used now; try again")

        assert await in_one_second(server, read, "log_failed") == {("LogUnavailable", WORDS)}


async def test_a_log_that_cannot_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is told as well as the publishers."""
    async with serving() as server, chatter(server.address) as friend:
        log = server.server.parts.log
        assert isinstance(log, MemoryLog)
        monkeypatch.setattr(log, "_commit", lambda drafts: [LogUnavailable(WORDS) for _ in drafts])
        await friend.ask("join", room="lobby")

        async def publish(number: int) -> None:
            assert (await friend.ask("publish", room="lobby", text="hello"))["code"] == "unavailable"
            answer = await ask(server.address, "POST", "/rooms/elsewhere/messages", b"hello")
            assert (answer.status, WORDS.encode() in answer.body) == (503, False)

        assert await in_one_second(server, publish, "publish_failed") == {("LogUnavailable", WORDS)}


@pytest.mark.parametrize("place", ["a request", "behind a wait", "a command"])
async def test_a_bug_of_ours_that_costs_connections(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each peer is told, but not of our code."""
    bug = RuntimeError("a bug at /secret/path")

    def fail(*_: object) -> None:
        raise bug

    async with serving(faults=TIMES) as server:
        parts = server.server.parts
        if place == "behind a wait":
            monkeypatch.setattr(parts.log, "head", failing(bug))
        else:
            monkeypatch.setattr(parts.exchanges._routes if place == "a request" else Conversation, "handle", fail)

        async def run_into_it(number: int) -> None:
            if place == "a command":
                async with chatter(server.address) as friend:
                    await friend.say(type="ping")
                    closed = await friend.closed()
                assert (closed.code, "secret" in closed.reason) == (1011, False)
                return
            answer = await ask(server.address, "GET", "/rooms/lobby", headers={"Connection": "keep-alive"})
            assert (answer.status, answer.error, answer.headers["connection"]) == (500, "internal", "close")
            assert b"secret" not in answer.body

        assert await in_one_second(server, run_into_it, "fault") == {("RuntimeError", "")}
