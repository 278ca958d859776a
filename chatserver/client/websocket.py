"""One WebSocket as a conversation, on trio-websocket.

Owns: the upgrade, liveness, the classification of its end, the close. May not: know what a frame means.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import h11
import msgspec
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason, FrameProtocol
from wsproto.utilities import LocalProtocolError

from chatserver.client import wire
from chatserver.client.credentials import Credentials
from chatserver.client.http1 import CONNECT_TIMEOUT, GREETING_TIMEOUT, Response
from chatserver.client.requests import Request
from chatserver.client.stream import EndedError, Target, WatchedStream, dial

CLOSE_TIMEOUT = 2.0  # s for the close handshake
FAREWELL_TIMEOUT = 0.2  # s for a close frame without one, when we are cancelled and the send buffer is full
SILENCE = 30.0  # s without a byte before we send a ping; the server pings every 25, so that is rare
PATIENCE = 5.0  # s, the same while an answer is awaited: a caller waits 30 s for it, reconnects included
PONG_TIMEOUT = 10.0  # s for any bytes after our ping
MAX_FRAME = 8 << 20  # B; 200 messages of history at 16 KiB, and JSON's overhead
MAX_REFUSAL = 1 << 20  # B of an answer to the upgrade; pages of proxies have less
MAX_QUEUED_FRAMES = 16  # frames that wait for us before the socket is no longer read

_CODES_FINAL = frozenset({1002, 1007})  # the server does not understand us: "do not come back" in its docs
_FINAL_RANGE = range(4500, 5000)  # the same, for the server's own codes
_NO_CLOSE_FRAME = 1006  # RFC 6455 section 7.1.5


class WebSocketConversation:
    """See the module; made by `websocket`."""

    def __init__(self, socket: WebSocketConnection, stream: WatchedStream) -> None:
        self._socket = socket
        self._stream = stream

    async def send(self, request: Request) -> None:
        self._stream.last_asked = trio.current_time()
        try:
            await self._socket.send_message(msgspec.json.encode(request).decode())
        except ConnectionClosed as closed:
            raise self._ending(closed) from None

    async def receive(self) -> wire.Frame | wire.Record | None:
        try:
            frame = await self._socket.get_message()
        except ConnectionClosed as closed:
            raise self._ending(closed) from None
        if isinstance(frame, bytes):
            raise wire.ProtocolError("a binary frame")
        return wire.decode(frame)

    def _ending(self, error: ConnectionClosed) -> EndedError:
        closed = error.reason
        if closed is None or closed.code == _NO_CLOSE_FRAME:
            return EndedError("the connection was lost")
        words = closed.reason or closed.name.lower().replace("_", " ")
        # trio-websocket also gives our own reasons for a close, as if they were the server's.
        if self._socket._wsproto.state is not ConnectionState.CLOSED:
            return EndedError(f"the server sent a bad frame: {words}")
        why = f"the server closed the connection: {words} ({closed.code})"
        return EndedError(why, final=closed.code in _CODES_FINAL or closed.code in _FINAL_RANGE, code=closed.code)


@asynccontextmanager
async def websocket(target: Target, credentials: Credentials) -> AsyncIterator[WebSocketConversation]:
    """Open a conversation. Raises EndedError in a group, also inside the block when the server goes silent."""
    upgraded = False
    try:
        async with await dial(target, timeout=CONNECT_TIMEOUT) as stream, trio.open_nursery() as nursery:
            with trio.move_on_after(GREETING_TIMEOUT) as patience:
                stream.allowance = MAX_REFUSAL
                socket = await wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type]  # any trio.abc.Stream will do
                    target.authority,
                    target.path,
                    extra_headers=credentials.fields,
                    max_message_size=MAX_FRAME,
                    message_queue_size=MAX_QUEUED_FRAMES,
                )
            if patience.cancelled_caught:
                raise EndedError(f"no answer within {GREETING_TIMEOUT:g} s")
            upgraded = stream.upgraded = True
            stream.allowance = math.inf
            credentials.take(socket.handshake_headers)
            nursery.start_soon(_watch, socket, stream)
            try:
                yield WebSocketConversation(socket, stream)
            except BaseException:
                if socket.closed is None:
                    await _send_close(stream)
                raise
            with trio.move_on_after(CLOSE_TIMEOUT):
                await socket.aclose()
            nursery.cancel_scope.cancel()
    except* ConnectionRejected as rejected:  # raised by trio-websocket's own task
        raise _refusal(rejected.exceptions[0]) from None
    except* (LocalProtocolError, h11.LocalProtocolError):
        # wsproto cannot reject, as a client; later, it answers no ping on a connection that was found lost
        why = "the connection was lost" if upgraded else "the server does not speak WebSocket"
        raise EndedError(why) from None


async def _send_close(stream: WatchedStream) -> None:
    """Send a close frame; nothing is left that could read the peer's answer."""
    frame = FrameProtocol(client=True, extensions=[]).close(CloseReason.NORMAL_CLOSURE)
    with (
        suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError),
        trio.move_on_after(FAREWELL_TIMEOUT, shield=True),
    ):
        await stream.send_all(frame)


async def _watch(socket: WebSocketConnection, stream: WatchedStream) -> None:
    """Raise EndedError when no bytes come, not even in answer to a ping."""
    while True:
        await trio.sleep(PATIENCE)
        last_received = stream.last_received
        silence = trio.current_time() - last_received
        if silence < (PATIENCE if stream.last_asked > last_received else SILENCE):
            continue
        with trio.move_on_after(PONG_TIMEOUT):
            try:
                await socket.ping()
            except ConnectionClosed:
                return  # `receive` reports it
        if stream.last_received == last_received:
            raise EndedError("the server has gone silent")


def _refusal(error: BaseException) -> EndedError:
    """Turn an HTTP answer to the upgrade into an EndedError."""
    assert isinstance(error, ConnectionRejected)
    headers = {name.lower(): value for name, value in error.headers or ()}
    return Response(error.status_code, headers, bytes(error.body or b"")).ending
