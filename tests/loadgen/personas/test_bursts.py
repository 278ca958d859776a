"""Personas that do together what each may do alone."""

from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
import trio

from loadgen.personas import bursts
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
    until,
)

_PAGE = b'{"cursor":"e-%d","messages":[]}'


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts.DescriptorExhaust, "every_seconds", 0.05)
    monkeypatch.setattr(bursts, "STORM_EVERY_SECONDS", 0.3)
    monkeypatch.setattr(bursts, "DROP_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(bursts, "RETURN_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(bursts, "POST_EVERY_SECONDS", 0.2)


# descriptor-exhaust


async def test_descriptors_are_held_by_asking_again() -> None:
    async with meeting("descriptor-exhaust", path="/small") as (play, stream):
        while play.cohort.answers["answered 200"] < 3:  # of two answers in one read it counts one
            assert (await request_of(stream)).target == b"/small"
            await answer(stream, 200)
        await stream.send_eof()  # not a close, which resets if a further request has come
        await until(lambda: play.cohort.ended == {"closed": 1})


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


async def test_all_leave_with_the_storm_which_is_due_at_the_same_moment_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also for those in other processes: it is counted on the machine's clock."""
    woken: list[float] = []
    monkeypatch.setattr(bursts, "STORM_EVERY_SECONDS", 10.0)
    monkeypatch.setattr(bursts, "now", lambda: 103.0)
    monkeypatch.setattr(bursts.ReconnectStorm, "wake_in", lambda _, seconds: woken.append(seconds))
    async with listening() as server, playing(server.url, "reconnect-storm") as play:
        await _join(server, "e-7")
        await until(lambda: play.cohort.held and woken)
    assert 7.0 <= woken[-1] <= 7.05


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
