"""Personas that ask for a long-poll and then close it, wholly or by half."""

from __future__ import annotations

from loadgen.personas._shapes import Vanishing
from tests.loadgen.stage import listening, parsed, playing, read_until, until

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


async def test_halfclose_says_that_this_was_all_and_reads_on() -> None:
    async with listening() as server, playing(server.url, "poll-halfclose", poll_wait_seconds=2.5) as play:
        stream = await server.accept()
        request, body = parsed(await read_until(stream, lambda got: b"\r\n\r\n" in got))
        assert request.target == b"/rooms/lobby.silent/messages?wait=2.5"
        assert await stream.receive_some() == b""
        assert play.cohort.held == 1
        await stream.send_all(_ANSWER)
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"answered 200": 1})
        assert play.cohort.answers == {"answered 200": 1}
        assert body.they_are_waiting_for_100_continue is False


async def test_halfclose_that_is_taken_for_gone_says_so() -> None:
    async with listening() as server, playing(server.url, "poll-halfclose") as play:
        stream = await server.accept()
        await read_until(stream, lambda got: b"\r\n\r\n" in got)
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})


async def test_a_room_of_the_longest_name_stays_a_name() -> None:
    async with listening() as server, playing(server.url, "poll-abandon", rooms=("r" * 64,)):
        request, _ = parsed(await read_until(await server.accept(), lambda got: b"\r\n\r\n" in got))
        assert len(request.target.split(b"/")[2]) == 64


async def test_abandon_asks_and_then_is_one_of_those_who_vanish() -> None:
    async with listening() as server, playing(server.url, "poll-abandon", poll_path="/poll/{room}?w={wait:g}") as play:
        request, _ = parsed(await read_until(await server.accept(), lambda got: b"\r\n\r\n" in got))
        assert request.target == b"/poll/lobby.silent?w=25"
        assert isinstance(play.client, Vanishing)
