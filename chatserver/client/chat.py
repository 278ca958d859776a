"""The library's interface: follow rooms and publish, whatever happens to the connection.

Owns: `connect` and `Chat`; the delivery of events to readers. May not: know a transport or a frame.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Literal, get_args
from urllib.parse import quote

import trio

from chatserver.client import events, requests, wire
from chatserver.client.calls import Calls
from chatserver.client.credentials import Credentials, checked_token
from chatserver.client.errors import ChatError, Invalid, Unauthenticated, Unavailable, error_of
from chatserver.client.feed import Feed
from chatserver.client.http1 import HttpClient, encoded_query
from chatserver.client.http_transport import http_conversation
from chatserver.client.link import Backoff, Conversation, Link
from chatserver.client.room import Room
from chatserver.client.session import Answered, Outcome, Session
from chatserver.client.stream import parse_target
from chatserver.client.websocket import websocket

ANSWER_TIMEOUT = 30.0  # s that a caller waits by default, including reconnects
MOST_LATEST = 50  # records that a join brings
MOST_SANCTIONS = 1000  # as many as the server lists

TransportName = Literal["ws", "poll", "sse"]


class Chat:
    """A user in some rooms. Made by `connect`. Methods that wait raise `ChatError`, at the latest after its timeout."""

    def __init__(
        self, http: HttpClient, name: str, transport: TransportName, timeout: float, backoff: Backoff | None
    ) -> None:
        self.user: wire.User | None = None  # our user; None before the first connection
        self._http = http
        self._name = name
        self._named: str | None = None  # the name that the server has given us, if we asked for one
        self._asked_again = False  # whether the name was asked for again; reset once we have it
        self._offered = ""  # the token of the last `authenticate`, unless it was refused
        self._earlier = ""  # the token in use before it, until a connection with it was accepted
        self._session = Session()
        self._rooms: dict[str, Room] = {}
        self._everything: Feed | None = None
        self._life = trio.CancelScope(shield=True)  # unshielded when the block is left
        self._transport = transport
        self._link = Link(self._session, self._open, self._tell, backoff or Backoff())
        self._calls = Calls(self._session, http, self._link, self._tell, timeout)

    # -- rooms --------------------------------------------------------------------------------------------------------

    def join(self, room: str, *, after: str | None = None, latest: int = 0) -> Room:
        """Join a room from now on; or from a cursor on, or with this many of the latest records (up to 50).

        Returns at once. The iteration raises if we may not be in the room.
        """
        if room not in self._rooms:
            requests.checked(requests.Join(room=room, after=after))
            if not 0 <= latest <= MOST_LATEST:
                raise Invalid("bad_field", f"latest: {latest} is not from 0 to {MOST_LATEST}")
            joined = self._rooms[room] = Room(self, room, after)
            if self._everything is not None:
                joined.events().hand_over()
            if self._calls.ended is not None:
                joined.events().end(self._calls.ended)
            self._session.join(room, after=after, latest=latest)
            self._link.wake()
        return self._rooms[room]

    def leave(self, room: str) -> None:
        """Leave a room."""
        if room in self._rooms:
            self._rooms.pop(room).events().end()
            self._session.leave(room)
            self._link.wake()

    def events(self) -> Feed:
        """Iterate over all events of all rooms in one stream, instead of one iteration for each room.

        It begins with what was not read in the rooms; iterating over a room raises RuntimeError from now on.
        """
        if self._everything is None:
            self._everything = Feed(lambda: self._resume(self._rooms))
            unread = (event for room in self._rooms.values() for event in room.events().hand_over())
            for event in {id(event): event for event in unread}.values():  # an event of the connection is in each room
                self._everything.put(event)
            if self._calls.ended is not None:
                self._everything.end(self._calls.ended)
        return self._everything

    # -- writing ------------------------------------------------------------------------------------------------------

    async def publish(
        self, room: str, text: str, *, key: str = "", reply_to: int | None = None, mentions: Sequence[str] = ()
    ) -> wire.Ack:
        """Publish a message, and return when it is durable. Each room keeps the order of calls; joining is not needed.

        After `Unavailable` it may or may not be stored: call again with the same `key`, and it is stored once.
        """
        return await self._calls.ask(
            requests.Publish(room=room, text=text, key=key, reply_to=reply_to, mentions=mentions), wire.Ack
        )

    async def edit(self, room: str, offset: int, text: str, *, key: str = "") -> wire.Ack:
        """Replace the text of our message at `offset`."""
        return await self._calls.ask(requests.Edit(room=room, offset=offset, text=text, key=key), wire.Ack)

    async def delete(self, room: str, offset: int, *, key: str = "") -> wire.Ack:
        """Delete the message at `offset`."""
        return await self._calls.ask(requests.Delete(room=room, offset=offset, key=key), wire.Ack)

    async def react(self, room: str, offset: int, emoji: str, *, on: bool = True, key: str = "") -> wire.Ack:
        """Add an emoji to the message at `offset`, or remove it."""
        return await self._calls.ask(requests.React(room=room, offset=offset, emoji=emoji, on=on, key=key), wire.Ack)

    def typing(self, room: str) -> None:
        """Show others that we are typing; lost without a connection."""
        if self._link.trouble is None:
            self._session.ask(requests.checked(requests.Typing(room=room)))
            self._link.wake()

    async def read(self, room: str, offset: int) -> None:
        """Store how far we have read, for all our clients."""
        await self._calls.ask(requests.Read(room=room, offset=offset), wire.Read)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def history(
        self, room: str, *, after: str | int | None = None, before: str | int | None = None, limit: int = 50
    ) -> wire.Page:
        """Return records after or before a cursor or an offset, or the latest, up to 200."""
        page = await self._calls.ask(requests.History(room=room, after=after, before=before, limit=limit), wire.History)
        try:
            return wire.Page(page.cursor, page.recovered, page.records)
        except wire.ProtocolError as error:
            raise Unavailable("unavailable", str(error)) from error

    async def members(self, room: str) -> wire.Members:
        """Return who is in a room."""
        return await self._calls.ask(requests.Members(room=room), wire.Members)

    async def search(
        self, query: str, *, room: str | None = None, user: str | None = None, limit: int = 20
    ) -> wire.SearchResults:
        """Search the messages that we may read."""
        asked = encoded_query(q=query, room=room, user=user, limit=limit)
        return await self._calls.request("GET", f"/search?{asked}", wire.SearchResults)

    async def unread(self) -> dict[str, wire.Unread]:
        """Return the unread messages by room."""
        return (await self._calls.request("GET", "/unread", wire.UnreadRooms)).rooms

    async def rooms(self) -> tuple[wire.RoomSummary, ...]:
        """Return the 200 rooms that were written last, the latest first."""
        return (await self._calls.request("GET", "/rooms", wire.Rooms)).rooms

    async def write_refusal(self, room: str) -> ChatError | None:
        """Return the error that a message of ours in a room would get now; None if we may write there."""
        why = (await self._calls.request("GET", _path(room), wire.RoomState)).why
        return None if why is None else error_of(why.code, why.message, why.retry_after)

    # -- moderating: the room "*" means all rooms ---------------------------------------------------------------------

    async def sanction(
        self, kind: Literal["mute", "ban"], room: str, user: str | None = None, *, network: str | None = None,
        network_of: str | None = None, seconds: float | None = None, reason: str | None = None,
    ) -> wire.Sanction:  # fmt: skip
        """Mute or ban a user by id, a network, or the network of a user; without `seconds` until it is lifted."""
        fields = {
            "kind": kind, "user": user, "network": network, "network_of": network_of, "seconds": seconds,
            "reason": reason,
        }  # fmt: skip
        given = requests.checked({name: value for name, value in fields.items() if value is not None})
        return await self._calls.request("POST", _path(room, "/sanctions"), wire.Sanction, given)

    async def sanctions(self, room: str, *, user: str | None = None) -> tuple[wire.Sanction, ...]:
        """Return up to 1,000 mutes and bans in force in a room, the newest first."""
        asked = encoded_query(user=user, limit=MOST_SANCTIONS)
        return (await self._calls.request("GET", _path(room, f"/sanctions?{asked}"), wire.Sanctions)).sanctions

    async def lift(self, room: str, sanction: int) -> wire.Sanction:
        """End a mute or ban, by its id."""
        return await self._calls.request("DELETE", _path(room, f"/sanctions/{sanction}"), wire.Sanction)

    async def kick(self, room: str, user: str, *, reason: str = "") -> int:
        """Take a user out of a room, for now; return how many connections that were."""
        given = requests.checked({"user": user, "reason": reason})
        return (await self._calls.request("POST", _path(room, "/kick"), wire.Kicked, given)).ended

    # -- identity -----------------------------------------------------------------------------------------------------

    @property
    def cookie(self) -> str:
        """Our identity at the server, for `connect(cookie=...)`: a secret."""
        return self._http.credentials.cookie

    @property
    def trouble(self) -> str | None:
        """Why there is no connection; None if there is one."""
        return self._link.trouble

    def try_now(self) -> None:
        """If there is no connection, try to connect now instead of later."""
        self._link.try_now()

    async def connected(self) -> wire.User:
        """Wait for the first connection, and return our user."""
        await self._calls.until_connected()
        assert self.user is not None
        return self.user

    async def authenticate(self, token: str) -> wire.User:
        """Sign in with this token from now on: before the old one expires, or at any time.

        Before there is an answer, the next connection begins with it, since an old one may have expired by then.
        """
        if not (token := checked_token(token)):  # over HTTP we would ask without one, as another guest
            raise Unauthenticated("unauthenticated", "this is no token")
        self._offered = token
        if self.trouble is not None and self._http.credentials.token not in {"", token}:
            self._link.restart()  # an attempt under way may have sent the old one, and its refusal would be the end
        try:
            self.user = (await self._calls.ask(requests.Auth(token=token), wire.Authenticated)).user
        except Unavailable:
            raise
        except ChatError:
            self._offered = ""
            raise
        self._http.credentials.token = token
        if self._transport == "sse":
            self._link.restart()  # an open stream stays the old user's
        return self.user

    async def rename(self, name: str) -> wire.User:
        """Become a guest with this name; this reconnects."""
        fields = {"name": requests.checked(name)}
        self.user = (await self._calls.request("POST", "/session", wire.Connected, fields)).user
        self._name, self._named = name, self.user.name
        self._link.restart()
        return self.user

    def become(self, cookie: str) -> None:
        """Be the guest of this cookie from now on; this reconnects."""
        self._http.credentials.load(cookie)
        self._name, self._named = "", None
        self._link.restart()

    # -- internals ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Conversation]:
        credentials = self._http.credentials
        if credentials.token:
            if self._offered not in {"", credentials.token}:
                self._earlier, credentials.token = self._earlier or credentials.token, self._offered
        elif self._name and self._named is None:
            response = await self._http.request("POST", "/session", {"name": self._name})
            if response.failed:
                raise response.ending
            self._named = response.decode(wire.Connected).user.name
        opener = websocket if self._transport == "ws" else partial(http_conversation, self._transport)
        async with opener(self._http.target, self._http.credentials) as conversation:
            yield conversation

    async def _run(self) -> None:
        ended: ChatError = ChatError("closed", "this chat is closed")
        try:
            with self._life:
                async with aclosing(self._http):
                    while (rejected := await self._link.run()) is not None and self._take_another_token():
                        pass
                    ended = rejected or ended
        finally:
            self._calls.end(ended)
            for feed in (*(room.events() for room in self._rooms.values()), *self._feeds(None)):
                feed.end(ended)

    def _take_another_token(self) -> bool:
        """After a refusal, go on with a token that may still be accepted. Returns whether there is one."""
        credentials = self._http.credentials
        if self._earlier:
            # With the earlier token there is a connection again, on which `authenticate` gets the refusal.
            credentials.token, self._earlier, self._offered = self._earlier, "", ""
        elif self._offered not in {"", credentials.token}:  # the old one ran out before `authenticate` had its answer
            credentials.token = self._offered
        else:
            return False
        return True

    def _feeds(self, room: str | None) -> list[Feed]:
        """The readers of the events of a room, or with None of events that concern all."""
        if self._everything is not None:
            return [self._everything]
        return [joined.events() for name, joined in self._rooms.items() if room in (None, name)]

    def _tell(self, outcome: Outcome) -> None:
        """Give an answer to its waiting caller, and an event to its readers."""
        needed = isinstance(outcome, wire.Record | events.Gap | wire.Expiring)
        match outcome:
            case Answered(id_, result):
                self._calls.answer(id_, result)
                return
            case wire.Connected(user):
                self.user, self._earlier = user, ""
                self._calls.connected()
                self._check_name(user)
            case events.Entered(resumed=False):
                needed = True
            case events.Complaint(str(room), code, message, wait) if room in self._rooms:
                self._rooms.pop(room).events().end(error_of(code, message, wait))
                needed = True
        for feed in self._feeds(getattr(outcome, "room", None)):
            if needed or not feed.full:
                feed.put(outcome)
            if feed.full and isinstance(outcome, wire.Record):
                for name in self._rooms if feed is self._everything else [outcome.room]:
                    self._session.pause(name)

    def _check_name(self, user: wire.User) -> None:
        """Ask for our name again, once, if the server has forgotten it because its log began anew."""
        if self._named is not None and user.name != self._named and not self._asked_again:
            self._named, self._asked_again = None, True
            self._link.restart()
        elif user.name == self._named:
            self._asked_again = False

    def _resume(self, rooms: Iterable[str]) -> None:
        for room in rooms:
            self._session.resume(room)
        self._link.wake()


def _path(room: str, rest: str = "") -> str:
    return f"/rooms/{quote(requests.checked(room), safe='*')}{rest}"


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str = "",
    name: str = "",
    cookie: str = "",
    transport: TransportName = "ws",
    answer_timeout: float = ANSWER_TIMEOUT,
    backoff: Backoff | None = None,
) -> AsyncIterator[Chat]:
    """Stay connected to the server at `url` until the block ends, reconnecting in the background.

    With a `token` we are its user, with a `name` a guest of that name, with the `cookie` of an earlier client the same
    guest. Raises BadUrl, Unauthenticated for what is no token, and Invalid for a name that is no Unicode. Leaving the
    block closes the connection. An exception of the block leaves it as it is, in no group.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("this library needs trio: use trio.run instead of asyncio.run")
    if transport not in get_args(TransportName):  # of a caller without types, to whom it would be a poll
        raise ValueError(f"transport {transport!r} is none of {', '.join(get_args(TransportName))}")
    http = HttpClient(parse_target(url), Credentials(token=token, cookie=cookie))
    chat = Chat(http, requests.checked(name), transport, answer_timeout, backoff)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat._run)
            try:
                yield chat
            finally:
                chat._link.leave()
                chat._life.shield = False
    except BaseExceptionGroup as group:
        _, failures = group.split(trio.Cancelled)  # the link's, if a scope around the block is cancelled
        if failures is None or len(failures.exceptions) > 1:
            raise
        only = failures.exceptions[0]
    else:
        return
    raise only  # out here, so that it gets no new context
