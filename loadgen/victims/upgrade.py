"""The WebSocket handshake of victims and newcomers, by trio-websocket.

Owns: that a server which closes during the handshake is a failure at once. trio-websocket waits for ever for the rest
of the answer, and a victim would be out for its whole timeout where the server was gone for a moment.
"""

import trio
import trio_websocket

from loadgen.victims.victim import OperationFailedError, Stream


class _Stream(trio.abc.Stream):
    """Passes everything on, and raises when the server closes before the handshake is done."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.is_open = False  # the handshake is done

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.is_open:
            return await self._stream.receive_some(max_bytes)
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise OperationFailedError(str(error)) from error
        if not data:
            raise OperationFailedError("closed")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def upgrade(nursery: trio.Nursery, stream: Stream, host: str, path: str) -> trio_websocket.WebSocketConnection:
    """Make a WebSocket of a connection; its reader runs in the nursery, out of which a failure comes."""
    watched = _Stream(stream)
    # it takes any stream, and asks only for the addresses of those that it knows
    peer = await trio_websocket.wrap_client_stream(nursery, watched, host, path)  # type: ignore[arg-type]
    watched.is_open = True
    return peer
