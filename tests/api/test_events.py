"""Server-sent events."""

import json

import pytest

from tests.api.asking import event, open_stream
from tests.support.peers import Peer, connect, publish, request
from tests.support.serving import Serving, serving


async def test_an_event_is_a_message_with_its_cursor_and_a_stream_begins_now(server: Serving, peer: Peer) -> None:
    await publish(server.address, "lobby", "old")
    await open_stream(peer)
    await peer.send(request("GET", "/healthz") * 50)  # bytes sent by a listener are not read
    stored = await publish(server.address, "lobby", "two\nlines")
    found = await event(peer)
    assert list(found) == ["id", "event", "data"]
    assert (found["id"], found["event"]) == (stored["cursor"], "message")
    assert json.loads(found["data"])["text"] == "two\nlines"


async def test_a_stream_that_is_cut_before_its_first_record_resumes_where_it_began(server: Serving, peer: Peer) -> None:
    """What was published while a browser reconnected was missed without a gap: it had no id to send.

    Nobody has come with the second window of a user, or after a reload of the page, so no other event need come.
    """
    stored = await publish(server.address, "lobby", "old")
    async with connect(server.address) as second:
        for members, window in enumerate((peer, second)):
            await open_stream(window)
            first = await event(window, "presence")
            told = {"type": "presence", "room": "lobby", "joined": [], "left": [], "members": members}
            assert (first["id"], json.loads(first["data"])) == (stored["cursor"], told)


async def test_last_event_id_takes_precedence_over_the_query(server: Serving) -> None:
    """A browser repeats its URL and adds the last id; an empty id counts as none."""
    stored = [await publish(server.address, "lobby", f"m{number}") for number in range(4)]
    for last, first in (("2", 3), (stored[1]["cursor"], 3), ("", 1)):
        async with connect(server.address) as peer:
            await open_stream(peer, "?after=0", last_id=last)
            offsets = [json.loads((await event(peer))["data"])["offset"] for _ in range(5 - first)]
        assert offsets == list(range(first, 5)), last


@pytest.mark.parametrize(("last_id", "kept", "after", "until"), [("other-2", 3, 0, 3), ("99", 3, 0, 3), ("1", 1, 1, 2)])
async def test_a_gap_is_told_before_anything_else(
    server: Serving, peer: Peer, last_id: str, kept: int, after: int, until: int
) -> None:
    """All of the log is missed from a place that is not in it, otherwise what retention has removed."""
    stored = [await publish(server.address, "lobby", f"m{number}") for number in range(3)]
    await server.server.parts.log.retain(lambda _: (kept, 0))
    server.server.parts.hub.retained({"lobby": 4 - kept})
    await open_stream(peer, last_id=last_id)
    gap = await event(peer)
    epoch = stored[0]["cursor"].partition("-")[0]
    assert (gap["event"], gap["id"]) == ("gap", f"{epoch}-{until}")
    told = {"type": "gap", "room": "lobby", "after": f"{epoch}-{after}", "until": f"{epoch}-{until}"}
    assert json.loads(gap["data"]) == told
    await publish(server.address, "lobby", "new")
    offsets = list(range(until + 1, 5))
    assert [json.loads((await event(peer))["data"])["offset"] for _ in offsets] == offsets


@pytest.mark.jumping_clock
async def test_a_heartbeat_in_silence() -> None:
    async with serving(heartbeat_interval=1.0) as server, connect(server.address) as peer:
        await open_stream(peer)
        assert "id" in await event(peer, "presence"), "the beginning"
        told = json.loads((await event(peer, "presence"))["data"])
        assert (len(told.pop("joined")), told) == (1, {"type": "presence", "room": "lobby", "left": [], "members": 1})
        assert await peer.until(b"\n") == b":\n"


async def test_malformed_requests_for_streams(peer: Peer) -> None:
    for path, last_id, code in [
        ("/rooms/lobby/events?after=x-y", "", "bad_cursor"),
        ("/rooms/Lobby/events", "", "bad_room"),
        ("/rooms/lobby/events", "nonsense", "bad_cursor"),
    ]:
        answer = await peer.request("GET", path, headers={"Last-Event-ID": last_id})
        assert (answer.status, answer.error) == (400, code)
