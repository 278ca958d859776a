"""The trio part of the client: one WebSocket after another under one `Session`.

Owns: connecting, the tasks of an open connection, the verdict on how it ended, the delay before the next, and the
guest's cookie. May not: know what a frame means (session.py does).

    async with connect("http://127.0.0.1:8000", rooms=["lobby"]) as client:
        client.publish("lobby", "hello")
        async for event in client:
            ...

Events must be read: what the reader does not take stays with the server, which in time skips ahead of us
(`gap`), and we then fetch the rest from the history. Nothing is lost by being slow.
"""

import json
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

import trio
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from chatserver.client.events import Event, GoingAway, Reconnecting
from chatserver.client.session import Session
from chatserver.client.stream import EndedError, Target, WatchedStream, dial, parse_target
from chatserver.client.wire import ProtocolError

CONNECT_TIMEOUT = 10.0  # s for TCP and TLS, and again for the upgrade
CLOSE_TIMEOUT = 2.0  # s for a polite goodbye
SILENCE = 30.0  # s without a byte before we ask; the server pings every 25, so we rarely need to
PONG_TIMEOUT = 10.0  # s for anything at all to come back
MAX_FRAME = 8 << 20  # B; 200 messages of history at 16 KiB, and JSON's share
EVENTS_AHEAD = 100  # events that wait for a reader before we stop reading the socket
FIRST_DELAY = 0.5  # s; the mean first wait is half of it
LONGEST_DELAY = 30.0  # s; Phoenix 5, Centrifugo and Engine.IO 5-20; a restart takes less
ASKED_SPREAD = 0.25  # of what the server asked for, on top
STEADY_AFTER = 10.0  # s a connection must live for earlier failures to be forgotten

_STATUS_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CODES_FINAL = frozenset({1002, 1007})  # the server cannot make sense of us: "do not come back" in reasons.py
_FINAL_RANGE = range(4500, 5000)  # the same, for codes of the server's own
_NO_CLOSE_FRAME = 1006  # RFC 6455 7.1.5


class RejectedError(Exception):
    """The server does not want this client back, whatever it does."""


class _Ending(NamedTuple):
    """How a connection ended."""

    why: str
    asked: float | None = None  # s after which the server wants us back, if it said so
    final: bool = False  # the server does not want us back


class Backoff:
    """Counts failures in a row and turns them into delays: exponential, with full jitter as AWS's blog recommends.

    So ten thousand clients do not come back at once. What the server asked for (`Retry-After`, `goaway`) comes first,
    and is spread a little as well.
    """

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0

    def delay(self, *, asked: float | None) -> float:
        """Return the seconds to wait now; `asked` is what the server wants, if it said so."""
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        if asked is not None:
            return asked * (1 + ASKED_SPREAD * self._jitter())
        return ceiling * self._jitter()

    def lived(self, seconds: float) -> None:
        """Note how long a connection lasted."""
        if seconds >= STEADY_AFTER:
            self._failures = 0


