"""Personas that do together what each may do alone."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, urlsplit

import h11
import pytest
import trio
from wsproto import events

from loadgen.personas import askers, bursts, vanish
from tests.loadgen.stage import (
    Server,
    WebSocket,
    answer,
    listening,
    meeting,
    parsed,
    playing,
    read_until,
    request_of,
    talking,
    until,
)

_PAGE = b'{"cursor":"e-%d","messages":[]}'


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "ASK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(vanish, "RETURN_SECONDS", 0.05)
    monkeypatch.setattr(bursts, "STORM_EVERY_SECONDS", 0.3)
    monkeypatch.setattr(bursts, "DROP_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(bursts, "RETURN_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(bursts, "BELL_EVERY_SECONDS", 0.2)


# descriptor-exhaust


async def test_descriptors_are_held_by_asking_again() -> None:
    async with meeting("descriptor-exhaust", path="/small") as (play, stream):
        for _ in range(3):
            assert (await request_of(stream)).target == b"/small"
            await answer(stream, 200)
        await until(lambda: play.cohort.answers["answered 200"] == 3)
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})


async def test_a_polite_no_is_a_refusal() -> None:
    async with meeting("descriptor-exhaust") as (play, stream):
        await request_of(stream)
        await answer(stream, 503)
        await stream.aclose()
        await until(lambda: play.cohort.refused == {"answered 503": 1})


# join-many


async def _joins(socket: WebSocket, number: int) -> list[dict[str, object]]:
    return [await socket.hear() for _ in range(number)]


async def test_join_many_joins_on_as_it_is_answered() -> None:
    async with talking("join-many") as (play, socket):
        asked = await _joins(socket, askers.WINDOW)
        assert {message["type"] for message in asked} == {"join"}
        await socket.say(type="hello")
        half = askers.WINDOW // 2
        for message in asked[: half - 1]:
            await socket.say(type="joined", id=message["id"], room=message["room"])
        await until(lambda: play.cohort.answers == {"joined": half - 1})
        assert play.client._asked == askers.WINDOW, "many at a time"  # type: ignore[attr-defined]
        await socket.say(type="error", id=asked[half - 1]["id"], code="too_many_rooms")
        asked += await _joins(socket, half)
        assert len({message["room"] for message in asked}) == len(asked)
        assert play.cohort.answers == {"joined": half - 1, "error too_many_rooms": 1}


async def test_join_many_stops_when_there_are_no_more_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "JOIN_MANY_ROOMS", 60)
    async with talking("join-many") as (play, socket):
        for number in range(60):
            message = await socket.hear()
            assert message["id"] == number
            await socket.say(type="joined", id=number, room=message["room"])
        await until(lambda: play.cohort.answers == {"joined": 60})
        await socket.send(events.CloseConnection(1008))
        await until(lambda: play.cohort.ended == {"close 1008": 1})


# reconnect-storm


async def _join(server: Server, cursor: str) -> tuple[WebSocket, dict[str, object]]:
    socket = await server.websocket()
    join = await socket.hear()
    await socket.say(type="joined", id=join["id"], room=join["room"], cursor=cursor, messages=[])
    return socket, join


async def test_the_storm_takes_all_and_brings_them_back_to_where_they_were() -> None:
    async with listening() as server, playing(server.url, "reconnect-storm", clients=3) as play:
        came: set[object] = set()
        returned: set[object] = set()
        while len(returned) < 3:  # the first may be back before the last has come
            _, join = await _join(server, "e-7")
            assert join.get("after") in {None, "e-7"}
            (returned if "after" in join else came).add(join["room"])
        assert came == returned
        assert play.cohort.left >= 3
        assert not play.cohort.ended


async def test_somebody_in_each_room_speaks_before_the_storm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "ROOMS", 1)
    async with listening() as server, playing(server.url, "reconnect-storm", clients=2) as play:
        first, _ = await _join(server, "e-7")
        second, _ = await _join(server, "e-7")
        await until(lambda: play.cohort.left >= 2)
        heard = await first.hear()
        assert (heard["type"], heard["room"]) == ("publish", "storm-0")
        with pytest.raises(trio.BrokenResourceError):  # RST, and no word before
            await second.receive()


# publish-reset


async def _posted(server: Server) -> trio.SocketStream:
    stream = await server.accept()
    said = await read_until(stream, lambda got: got.endswith(b"x" * vanish.TEXT_BYTES))
    request, body = parsed(said)
    assert (request.method, request.target) == (b"POST", b"/rooms/publish-reset/messages")
    data = body.next_event()
    assert isinstance(data, h11.Data)
    assert len(data.data) == vanish.TEXT_BYTES
    return stream


async def test_publishers_read_their_receipt_and_reset_again_and_again() -> None:
    async with listening() as server, playing(server.url, "publish-reset", clients=2) as play:
        member = await server.websocket()
        assert await member.hear() == {"type": "join", "id": 0, "room": "publish-reset"}
        await member.send(events.Ping(b"there?"))
        assert isinstance(await member.receive(), events.Pong), "it listens"
        for number in range(1, 4):
            stream = await _posted(server)
            assert play.cohort.held == 2
            await answer(stream, 201, b"{}")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            assert play.cohort.answers == {"answered 201": number}
            assert play.cohort.left == number
        assert not play.cohort.ended


async def test_a_publisher_that_is_refused_comes_back_and_one_that_is_cut_off_is_booked() -> None:
    async with listening() as server, playing(server.url, "publish-reset", clients=2) as play:
        await server.accept()
        stream = await _posted(server)
        await answer(stream, 429)
        stream = await _posted(server)
        assert play.cohort.answers == {"answered 429": 1}
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})


# thundering-poll


async def test_one_rings_and_all_others_poll_from_their_cursor() -> None:
    async with listening() as server, playing(server.url, "thundering-poll", clients=3) as play:
        streams = [await server.accept() for _ in range(3)]
        ringer, *herd = streams
        for stream in herd:
            target = await _asked(stream)
            assert (target.path, target.query) == ("/rooms/thunder/messages", "limit=1")
            await answer(stream, 200, _PAGE % 0)
        for stream in herd:
            assert parse_qs((await _asked(stream)).query) == {"after": ["e-0"], "wait": ["25"]}
        await until(lambda: play.cohort.held == 3)
        for _ in range(2):
            request, _ = parsed(await read_until(ringer, lambda got: got.endswith(b"goal!")))
            assert (request.method, request.target) == (b"POST", b"/rooms/thunder/messages")
            await answer(ringer, 201, b"{}")
        await until(lambda: play.cohort.answers == {"answered 201": 2})
        for stream in herd:
            await answer(stream, 200, b'{"cursor":"e-1","messages":[{}]}')
            assert parse_qs((await _asked(stream)).query)["after"] == ["e-1"]
        assert play.cohort.deliveries == 2


async def test_the_bell_does_not_fall_silent() -> None:
    async with listening() as server, playing(server.url, "thundering-poll") as play:
        for _ in range(3):
            stream = await server.accept()
            await read_until(stream, lambda got: got.endswith(b"goal!"))
            await stream.aclose()
        assert not play.cohort.ended


async def _asked(stream: trio.SocketStream) -> SplitResult:
    return urlsplit((await request_of(stream)).target.decode())
