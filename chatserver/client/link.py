"""The trio part of the client: one WebSocket after another under one `Session`.

Owns: connecting, reconnecting, the guest's cookie. May not: know what a frame means (session.py does), or
read and write one connection (conversation.py does).

    async with connect("http://127.0.0.1:8000", rooms=["lobby"]) as client:
        client.publish("lobby", "hello")
        async for event in client.events():
            ...

Events must be read: what the reader does not take stays with the server, which in time skips ahead of us
(`gap`), and we then fetch the rest from the history. Nothing is lost by being slow.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from http.cookies import CookieError, SimpleCookie
from typing import NoReturn

import trio
import trio_websocket

from chatserver.client.backoff import Backoff
from chatserver.client.conversation import Bell, Conversation, EndedError, RejectedError
from chatserver.client.events import Event, Reconnecting
from chatserver.client.session import Session
from chatserver.client.urls import websocket_url

CONNECT_TIMEOUT = 10.0  # s for TCP, TLS and the upgrade together
CLOSE_TIMEOUT = 2.0  # s for a polite goodbye
MAX_FRAME = 8 << 20  # B; 200 messages of history at 16 KiB, and JSON's share
EVENTS_AHEAD = 100  # events that wait for a reader before we stop reading the socket

_STATUS_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Client:
    """A user in some rooms, whatever happens to the connection. Made by `connect`."""

    def __init__(self, url: str, rooms: Iterable[str], backoff: Backoff) -> None:
        self._url = url
        self._session = Session(rooms)
        self._backoff = backoff
        self._bell = Bell()
        self._emit, self._events = trio.open_memory_channel[Event](EVENTS_AHEAD)
        self._cookies: dict[str, str] = {}
        self._socket: trio_websocket.WebSocketConnection | None = None
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

    async def events(self) -> AsyncIterator[Event]:
        """Yield what happens, for ever; raises `RejectedError` when it is no use trying again."""
        async for event in self._events:
            yield event
        raise RejectedError(self._rejection or "the client was closed")

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
                    self._backoff.lived(trio.current_time() - started)
                    delay = self._backoff.delay(asked=ended.asked)
                    await self._emit.send(Reconnecting(ended.why, delay))
                    await trio.sleep(delay)

    async def _one_connection(self) -> NoReturn:
        """Connect and converse until it is over; always ends by raising how it ended."""
        ending: RejectedError | EndedError | None = None
        try:
            async with trio_websocket.open_websocket_url(
                self._url,
                extra_headers=self._headers(),
                max_message_size=MAX_FRAME,
                message_queue_size=16,
                connect_timeout=CONNECT_TIMEOUT,
                disconnect_timeout=CLOSE_TIMEOUT,
            ) as socket:
                self._keep_cookies(socket.handshake_headers)
                self._socket = socket
                self._session.opened()
                conversation = Conversation(socket, self._session, self._bell, self._emit)
                try:
                    await conversation.run()
                finally:
                    self._socket = None
                    reason = socket.closed
                    events = self._session.closed(reason.code if reason is not None else None)
                ending = conversation.ending()
                for event in events:
                    await self._emit.send(event)
        except trio_websocket.ConnectionRejected as error:
            raise _rejection(error) from error
        except trio_websocket.ConnectionTimeout as error:
            raise EndedError(f"no answer within {CONNECT_TIMEOUT:g} s") from error
        except trio_websocket.DisconnectionTimeout:
            pass  # it did not say goodbye; why we ended it is known
        except trio_websocket.HandshakeError as error:
            raise EndedError(_os_words(error.__cause__)) from error
        assert ending is not None
        raise ending

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

    async def _goodbye(self) -> None:
        """Close politely, if there is a connection, even when we are being cancelled."""
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            if self._socket is not None:
                await self._socket.aclose()


@asynccontextmanager
async def connect(url: str, *, rooms: Iterable[str] = (), backoff: Backoff | None = None) -> AsyncIterator[Client]:
    """Be in `rooms` of the server at `url` until the block ends; connects in the background.

    Raises `BadUrlError`. Leaving the block says goodbye; `client.unacknowledged` tells what it would lose.
    """
    client = Client(websocket_url(url), rooms, backoff or Backoff())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client._run)
        try:
            yield client
        finally:
            await client._goodbye()
            nursery.cancel_scope.cancel()


def _rejection(error: trio_websocket.ConnectionRejected) -> Exception:
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


def _os_words(error: BaseException | None) -> str:
    """Return the kernel's own words for why a connection could not be made."""
    while isinstance(error, OSError) and error.strerror is None and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):  # one for each address that was tried
        error = error.exceptions[0]
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error or "failed")
    return f"cannot connect: {words}"