class Client:
    """A user in some rooms, whatever happens to the connection. Made by `connect`."""

    def __init__(self, target: Target, rooms: Iterable[str], cookie: str, backoff: Backoff) -> None:
        self._target = target
        self._session = Session(rooms)
        self._backoff = backoff
        self._emit, self._events = trio.open_memory_channel[Event](EVENTS_AHEAD)
        self._news = trio.Event()  # set when the session may have something to send
        self._goaway: GoingAway | None = None  # of this connection
        self._cookies = SimpleCookie()
        self._keep_cookies(cookie)
        self._talking: trio.CancelScope | None = None  # around an open connection's tasks
        self._leaving = False
        self._rejection = "the client was closed"

    @property
    def unacknowledged(self) -> int:
        """How many texts are published and neither acknowledged nor refused."""
        return self._session.unacknowledged

    @property
    def cookie(self) -> str:
        """Who we are to the server, as `connect` takes it: a secret."""
        return self._cookies.output(attrs=[], header="", sep=";").strip()

    def publish(self, room: str, text: str) -> str:
        """Publish in the order of calls; `Acknowledged` or `Refused` comes with the key returned."""
        key = self._session.publish(room, text)
        self._news.set()
        return key

    def join(self, room: str) -> None:
        """Be in a further room: `Entered` comes, or `Complaint`."""
        self._session.join(room)
        self._news.set()

    def leave(self, room: str) -> None:
        """Be in a room no more."""
        self._session.leave(room)
        self._news.set()

    def ask_members(self, room: str) -> None:
        """Ask who is in a room; `Members` comes, if there is a connection."""
        self._session.ask_members(room)
        self._news.set()

    def __aiter__(self) -> "Client":
        """Iterate over what happens, for ever."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; raises `RejectedError` when it is no use trying again."""
        try:
            return await self._events.receive()
        except trio.EndOfChannel:
            raise RejectedError(self._rejection) from None

    async def _run(self) -> None:
        async with self._emit:
            while True:
                started = trio.current_time()
                ending = await self._one_connection()
                if ending.final:
                    self._rejection = ending.why
                    return
                if self._leaving:
                    return
                self._backoff.lived(trio.current_time() - started)
                delay = self._backoff.delay(asked=ending.asked)
                await self._emit.send(Reconnecting(ending.why, delay))
                await trio.sleep(delay)

    async def _one_connection(self) -> _Ending:
        """Connect and converse until it is over."""
        ending = _Ending(f"no answer within {CONNECT_TIMEOUT:g} s")
        try:
            async with await dial(self._target, timeout=CONNECT_TIMEOUT) as stream, trio.open_nursery() as nursery:
                ending = await self._converse(stream, nursery)
                nursery.cancel_scope.cancel()
        except* trio.TooSlowError:
            pass  # no answer to the upgrade
        except* EndedError as ended:
            ending = _Ending(str(ended.exceptions[0]))
        except* ConnectionRejected as rejected:  # raised by trio-websocket's own task
            ending = _refusal(rejected.exceptions[0])
        return ending

    async def _converse(self, stream: WatchedStream, nursery: trio.Nursery) -> _Ending:
        """Upgrade; receive, send and watch until one of these finds the connection over; say goodbye."""
        with trio.fail_after(CONNECT_TIMEOUT):
            socket = await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # any trio.abc.Stream will do
                self._target.authority,
                self._target.path,
                extra_headers=[(b"Cookie", self.cookie.encode("latin-1"))] if self.cookie else [],
                max_message_size=MAX_FRAME,
                message_queue_size=16,
            )
        stream.upgraded = True
        for name, value in socket.handshake_headers:
            if name == b"set-cookie":
                self._keep_cookies(value.decode("latin-1"))
        self._session.opened()
        self._goaway = None
        why: str | None = None
        try:
            async with trio.open_nursery() as tasks:
                self._talking = tasks.cancel_scope
                tasks.start_soon(self._receive, socket)
                tasks.start_soon(self._send, socket)
                tasks.start_soon(_watch, socket, stream)
        except* ConnectionClosed:
            pass  # the socket knows how
        except* ProtocolError as errors:
            why = f"the server does not speak chat.v1: {errors.exceptions[0]}"
        except* EndedError as ended:
            why = str(ended.exceptions[0])
        self._talking = None
        closed = socket.closed
        refused = self._session.closed(closed.code if closed is not None else None)
        if not self._leaving:  # else nobody takes events any more
            for event in refused:
                await self._emit.send(event)
        with trio.move_on_after(CLOSE_TIMEOUT):
            await socket.aclose()
        return self._ending(closed, why)

    async def _receive(self, socket: WebSocketConnection) -> None:
        while True:
            frame = await socket.get_message()
            if isinstance(frame, bytes):
                raise ProtocolError("a binary frame")
            events = self._session.receive(frame, trio.current_time())
            self._news.set()
            for event in events:
                if isinstance(event, GoingAway):
                    self._goaway = event
                await self._emit.send(event)

    async def _send(self, socket: WebSocketConnection) -> None:
        while True:
            self._news = trio.Event()
            for frame in self._session.outgoing(trio.current_time()):
                await socket.send_message(frame)
            with trio.move_on_at(self._session.next_time()):
                await self._news.wait()

    def _ending(self, closed: CloseReason | None, why: str | None) -> _Ending:
        asked = None
        if self._goaway is not None:
            why, asked = f"the server is going away: {self._goaway.reason}", self._goaway.retry_after
        if closed is None or closed.code == _NO_CLOSE_FRAME:
            return _Ending(why or "the connection was lost", asked)
        words = f"{closed.code} {closed.reason or closed.name.lower().replace('_', ' ')}"
        if closed.code in _CODES_FINAL or closed.code in _FINAL_RANGE:
            return _Ending(f"the server closed the connection for good: {words}", final=True)
        return _Ending(why or f"the server closed the connection: {words}", asked)

    def _keep_cookies(self, text: str) -> None:
        """Remember who the server says we are, so that we are the same guest when we come back."""
        with suppress(CookieError):
            self._cookies.load(text)

    def _leave(self, nursery: trio.Nursery) -> None:
        """End `_run`: politely if there is a connection, at once if not."""
        self._leaving = True
        (self._talking or nursery.cancel_scope).cancel()


@asynccontextmanager
async def connect(
    url: str, *, rooms: Iterable[str] = (), cookie: str = "", backoff: Backoff | None = None
) -> AsyncIterator[Client]:
    """Be in `rooms` of the server at `url` until the block ends; connects in the background.

    With the `cookie` of an earlier client we are the same user, if the server still knows it.
    Raises `BadUrlError`. Leaving the block says goodbye; `client.unacknowledged` tells what it would lose.
    """
    client = Client(parse_target(url), rooms, cookie, backoff or Backoff())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client._run)
        try:
            yield client
        finally:
            client._leave(nursery)


async def _watch(socket: WebSocketConnection, stream: WatchedStream) -> None:
    """Raise EndedError when nothing comes, not even the answer to a ping.

    Not judged while our own user is slow to take events: nobody listens then, and bytes wait.
    """
    while True:
        heard = stream.heard
        await trio.sleep_until(heard + SILENCE)
        if stream.heard > heard:
            continue
        with trio.move_on_after(PONG_TIMEOUT):
            await socket.ping()
        if stream.heard == heard and stream.listening:
            raise EndedError("the server has gone silent")


def _refusal(error: BaseException) -> _Ending:
    """Turn an HTTP answer to the upgrade into what to do about it."""
    assert isinstance(error, ConnectionRejected)
    why = f"the server answered {error.status_code}"
    with suppress(ValueError, KeyError, TypeError):  # not our server's kind of body: the status says enough
        why += f": {json.loads(error.body or b'')['error']['message']}"
    asked = dict(error.headers or ()).get(b"retry-after", b"")
    seconds = float(asked) if asked.isdigit() else None
    return _Ending(why, seconds, final=error.status_code not in _STATUS_MAY_PASS)
