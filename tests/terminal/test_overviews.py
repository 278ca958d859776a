"""What the interactive mode tells about rooms as a whole."""

from tests.client.fake import FakeServer
from tests.terminal.commanded import terminal


async def test_an_empty_list_of_rooms_is_told(server: FakeServer) -> None:
    """A user who was banned from the only room got no answer to `/rooms`."""
    async with terminal(server) as person:
        server.elsewhere = (200, b'{"rooms": []}')
        await person.enter("/rooms", "there is no room that you may read")


async def test_unread_messages_that_are_not_shown_are_told(server: FakeServer) -> None:
    """Of 3,000 messages the last 50 stood below the line of the new ones, as if they were all."""
    server.elsewhere = (200, b'{"rooms": {"lobby": {"read": 1, "unread": 3000}}}')
    async with terminal(server, until="3,000 unread in lobby; the latest 50 follow"):
        pass
