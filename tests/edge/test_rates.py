"""What the counts of a connection allow an honest client. Floods: tests/attacks/test_budgets.py."""

import pytest

from chatserver.edge.waiting import MAX_STREAM_BYTES
from tests.support.peers import connect, open_websocket, publish, request
from tests.support.serving import serving


@pytest.mark.jumping_clock
async def test_a_client_that_comes_back_may_join_all_its_rooms_at_once() -> None:
    """Its requests, which are dear here, do not count against its messages."""
    async with (
        serving(message_rate=1.0, request_rate=0.1, max_rooms_per_connection=40, max_empty_rooms=40) as server,
        connect(server.address) as peer,
    ):
        assert (await peer.request("GET", "/healthz")).status == 200
        friend = await open_websocket(peer)
        for number in range(40):
            assert (await friend.ask("join", room=f"r{number}"))["type"] == "joined"


async def test_what_the_client_of_an_event_stream_may_send() -> None:
    """Its request does not count, and MAX_STREAM_BYTES after it are dropped; one more ends the stream."""
    async with serving(request_rate=50.0) as server, connect(server.address) as peer:
        await peer.send(request("GET", "/rooms/lobby/events"))
        await peer.head()
        await peer.send(b"x" * MAX_STREAM_BYTES)
        await publish(server.address, "lobby", "hello")
        await peer.until(b"hello")
        await peer.send(b"x")
        await peer.rest()
        await server.counted("flood")
