"""The Python client: follows rooms across reconnects, without losing a message or getting one twice.

    async with connect("http://127.0.0.1:8000", name="Ann") as chat:
        async for message in chat.join("lobby"):
            if message.user != chat.user:
                await chat.publish("lobby", f"{message.user.name} said {message.text}")

docs/bots.md describes it on one page. It imports nothing of the server, nor the server anything of it, so that a
disagreement between the two shows up. `chatserver chat` (`terminal/`) is built on it.
"""

from chatserver.client.chat import ANSWER_TIMEOUT, Chat, TransportName, connect
from chatserver.client.errors import (
    BadUrl,
    ChatError,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chatserver.client.events import Complaint, Entered, Event, Gap, Postponed, Reconnecting
from chatserver.client.feed import Feed
from chatserver.client.link import Backoff
from chatserver.client.room import Room
from chatserver.client.wire import (
    Ack,
    Connected,
    Deletion,
    Edit,
    Expiring,
    Found,
    Members,
    Message,
    Page,
    Presence,
    Reaction,
    Read,
    Record,
    RoomSummary,
    Sanction,
    SearchResults,
    Typing,
    Unread,
    User,
)

__all__ = [
    "ANSWER_TIMEOUT",
    "Ack",
    "Backoff",
    "BadUrl",
    "Chat",
    "ChatError",
    "Complaint",
    "Connected",
    "Deletion",
    "Edit",
    "Entered",
    "Event",
    "Expiring",
    "Feed",
    "Forbidden",
    "Found",
    "Gap",
    "Invalid",
    "Members",
    "Message",
    "NotFound",
    "Page",
    "Postponed",
    "Presence",
    "RateLimited",
    "Reaction",
    "Read",
    "Reconnecting",
    "Record",
    "Rejected",
    "Room",
    "RoomSummary",
    "Sanction",
    "SearchResults",
    "TransportName",
    "Typing",
    "Unauthenticated",
    "Unavailable",
    "Unread",
    "User",
    "connect",
]
