"""What the message bucket of a connection allows an honest client. Floods: tests/attacks/test_budgets.py."""

from tests.support.peers import chatter
from tests.support.serving import serving


async def test_a_client_that_comes_back_may_join_all_its_rooms_at_once() -> None:
    async with (
        serving(message_rate=0.1, max_rooms_per_connection=40, max_empty_rooms=40) as server,
        chatter(server.address) as friend,
    ):
        for number in range(40):
            assert (await friend.ask("join", room=f"r{number}"))["type"] == "joined"
