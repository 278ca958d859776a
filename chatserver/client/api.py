"""The requests that use plain HTTP on every transport: the session, search, rooms and unread messages.

Owns: these requests and the shapes of their answers. May not: wait longer than its caller, or retry.
"""

from typing import NamedTuple
from urllib.parse import quote

import msgspec

from chatserver.client.errors import Unavailable, error_of
from chatserver.client.http1 import HttpClient, Response
from chatserver.client.stream import EndedError
from chatserver.client.wire import Message, Record, User


class Page(NamedTuple):
    """Records of a room, oldest first, up to `cursor`. Not `recovered`: the place asked for no longer exists."""

    cursor: str
    recovered: bool
    records: list[Record]


class Found(Message, frozen=True):
    """A message that a search found. The parts of the snippet with True are the matches."""

    snippet: tuple[tuple[str, bool], ...] = ()


class SearchResults(msgspec.Struct, frozen=True):
    """The answer to a search, best first."""

    results: tuple[Found, ...]
    took_ms: float = 0.0
    cached: bool = False


class Unread(msgspec.Struct, frozen=True):
    """How far we have read a room, and the unread messages in it."""

    read: int
    unread: int = 0
    mentions: int = 0


class RoomSummary(msgspec.Struct, frozen=True):
    """A room in the server's list."""

    room: str
    cursor: str = ""
    messages: int = 0
    members: int = 0


class _UnreadRooms(msgspec.Struct):
    rooms: dict[str, Unread]


class _Rooms(msgspec.Struct):
    rooms: tuple[RoomSummary, ...]


class _Session(msgspec.Struct):
    user: User


class Api:
    """See the module. Every method raises ChatError."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def sign_in(self, name: str) -> User:
        """Become a guest with this name, or start a session with the token; the cookie is kept."""
        return (await self._ask("POST", "/session", {"name": name} if name else {})).decode(_Session).user

    async def sign_out(self) -> None:
        """End the session, everywhere."""
        await self._ask("DELETE", "/session")

    async def unread(self) -> dict[str, Unread]:
        """Return what is unread, by room."""
        return (await self._ask("GET", "/unread")).decode(_UnreadRooms).rooms

    async def rooms(self) -> tuple[RoomSummary, ...]:
        """Return the rooms, the most recently written first."""
        return (await self._ask("GET", "/rooms")).decode(_Rooms).rooms

    async def search(self, query: str, **more: str | int | None) -> SearchResults:
        """Search messages: `room`, `user`, `before`, `limit`."""
        fields = {"q": query, **more}
        text = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in fields.items() if value is not None)
        return (await self._ask("GET", f"/search?{text}")).decode(SearchResults)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, fields: object = None) -> Response:
        try:
            response = await self._http.request(method, path, fields)
        except EndedError as ended:
            raise Unavailable("unavailable", str(ended), ended.retry_after) from ended
        if response.status >= 400:
            raise error_of(*response.error, response.retry_after)
        return response
