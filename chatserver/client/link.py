"""The trio part of the client: one WebSocket after another under one `Session`.

Owns: connecting, reconnecting and the delays before that, the guest's cookie. May not: know what a frame means
(session.py does), or read and write one connection (conversation.py does).

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
from typing import NoReturn

import trio
import trio_websocket

from chatserver.client.conversation import Bell, Conversation, RejectedError
from chatserver.client.events import Event, Reconnecting
from chatserver.client.session import Session
from chatserver.client.stream import Ear, EndedError, Target, dial, parse_target

CONNECT_TIMEOUT = 10.0  # s for TCP and TLS, and again for the upgrade
CLOSE_TIMEOUT = 2.0  # s for a polite goodbye
MAX_FRAME = 8 << 20  # B; 200 messages of history at 16 KiB, and JSON's share
EVENTS_AHEAD = 100  # events that wait for a reader before we stop reading the socket
FIRST_DELAY = 0.5  # s; the mean first wait is half of it
LONGEST_DELAY = 30.0  # s; Phoenix 5, Centrifugo and Engine.IO 5-20; a restart takes less
ASKED_SPREAD = 0.25  # of what the server asked for, on top
STEADY_AFTER = 10.0  # s a connection must live for earlier failures to be forgotten

_STATUS_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


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

    def __init__(self, target: Target, rooms: Iterable[str], backoff: Backoff) -> None:
        self._target = target
        self._session = Session(rooms)
        self._backoff = backoff
        self._bell = Bell()
        self._emit, self._events = trio.open_memory_channel[Event](EVENTS_AHEAD)
        self._cookies: dict[str, str] = {}
        self._talking: trio.CancelScope | None = None  # around the conversation, while there is one
        self._leaving = False
        self._rejection: str | None = None

    @property
    def unacknowledged(self) -> int:
        """How many texts are published and neither acknowledged nor refused."""
        return self._session.unacknowledged

    def publish(self, room: str, text: str) -> str:
        """Publish in the order of calls; `Acknowledged` or `Refused` comes with the key returned."""
        key = self._session.publish(room, text)
        self._bell.ring()
        return key

    def __aiter__(self) -> "Client":
        """Iterate over what happens, for ever."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; raises `RejectedError` when it is no use trying again."""
        try:
            return await self._events.receive()
        except trio.EndOfChannel:
            raise RejectedError(self._rejection or "the client was closed") from None

    async def _run(self) -> None:
        async with self._emit:
            while True:
                started = trio.current_time()
                try:
                    await self._one_connection()
                except RejectedError as rejected:
                    self._rejection = str(rejected)
                    return
                except EndedError as ended:
                    if self._leaving:
                        return
                    self._backoff.lived(trio.current_time() - started)
                    delay = self._backoff.delay(asked=ended.asked)
                    await self._emit.send(Reconnecting(str(ended), delay))
                    await trio.sleep(delay)

    async def _one_connection(self) -> NoReturn:
        """Connect and converse until it is over; always ends by raising how it ended."""
        ear = await dial(self._target, timeout=CONNECT_TIMEOUT)
        ending: RejectedError | EndedError | None = None
        try:
            async with trio.open_nursery() as nursery:
                ending = await self._over(ear, nursery)
                nursery.cancel_scope.cancel()
        except* trio_websocket.ConnectionRejected as rejections:  # raised by trio-websocket's own task
            (rejection,) = rejections.exceptions
            assert isinstance(rejection, trio_websocket.ConnectionRejected)
            ending = _rejection(rejection)
        finally:
            await trio.aclose_forcefully(ear)
        assert ending is not None
        raise ending

    async def _over(self, ear: Ear, nursery: trio.Nursery) -> RejectedError | EndedError:
        """Upgrade, converse, and return how that ended."""
        with trio.move_on_after(CONNECT_TIMEOUT) as handshake:
            nursery.start_soon(_cancel_at_end, ear, handshake)
            socket = await trio_websocket.wrap_client_stream(
                nursery,
                ear,  # type: ignore[arg-type]  # any trio.abc.Stream will do
                self._target.authority,
                self._target.path,
                extra_headers=self._headers(),
                max_message_size=MAX_FRAME,
                message_queue_size=16,
            )
        if handshake.cancelled_caught:
            hung_up = ear.over.is_set()
            return EndedError("hung up on" if hung_up else f"no answer within {CONNECT_TIMEOUT:g} s")
        self._keep_cookies(socket.handshake_headers)
        self._session.opened()
        conversation = Conversation(socket, ear, self._session, self._bell, self._emit)
        with trio.CancelScope() as self._talking:
            await conversation.run()
        self._talking = None
        events = self._session.closed(socket.closed.code if socket.closed is not None else None)
        ending = conversation.ending()
        if not self._leaving:  # else nobody takes events any more
            for event in events:
                await self._emit.send(event)
        with trio.move_on_after(CLOSE_TIMEOUT):
            await socket.aclose()
        return ending

    def _headers(self) -> list[tuple[bytes, bytes]]:
        if not self._cookies:
            return []
        value = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return [(b"Cookie", value.encode("latin-1"))]

    def _keep_cookies(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember who the server says we are, so that we are the same guest when we come back."""
        for name, value in headers:
            if name.lower() != b"set-cookie":
                continue
            try:
                cookies = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            for key, morsel in cookies.items():
                if morsel["max-age"] == "0":
                    self._cookies.pop(key, None)
                else:
                    self._cookies[key] = morsel.coded_value

    def _leave(self, nursery: trio.Nursery) -> None:
        """End `_run`: politely if there is a connection, at once if not."""
        self._leaving = True
        (self._talking or nursery.cancel_scope).cancel()


@asynccontextmanager
async def connect(url: str, *, rooms: Iterable[str] = (), backoff: Backoff | None = None) -> AsyncIterator[Client]:
    """Be in `rooms` of the server at `url` until the block ends; connects in the background.

    Raises `BadUrlError`. Leaving the block says goodbye; `client.unacknowledged` tells what it would lose.
    """
    client = Client(parse_target(url), rooms, backoff or Backoff())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client._run)
        try:
            yield client
        finally:
            client._leave(nursery)


async def _cancel_at_end(ear: Ear, scope: trio.CancelScope) -> None:
    await ear.over.wait()
    scope.cancel()


def _rejection(error: trio_websocket.ConnectionRejected) -> RejectedError | EndedError:
    """Turn an HTTP answer to the upgrade into what to do about it."""
    words = f"the server answered {error.status_code}"
    with suppress(ValueError, KeyError, TypeError):  # not our server's kind of body: the status says enough
        words += f": {json.loads(error.body or b'')['error']['message']}"
    if error.status_code not in _STATUS_MAY_PASS:
        return RejectedError(words)
    asked = None
    for name, value in error.headers or ():
        if name.lower() == b"retry-after" and value.isdigit():
            asked = float(value)
    return EndedError(words, asked=asked)
