"""A WebSocket on a line: the upgrade by h11, the frames by wsproto.

Owns: what victims and fingerprints say and hear by WebSocket, each in a task of its own; a crowd has `wire.py`. Raises
the errors of `line.py` and two of its own.
"""

from contextlib import suppress
from typing import Final

import trio
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from loadgen.net import wire
from loadgen.net.line import EndedError, Exchange, GarbledError, Line

#: Of one message; a longer one is a failure, as it is in most clients.
MAX_MESSAGE_BYTES: Final = 1024 * 1024

#: The failure of a server whose messages a page's script would get as a Blob.
BINARY: Final = "a binary message, where text was sent"

#: Time for the server's half of the closing handshake.
LEAVE_SECONDS: Final = 1.0


class RejectedError(Exception):
    """The server answered the upgrade with something else than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered {status}")
        self.status = status


class ClosedError(Exception):
    """The server sent a close frame; the text has its code and reason."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class WebSocket:
    def __init__(self, line: Line, rest: bytes = b"") -> None:
        self.line = line
        self._protocol = FrameProtocol(client=True, extensions=[])
        self._protocol.receive_bytes(rest)

    async def frame(self) -> Frame:
        """Wait for the next frame, or for a part of it if it is long."""
        while True:
            try:
                frame = next(self._protocol.received_frames(), None)
            except ParseFailed as error:
                raise GarbledError(f"the bytes are no WebSocket: {error}") from None
            if frame is not None:
                return frame
            self._protocol.receive_bytes(await self.line.receive())

    async def message(self) -> bytes:
        """Wait for the next message; control frames are answered meanwhile."""
        whole = bytearray()
        while True:
            frame = await self.frame()
            if frame.opcode is Opcode.PING:
                await self.pong(frame)
            elif frame.opcode is Opcode.CLOSE:
                with suppress(EndedError):
                    await self._close()
                raise ClosedError(close_words(frame), close_code(frame))
            elif frame.opcode is Opcode.BINARY:
                raise GarbledError(BINARY)
            elif not frame.opcode.iscontrol():
                whole += payload_of(frame)
                if len(whole) > MAX_MESSAGE_BYTES:
                    raise GarbledError(f"a message of more than {MAX_MESSAGE_BYTES:,} bytes")
                if frame.message_finished:
                    return bytes(whole)

    async def send(self, text: str) -> None:
        await self.line.send(bytes(self._protocol.send_data(text)))

    async def pong(self, ping: Frame) -> None:
        await self.line.send(bytes(self._protocol.pong(payload_of(ping))))

    async def close(self) -> None:
        """Close in good order, as far as the server takes part in that."""
        with trio.move_on_after(LEAVE_SECONDS):
            await self._close()
            while (await self.frame()).opcode is not Opcode.CLOSE:
                pass

    async def _close(self) -> None:
        await self.line.send(bytes(self._protocol.close(1000)))


async def upgrade(line: Line, path: str, host: str, *fields: str) -> WebSocket:
    exchange = Exchange(line)
    await line.send(wire.upgrade_request(path, host, *fields))
    answer = await exchange.begin()
    if answer.status != 101:
        raise RejectedError(answer.status)
    try:
        wire.check_upgrade(answer.fields)
    except wire.WireError as error:
        raise GarbledError(str(error)) from None
    return WebSocket(line, exchange.rest)


def payload_of(frame: Frame) -> bytes:
    assert not isinstance(frame.payload, tuple), "it is no close frame"
    return frame.payload.encode() if isinstance(frame.payload, str) else bytes(frame.payload)


def close_code(frame: Frame) -> int:
    assert isinstance(frame.payload, tuple), "it is a close frame"
    return int(frame.payload[0])


def close_words(frame: Frame) -> str:
    assert isinstance(frame.payload, tuple), "it is a close frame"
    reason = frame.payload[1]
    return f"close {close_code(frame)}" + (f" {reason!r}" if reason else "")
