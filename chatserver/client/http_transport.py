"""A conversation over plain HTTP: the requests of each room in turn, and rooms by long-poll or event streams.

Owns: the HTTP form of each request, and one held poll in all or one stream for each room. May not: reconnect, or know
what was delivered; session.py drops duplicates and fills holes.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Literal, TypeVar
from urllib.parse import quote

import msgspec
import trio

from chatserver.client import requests, wire
from chatserver.client.credentials import Credentials
from chatserver.client.http1 import (
    ANSWER_TIMEOUT,
    GREETING_TIMEOUT,
    HttpClient,
    RefusedError,
    Response,
    encoded_query,
)
from chatserver.client.sse import EventStream
from chatserver.client.stream import EndedError, Target

POLL_WAIT = 25.0  # s a poll is held, as is usual: proxies cut it at 30 or 60
STREAM_SILENCE = 50.0  # s without the end of a line; the server's heartbeat, which is two, comes every 20
EARLY_ANSWER = 1.0  # s; an empty answer to a poll before this means that the server stops, or that a proxy cut it
ENTRY_LIMIT = 50  # records at first, as in a WebSocket's join
EXPIRY_NOTICE = 30.0  # s before a token ends at which that is told, as the server does over a WebSocket
MAX_QUEUED_FRAMES = 16  # frames that may wait for the session
EVERYWHERE = "*"  # in place of a room: all of them

Frame = wire.Frame | wire.Record | None
_A = TypeVar("_A", bound=wire.Answer)


class _Pages(msgspec.Struct):
    rooms: dict[str, wire.History]


class HttpConversation:
    """See the module; made by `http_conversation`."""

    def __init__(self, kind: Literal["poll", "sse"], nursery: trio.Nursery, api: HttpClient) -> None:
        self._nursery = nursery
        self._api = api
        self._waiting: dict[str, deque[requests.Request]] = {}  # by room; the first is being asked
        self._tell, self._frames = trio.open_memory_channel[Frame](MAX_QUEUED_FRAMES)
        self._places: dict[str, str] = {}  # the cursors to poll from
        self._polling = trio.CancelScope()
        self._streams: dict[str, trio.CancelScope] = {}
        self._streaming = kind == "sse"
        self._notice = trio.CancelScope()  # around the wait until the token's end is told

    async def send(self, request: requests.Request) -> None:
        """Send a request after those of the same room, which may depend on each other; rooms do not."""
        await trio.lowlevel.checkpoint()
        waiting = self._waiting.setdefault(request.room, deque())
        waiting.append(request)
        if len(waiting) == 1:
            self._nursery.start_soon(self._ask, request.room)

    async def receive(self) -> Frame:
        return await self._frames.receive()

    async def greet(self) -> None:
        """Learn our identity, so that all requests are one user's. A guest with an invalid cookie gets a new one."""
        ask = partial(self._api.request, within=GREETING_TIMEOUT)
        response = await (ask("GET", "/session") if self._api.credentials.token else ask("POST", "/session", {}))
        if response.failed:
            raise response.ending
        await self._tell.send(response.decode(wire.Connected))
        self._await_expiry(response)

    def _await_expiry(self, response: Response) -> None:
        """Take the end of the token from an answer of `/session`."""
        self._notice.cancel()
        if (left := _seconds_left(response)) is not None:
            self._notice = trio.CancelScope()
            self._nursery.start_soon(self._tell_expiry, left, self._notice)

    async def _tell_expiry(self, left: float, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(max(0.0, left - EXPIRY_NOTICE))
            await self._tell.send(wire.Expiring(min(left, EXPIRY_NOTICE)))

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _ask(self, room: str) -> None:
        waiting = self._waiting[room]
        while waiting:
            if (frame := await self._do(waiting[0])) is not None:
                await self._tell.send(frame)
            waiting.popleft()
        del self._waiting[room]

    async def _do(self, request: requests.Request) -> Frame:
        room = f"/rooms/{quote(request.room, safe='')}"
        match request:
            case requests.Leave():
                self._unfollow(request.room)
                return wire.Left(request.id)
            case requests.Join():
                return await self._join(request, f"{room}/messages")
            case requests.History():
                query = encoded_query(after=request.after, before=request.before, limit=request.limit)
                response = await self._api.request("GET", f"{room}/messages?{query}")
                return _answer(request, response, wire.History)
            case requests.Members():
                return _answer(request, await self._api.request("GET", f"{room}/members"), wire.Members)
            case requests.Auth():
                return await self._authenticate(request)
            case requests.Read():
                response = await self._api.request("PUT", f"{room}/read", {"offset": request.offset})
                return _failure(request, response) or wire.Read(request.room, request.offset, request.id)
            case requests.Typing():
                await self._api.request("POST", f"{room}/typing")
                return None
            case _:
                return _answer(request, await self._write(request, f"{room}/messages"), wire.Ack)

    async def _authenticate(self, request: requests.Auth) -> Frame:
        """Ask with the new token. The caller keeps it if it is accepted."""
        async with aclosing(HttpClient(self._api.target, Credentials(token=request.token))) as trial:
            response = await trial.request("GET", "/session")
        if not response.failed:
            self._await_expiry(response)
        return _answer(request, response, wire.Authenticated)

    async def _write(self, request: requests.Request, path: str) -> Response:
        fields: dict[str, object] = msgspec.to_builtins(request)
        body = {name: fields[name] for name in ("text", "key", "reply_to", "mentions") if name in fields}
        match request:
            case requests.Edit():
                method, path = "PATCH", f"{path}/{request.offset}"
            case requests.Delete():
                method, path = "DELETE", f"{path}/{request.offset}"
            case requests.React():
                method = "PUT" if request.on else "DELETE"
                path = f"{path}/{request.offset}/reactions/{quote(request.emoji, safe='')}"
            case _:
                method = "POST"
        return await self._api.request(method, path, body)

    async def _join(self, request: requests.Join, path: str) -> Frame:
        response = await self._api.request("GET", f"{path}?{encoded_query(after=request.after, limit=ENTRY_LIMIT)}")
        answer = _answer(request, response, wire.Joined)
        if isinstance(answer, wire.Joined):
            self._follow(request.room, answer.cursor)
        return answer

    # -- rooms --------------------------------------------------------------------------------------------------------

    def _follow(self, room: str, cursor: str) -> None:
        self._unfollow(room)
        if self._streaming:
            self._streams[room] = trio.CancelScope()
            self._nursery.start_soon(self._stream, room, cursor, self._streams[room])
        else:
            self._places[room] = cursor
            self._polling.cancel()  # the held poll does not have this room

    def _unfollow(self, room: str) -> None:
        if (stream := self._streams.pop(room, None)) is not None:
            stream.cancel()
        if self._places.pop(room, None) is not None:
            self._polling.cancel()

    async def poll(self) -> None:
        """Poll those rooms that have no stream, whichever they are."""
        while True:
            with trio.CancelScope() as self._polling:
                if not self._places:
                    await trio.sleep_forever()
                asked = trio.current_time()
                if not await self._poll_once() and trio.current_time() < asked + EARLY_ANSWER:
                    await trio.sleep(EARLY_ANSWER)

    async def _poll_once(self) -> bool:
        """Poll all rooms once, and return whether there was anything."""
        rooms = "&".join(f"room={quote(f'{room}:{place}', safe='')}" for room, place in self._places.items())
        path = f"/poll?{rooms}&wait={POLL_WAIT:g}"
        response = await self._api.request("GET", path, within=POLL_WAIT + ANSWER_TIMEOUT)
        if response.status != 200:
            if not response.is_about_rooms:
                raise response.ending
            for room in self._refused(response):
                await self._lose(room, response)
            return True
        news = False
        for room, page in response.decode(_Pages).rooms.items():
            if room not in self._places:
                continue  # left meanwhile
            news = news or bool(page.messages) or not page.recovered
            if page.recovered:
                for raw in page.messages:
                    await self._tell.send(wire.decode(bytes(raw)))
            else:
                await self._tell.send(wire.Skipped(room, page.cursor))
            if room in self._places:  # last, so that the next poll repeats a page that was cut short
                self._places[room] = page.cursor
        return news

    def _refused(self, response: Response) -> list[str]:
        """The rooms that a refused poll costs us. If the answer names none, it is the last one that was joined.

        A server may accept a poll of some rooms, but not with one more.
        """
        room = response.error.room
        if room in self._places:
            return [room]
        return list(self._places) if room == EVERYWHERE else list(self._places)[-1:]

    async def _lose(self, room: str, response: Response) -> None:
        """Leave one room and continue with the others; the session gets the same frame as over a WebSocket."""
        self._places.pop(room, None)
        await self._tell.send(msgspec.structs.replace(response.error, room=room))

    async def _stream(self, room: str, cursor: str, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._read_stream(room, cursor)
            except RefusedError as error:
                if not error.response.is_about_rooms:
                    raise
                await self._lose(room, error.response)

    async def _read_stream(self, room: str, cursor: str) -> None:
        """Read a stream until the server takes us out of the room; any other end raises EndedError."""
        path = f"/rooms/{quote(room, safe='')}/events?{encoded_query(after=cursor)}"
        events = EventStream()
        async with self._api.stream(path) as body:
            until = trio.current_time() + STREAM_SILENCE
            while (chunk := await body.chunk(until)) is not None:
                for data in events.feed(chunk):
                    frame = wire.decode(data)
                    await self._tell.send(frame)
                    if isinstance(frame, wire.Error) and frame.room is not None:
                        return
                if b"\n" in chunk:  # a proxy that scans an answer first passes on single bytes, so that we wait
                    until = trio.current_time() + STREAM_SILENCE
        raise EndedError("the event stream has ended", retry_after=events.retry)


@asynccontextmanager
async def http_conversation(
    kind: Literal["poll", "sse"], target: Target, credentials: Credentials
) -> AsyncIterator[HttpConversation]:
    """Open a conversation. Raises EndedError in a group, also inside the block."""
    async with (
        aclosing(HttpClient(target, credentials)) as api,
        trio.open_nursery() as nursery,
    ):
        conversation = HttpConversation(kind, nursery, api)
        await conversation.greet()
        nursery.start_soon(conversation.poll)
        yield conversation
        nursery.cancel_scope.cancel()


def _answer(request: requests.Request, response: Response, kind: type[_A]) -> _A | wire.Error:
    """Turn an HTTP answer into the frame that a WebSocket would have sent."""
    return _failure(request, response) or msgspec.structs.replace(response.decode(kind), id=request.id)


def _seconds_left(response: Response) -> float | None:
    """The seconds, by the server's clock, until the token of this answer ends; None for a guest, or without a clock."""
    try:
        now = parsedate_to_datetime(response.headers.get(b"date", b"").decode("latin-1"))
        return (datetime.fromisoformat(response.decode(wire.Session).expires or "") - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def _failure(request: requests.Request, response: Response) -> wire.Error | None:
    if response.is_unrouted:
        raise response.ending
    return msgspec.structs.replace(response.error, id=request.id) if response.failed else None
