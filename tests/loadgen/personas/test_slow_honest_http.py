"""The honest slow over HTTP: what they do, what they bear, and what they call a failure."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import h11
import pytest
import trio

from loadgen.net.timers import now
from loadgen.personas import registry, slow_honest
from tests.loadgen.stage import (
    Server,
    answer,
    listening,
    meeting,
    parsed,
    playing,
    read_until,
    request_of,
    reset,
    until,
)

#: Seconds between two requests, by persona.
PAUSES = {name: registry()[name].pause_seconds for name in ("bandwidth", "batch", "curl", "slow-typist")}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"MOVES_EVERY_SECONDS": 0.02, "TYPES_IN_SECONDS": 0.5, "READS_AFTER_SECONDS": 0.1}.items():
        monkeypatch.setattr(slow_honest, name, seconds)
    for name in PAUSES:
        monkeypatch.setattr(registry()[name], "pause_seconds", 0.05)


async def test_what_was_planned_is_over_with_its_connection() -> None:
    """Or patience with an answer on the last connection would be at an end on the next one, and the user hurt."""
    async with listening() as server, playing(server.url, "slow-typist") as play:
        await server.accept()
        await until(lambda: play.cohort.held)
        client, acted = play.client, list[str]()
        assert isinstance(client, slow_honest.SlowTypist)
        client.plan(0.2, partial(acted.append, "of the last connection"))
        client.leave(return_in=0.0)
        await server.accept()
        await until(lambda: play.cohort.held)
        client.plan(0.2, partial(acted.append, "of this connection"))
        await until(lambda: acted)
        client.plan(0.0, partial(acted.append, "of none"))
        client.leave()
        play.engine.at(now(), partial(acted.append, "the end"))
        await until(lambda: "the end" in acted)
    assert acted == ["of this connection", "the end"]


async def test_the_typist_types_twice_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_honest.SlowTypist, "patience_seconds", 600.0)  # what it planned is over when it goes
    async with listening() as server, playing(server.url, "slow-typist", path="/page") as play:
        for _ in range(2):
            stream = await server.accept()
            for _ in range(2):
                pieces = 0
                got = b""
                while not got.endswith(b"\r\n\r\n"):
                    got += await stream.receive_some()
                    pieces += 1
                request, _ = parsed(got)
                assert (request.method, request.target) == (b"GET", b"/page")
                assert pieces > 1
                await answer(stream, 200, b"hello")
            assert await stream.receive_some() == b""
        assert play.cohort.left >= 1
        assert not play.cohort.ended


async def test_the_typist_is_not_slower_where_the_generator_is_late() -> None:
    """Each piece late by a little, it typed for longer than a server waits, and the server was blamed."""
    moments: list[float] = []

    class Late(slow_honest.SlowTypist):
        def send(self, data: bytes) -> bool:
            time.sleep(3 * self.piece_every())
            return super().send(data)

        def plan_at(self, moment: float, action: Callable[[], None]) -> None:
            super().plan_at(moment, action)
            moments.append(moment)

    async with meeting(Late) as (_, stream):
        await request_of(stream)
    *pieces, _ = moments
    every = slow_honest.TYPES_IN_SECONDS / (len(pieces) + 1)
    assert [later - earlier for earlier, later in pairwise(pieces)] == pytest.approx([every] * (len(pieces) - 1))


@pytest.mark.parametrize("name", ["slow-typist", "bandwidth", "batch"])
async def test_a_close_behind_an_answer_is_borne(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry()[name], "pause_seconds", 600.0)  # it does not ask again before the close
    async with listening() as server, playing(server.url, name) as play:
        for _ in range(3):
            stream = await server.accept()
            await read_until(stream, lambda got: got.endswith((b"\r\n\r\n", b"x" * slow_honest.BATCH_TEXT_BYTES)))
            await answer(stream, 200, b"bye", b"Connection: close")
            reset(stream)
        assert not play.cohort.ended


async def test_a_handshake_that_is_not_answered_is_no_pause_between_two_requests() -> None:
    async with listening() as server, playing(server.url.replace("http:", "https:"), "slow-typist") as play:
        await (await server.accept()).aclose()
        await until(lambda: sum([*play.cohort.failed.values(), *play.cohort.refused.values()]) == 1)


@pytest.mark.parametrize(("status", "reason"), [(0, "closed"), (408, "answered 408"), (503, "answered 503")])
async def test_a_typist_told_off_in_the_middle_of_a_line_is_hurt(status: int, reason: str) -> None:
    async with meeting("slow-typist") as (play, stream):
        await read_until(stream, lambda got: len(got) > 5)
        if status:
            await answer(stream, status)
        await stream.send_eof()
        await until(lambda: play.cohort.ended == {reason: 1})


async def _poll(server: Server) -> trio.SocketStream:
    """Accept a poller, and tell it where the room stands."""
    stream = await server.accept()
    assert (await request_of(stream)).target == b"/rooms/lobby/messages?limit=1"
    await answer(stream, 200, b'{"cursor":"e-1","messages":[]}')
    return stream


async def test_curl_polls_again_and_again_and_reads_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_honest, "READS_AFTER_SECONDS", 600.0)
    async with listening() as server, playing(server.url, "curl") as play:
        stream = await _poll(server)
        for number in range(2):
            target = (await request_of(stream)).target.decode()
            assert parse_qs(urlsplit(target).query)["after"] == [f"e-{number + 1}"]
            before = play.cohort.received_bytes
            await answer(stream, 200, b'{"cursor":"e-%d","messages":[{}]}' % (number + 2))
            await trio.sleep(0.02)
            assert play.cohort.received_bytes == before, "nobody reads yet"
            play.client.resume_reading()
        await until(lambda: play.cohort.deliveries == 2)
        patience = play.client.patience()  # type: ignore[attr-defined]
        assert patience > play.cohort.place.poll_wait_seconds, "a poll may be held for all of that"


async def test_curl_bears_a_close_between_two_polls_and_none_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_honest.Curl, "pause_seconds", 600.0)  # it does not poll again before the close
    async with listening() as server, playing(server.url, "curl") as play:
        await (await _poll(server)).aclose()
        stream = await server.accept()
        await request_of(stream)
        assert not play.cohort.ended
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})


async def _post(stream: trio.SocketStream) -> None:
    """Take a message."""
    got = b""
    while not got.endswith(b"x" * slow_honest.TEXT_BYTES):
        got += await stream.receive_some(1 << 20)
    request, _ = parsed(got)
    assert (request.method, request.target) == (b"POST", b"/rooms/bandwidth/messages")
    await answer(stream, 201, b"{}")


async def test_a_thin_line_posts_in_pieces_and_reads_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    body, pieces, send = b"x" * 40_000, [], slow_honest.Bandwidth.send

    def counted(client: slow_honest.Bandwidth, data: bytes) -> None:
        pieces.append(len(data))
        send(client, data)

    monkeypatch.setattr(slow_honest.Bandwidth, "send", counted)
    async with meeting("bandwidth") as (play, stream):
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        for _ in range(2):
            await _post(stream)
            assert (await request_of(stream)).target == b"/rooms/bandwidth/messages?limit=10"
            before, begun = play.cohort.received_bytes, trio.current_time()
            await answer(stream, 200, body)
            await until(lambda before=before: play.cohort.received_bytes > before + len(body))  # type: ignore[misc]
            reads = len(body) / slow_honest.Bandwidth.read_bytes
            assert trio.current_time() - begun >= (reads - 2) * slow_honest.MOVES_EVERY_SECONDS
        assert not play.cohort.ended
        assert play.client.piece_every() == slow_honest.MOVES_EVERY_SECONDS  # type: ignore[attr-defined]
    full, rest, asked = slow_honest.Bandwidth.piece_bytes, pieces[2], pieces[3]
    assert max(rest, asked) < full
    assert pieces[:8] == 2 * [full, full, rest, asked]


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 X\r\nContent-Length: 40000\r\n\r\nxxxx"])
async def test_a_thin_line_that_hears_nothing_more_is_hurt(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_honest.Bandwidth, "pause_seconds", 0.5)
    async with meeting("bandwidth") as (play, stream):
        await _post(stream)
        monkeypatch.setattr(slow_honest.Bandwidth, "patience_seconds", 0.3)
        await request_of(stream)
        with suppress(trio.BrokenResourceError):  # it may have given up by now
            await stream.send_all(begun)
        await until(lambda: play.cohort.ended == {"no answer in time: nothing came in 0.3 s": 1})


async def _batch(stream: trio.SocketStream) -> None:
    """Take ten messages that came at once."""
    body = b"x" * slow_honest.BATCH_TEXT_BYTES
    _, parser = parsed(await read_until(stream, lambda got: got.count(b"POST ") == 10 and got.endswith(body)))
    for number in range(10):
        assert not number or isinstance(parser.next_event(), h11.Request)
        while not isinstance(parser.next_event(), h11.EndOfMessage):
            pass
        parser.send(h11.Response(status_code=201, headers=[("Content-Length", "0")]))
        parser.send(h11.EndOfMessage())
        parser.start_next_cycle()


async def test_a_batch_is_sent_at_once_and_another_when_all_of_it_is_answered() -> None:
    async with meeting("batch") as (play, stream):
        for _ in range(2):
            await _batch(stream)
            for _ in range(10):
                await answer(stream, 201, b"{}")
        await _batch(stream)
        play.client._check(3, play.client._heard - 1)  # type: ignore[attr-defined]
        assert not play.cohort.ended, "something came meanwhile"
        play.client._check(2, play.client._heard)  # type: ignore[attr-defined]
        assert not play.cohort.ended, "its patience with the second is over, and that was answered"
        play.client._check(3, play.client._heard)  # type: ignore[attr-defined]
        assert play.cohort.ended == {"no answer in time: nothing came in 10 s": 1}


@pytest.mark.parametrize(
    ("statuses", "reason"), [((201,) * 9, "closed"), ((201, 429), "answered 429"), ((201, 400), "answered 400")]
)
async def test_a_batch_that_is_not_answered_in_full_is_hurt(statuses: tuple[int, ...], reason: str) -> None:
    async with meeting("batch") as (play, stream):
        await _batch(stream)
        for status in statuses:
            await answer(stream, status)
        await stream.aclose()
        await until(lambda: reason in {**play.cohort.ended, **play.cohort.refused})


def test_none_asks_again_just_when_usual_servers_end_idle_connections() -> None:
    """A typist paused for 5 s, as long as stock uvicorn and Apache wait, and of 60 five were hurt by their own."""
    for pause in PAUSES.values():
        assert min(abs(pause - usual) for usual in (5, 10, 15, 60, 65, 75)) >= 1
