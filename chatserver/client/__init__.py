"""The Python client: follows rooms across reconnects, without losing a message or getting one twice.

    async with connect("http://127.0.0.1:8000", name="Ann") as chat:
        async for message in chat.join("lobby"):
            await chat.publish("lobby", f"{message.user.name} said {message.text}")

docs/bots.md describes it on one page. It imports nothing of the server, nor the server anything of it, so that a
disagreement between the two shows up. `chatserver chat` (`terminal/`) is built on it.
"""

from chatserver.client.chat import (
    ANSWER_TIMEOUT as ANSWER_TIMEOUT,
    Chat as Chat,
    TransportName as TransportName,
    connect as connect,
)
from chatserver.client.errors import (
    BadUrl as BadUrl,
    ChatError as ChatError,
    Forbidden as Forbidden,
    Invalid as Invalid,
    NotFound as NotFound,
    RateLimited as RateLimited,
    Rejected as Rejected,
    Unauthenticated as Unauthenticated,
    Unavailable as Unavailable,
)
from chatserver.client.events import (
    Complaint as Complaint,
    Entered as Entered,
    Event as Event,
    Gap as Gap,
    Postponed as Postponed,
    Reconnecting as Reconnecting,
)
from chatserver.client.feed import Feed as Feed
from chatserver.client.link import Backoff as Backoff
from chatserver.client.room import Room as Room
from chatserver.client.wire import (
    Ack as Ack,
    Connected as Connected,
    Deletion as Deletion,
    Edit as Edit,
    Expiring as Expiring,
    Found as Found,
    Members as Members,
    Message as Message,
    Page as Page,
    Presence as Presence,
    Reaction as Reaction,
    Read as Read,
    Record as Record,
    RoomSummary as RoomSummary,
    Sanction as Sanction,
    SearchResults as SearchResults,
    Typing as Typing,
    Unread as Unread,
    User as User,
)
