"""What is kept of answers that are not whole, and of requests that a server does not read, has bounds."""

import pytest

from loadgen.clients.budget import ALL_SPENT
from loadgen.clients.client import Stage
from tests.loadgen.stage import established, listening, meeting, playing, until


async def test_a_server_that_stops_reading_is_given_up() -> None:
    async with established() as (_, _, play):
        for _ in range(100):
            play.client.send(b"x" * 1_000_000)
        assert play.cohort.ended == {"the server stopped reading": 1}
        assert play.client.stage is Stage.OVER


async def test_an_answer_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.clients.budget.MAX_CLIENT_BYTES", 1000)
    async with meeting("poll") as (play, stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001))
        await until(lambda: play.cohort.failed == {"an answer of more than 1,000 bytes": 1})


async def test_what_is_kept_for_all_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand endless answers filled the machine: only each one alone was bounded."""
    monkeypatch.setattr("loadgen.clients.budget.MAX_ALL_BYTES", 2500)
    async with listening() as server, playing(server.url, "poll", clients=4) as play:
        streams = [await server.accept() for _ in play.clients]
        for number, stream in enumerate(streams, start=1):
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
            await until(lambda number=number: play.cohort.received_bytes == number * 1019)  # type: ignore[misc]
        assert play.cohort.failed == {ALL_SPENT: 2}
        assert play.engine.own_faults == {f"poll: {ALL_SPENT}": 2}, "no fault of the target's alone"
        await streams[0].aclose()
        await until(lambda: sum(play.cohort.failed.values()) == 3)
        assert play.engine._budget.charged_bytes == 1000


async def test_what_a_server_does_not_read_is_charged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.clients.budget.MAX_ALL_BYTES", 100_000)
    async with established() as (_, _, play):
        while play.client.send(b"x" * 65536):
            pass
        for _ in range(2):
            assert not play.client.send(b"x" * 65536)
        assert play.cohort.ended == {ALL_SPENT: 1}
        assert play.engine.own_faults == {f"probe: {ALL_SPENT}": 1}
        assert play.engine._budget.charged_bytes == 0
