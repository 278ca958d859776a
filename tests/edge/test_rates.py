"""What the message bucket of a connection allows an honest client. Floods: tests/attacks/test_budgets.py."""

import pytest

from tests.support.peers import connect, open_websocket
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
