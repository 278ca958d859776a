"""Server-sent events (CONTRACT section 3)."""

import json

import pytest

from tests.support.peers import Peer, connect, publish, request
from tests.support.serving import serving


async def open_stream(peer: Peer, query: str = "", *, last_id: str | None = None, room: str = "lobby") -> None:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    await peer.send(request("GET", f"/rooms/{room}/events{query}", headers=headers))
    head = await peer.head()
    assert head.status == 200
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["cache-control"] == "no-cache"
    assert await peer.until(b"\n\n") == b"retry: 2000\n\n"


async def event(peer: Peer) -> dict[str, str]:
    lines = (await peer.until(b"\n\n")).decode().strip().split("\n")
    return dict(line.split(": ", 1) for line in lines)


async def test_an_event_is_a_message_and_its_cursor() -> None:
    async with serving() as server, connect(server.address) as peer:
        await open_stream(peer)
        stored = await publish(server.address, "lobby", "two\nlines")
        found = await event(peer)
        assert list(found) == ["id", "event", "data"]
        assert found["id"] == stored["cursor"]
        assert found["event"] == "message"
        assert json.loads(found["data"])["text"] == "two\nlines"


async def test_without_a_cursor_it_begins_now() -> None:
    async with serving() as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "old")
        await open_stream(peer)
        await publish(server.address, "lobby", "new")
        assert json.loads((await event(peer))["data"])["text"] == "new"


@pytest.mark.parametrize("bare", [True, False])
async def test_last_event_id_goes_on_and_wins_over_the_query(*, bare: bool) -> None:
    """A browser repeats the URL it was given and adds the id it has reached."""
    async with serving() as server, connect(server.address) as peer:
        stored = [await publish(server.address, "lobby", f"m{number}") for number in range(4)]
        await open_stream(peer, "?after=0", last_id="2" if bare else stored[1]["cursor"])
        assert [json.loads((await event(peer))["data"])["offset"] for _ in range(2)] == [3, 4]


async def test_an_empty_last_event_id_is_none() -> None:
    async with serving() as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "m")
        await open_stream(peer, "?after=0", last_id="")
        assert json.loads((await event(peer))["data"])["offset"] == 1


async def test_a_gap_is_told_before_anything_else() -> None:
    async with serving() as server, connect(server.address) as peer:
        stored = [await publish(server.address, "lobby", f"m{number}") for number in range(3)]
        await open_stream(peer, last_id="other-2")
        gap = await event(peer)
        epoch = stored[0]["cursor"].partition("-")[0]
        assert gap["event"] == "gap"
        assert gap["id"] == f"{epoch}-3"
        assert json.loads(gap["data"]) == {
            "type": "gap",
            "room": "lobby",
            "after": f"{epoch}-0",
            "until": f"{epoch}-3",
        }
        await publish(server.address, "lobby", "new")
        assert json.loads((await event(peer))["data"])["text"] == "new"


async def test_a_heartbeat_in_silence() -> None:
    async with serving(heartbeat_interval=1.0) as server, connect(server.address) as peer:
        await open_stream(peer)
        assert await peer.until(b"\n\n") == b":\n\n"


async def test_streams_that_make_no_sense() -> None:
    async with serving() as server, connect(server.address) as peer:
        for path, code in [
            ("/rooms/lobby/events?after=x-y", "bad_cursor"),
            ("/rooms/Lobby/events", "bad_room"),
            ("/rooms/lobby/events?since=4", "bad_field"),
        ]:
            answer = await peer.request("GET", path)
            assert (answer.status, answer.error) == (400, code)


async def test_a_bad_last_event_id_is_told() -> None:
    async with serving() as server, connect(server.address) as peer:
        answer = await peer.request("GET", "/rooms/lobby/events", headers={"Last-Event-ID": "nonsense"})
        assert (answer.status, answer.error) == (400, "bad_cursor")


async def test_a_listener_is_a_member() -> None:
    async with serving() as server:
        async with connect(server.address) as peer, connect(server.address) as other:
            await open_stream(peer)
            assert (await other.request("GET", "/rooms/lobby/members")).json["count"] == 1
        await server.held(0)
        async with connect(server.address) as other:
            assert (await other.request("GET", "/rooms/lobby/members")).json["count"] == 0


async def test_what_a_listener_sends_is_not_read() -> None:
    async with serving() as server, connect(server.address) as peer:
        await open_stream(peer)
        await peer.send(request("GET", "/healthz") * 50)
        await publish(server.address, "lobby", "still listening")
        assert json.loads((await event(peer))["data"])["text"] == "still listening"
