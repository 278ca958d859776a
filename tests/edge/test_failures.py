"""What a peer can have written to our log again and again: the first few are lines, the others a number."""

from collections.abc import Callable
from typing import Any

import pytest

from chatserver.log.interface import LogUnavailable
from chatserver.log.memory import MemoryLog
from chatserver.observe.logs import LINES_PER_SECOND
from tests.support.peers import Address, chatter, connect
from tests.support.serving import Serving, serving

TIMES = 3 * LINES_PER_SECOND
WORDS = "the disk is full"


def hold_the_second(server: Serving) -> None:
    """All lines fall into one second, however slow this machine is."""
    server.server.parts.connections.lines.report = lambda write: None  # type: ignore[method-assign]


def written(server: Serving, event: str) -> list[Any]:
    return [line for line in server.logs if line["event"] == event]


async def ask_by_http(address: Address, status: int) -> None:
    async with connect(address) as peer:
        for _ in range(TIMES):
            assert (await peer.request("GET", "/rooms/lobby")).status == status


async def test_a_log_that_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each request of everybody, 4,000 a second on one core, once was what the operator had to read."""
    async with serving() as server:
        hold_the_second(server)
        monkeypatch.setattr(server.server.parts.log, "head", failing(LogUnavailable(WORDS)))
        await ask_by_http(server.address, 503)
        async with chatter(server.address) as friend:
            for number in range(TIMES):
                assert (await friend.ask("join", room=f"r{number}"))["code"] == "unavailable"
        lines = written(server, "log_failed")
        assert len(lines) == LINES_PER_SECOND
        assert {(line["reason"], line["detail"]) for line in lines} == {("LogUnavailable", WORDS)}


async def test_a_log_that_cannot_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it was the reverse: publishers were told, and the operator nothing at all."""

    def commit(drafts: list[object]) -> list[LogUnavailable]:
        return [LogUnavailable(WORDS) for _ in drafts]

    async with serving() as server, chatter(server.address) as friend, connect(server.address) as poster:
        hold_the_second(server)
        log = server.server.parts.log
        assert isinstance(log, MemoryLog)
        monkeypatch.setattr(log, "_commit", commit)
        await friend.ask("join", room="lobby")
        for _ in range(TIMES):
            assert (await friend.ask("publish", room="lobby", text="hello"))["code"] == "unavailable"
            assert (await poster.request("POST", "/rooms/elsewhere/messages", b"hello")).status == 503
        lines = written(server, "publish_failed")
        assert [(line["reason"], line["detail"]) for line in lines] == [("LogUnavailable", WORDS)] * LINES_PER_SECOND


@pytest.mark.parametrize("behind_a_wait", [False, True])
async def test_a_bug_of_ours_that_costs_connections(monkeypatch: pytest.MonkeyPatch, behind_a_wait: bool) -> None:
    async with serving(faults=TIMES) as server:
        hold_the_second(server)
        parts = server.server.parts

        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        if behind_a_wait:
            monkeypatch.setattr(parts.log, "head", failing(RuntimeError("a bug")))
        else:
            monkeypatch.setattr(parts.exchanges._routes, "handle", fail)
        for _ in range(TIMES):
            async with connect(server.address) as peer:
                assert (await peer.request("GET", "/rooms/lobby")).status == 500
        assert len(written(server, "fault")) == LINES_PER_SECOND


def failing(error: Exception) -> Callable[[str], Any]:
    async def fail(room: str) -> None:
        raise error

    return fail
