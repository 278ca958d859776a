"""The WebSocket of the planted server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from wsproto.utilities import generate_accept_token

from tests.loadgen.fingerprint.plant import NEVER, LateError

if TYPE_CHECKING:
    from tests.loadgen.fingerprint.planted import Conversation


class Frames:
    """A WebSocket: pings, deadlines and limits; what is said is thrown away."""

    def __init__(self, conversation: Conversation, key: bytes) -> None:
        self.conversation = conversation
        self.plant = conversation.plant
        self.key = key
        self.data = bytearray()  # messages of 32 MiB come in 500 pieces
        self.fragments = 0
        self.message_begun = NEVER
        self.frame_begun = NEVER
        self.heard = trio.current_time()
        self.pinged = NEVER
        self.refused_at = NEVER

    async def run(self) -> None:
        accept = generate_accept_token(self.key)
        await self.conversation.stream.send_all(
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept
            + b"\r\n\r\n\x81\x05he"
        )
        await self.conversation.stream.send_all(b"llo")
        while True:
            if not await self._turn():
                return

    async def _turn(self) -> bool:
        plant = self.plant
        ping_at = self.heard + plant.ping_every if self.pinged == NEVER else NEVER
        cut_at = min(
            self.pinged + plant.pong_within,
            self.frame_begun + plant.frame_total,
            self.message_begun + plant.message_total,
            self.refused_at,
        )
        try:
            self.data += await self.conversation.receive(min(ping_at, cut_at))
        except LateError:
            if trio.current_time() >= cut_at:
                return await self._close(1008)
            self.pinged = trio.current_time()
            await self._send(0x9, b"")
            return True
        self.heard, self.pinged = trio.current_time(), NEVER
        while (found := _split(self.data)) is not None:
            first, payload, end = found
            del self.data[:end]
            self.frame_begun = NEVER
            if not await self._frame(first, payload):
                return False
        announced = _announced(self.data)
        if announced > plant.max_message and not plant.refuses_late:
            return await self._close(1009)
        if self.data and self.frame_begun == NEVER:
            self.frame_begun = trio.current_time()
        return True

    async def _frame(self, first: int, payload: bytes) -> bool:
        opcode, final = first & 0x0F, first >= 0x80
        if opcode == 0x8:
            await self._send(0x8, payload)
            return False
        if opcode == 0x9:
            await self._send(0xA, payload)
        elif opcode in {0x0, 0x1, 0x2}:
            self.fragments += 1
            self.message_begun = min(self.message_begun, trio.current_time())
            if len(payload) > self.plant.max_message and self.plant.refuses_late:
                self.refused_at = trio.current_time() + self.plant.refuses_late
            elif self.fragments > self.plant.max_fragments or len(payload) > self.plant.max_message:
                return await self._close(1009)
            if final:
                self.fragments, self.message_begun = 0, NEVER
        elif opcode != 0xA:
            return await self._close(1002)
        return True

    async def _send(self, opcode: int, payload: bytes) -> None:
        await self.conversation.stream.send_all(bytes((0x80 | opcode, len(payload))) + payload)

    async def _close(self, code: int) -> bool:
        await self._send(0x8, code.to_bytes(2) + b"planted")
        until = trio.current_time() + self.plant.close_within
        while True:
            await self.conversation.receive(until)


def _announced(data: bytearray) -> int:
    if len(data) < 10:
        return 0
    short = data[1] & 0x7F
    return short if short < 126 else int.from_bytes(data[2 : 4 if short == 126 else 10])


def _split(data: bytearray) -> tuple[int, bytes, int] | None:
    """The first whole frame and where it ends. Masks are zero, as loadgen's are."""
    if len(data) < 6:
        return None
    short = data[1] & 0x7F
    start = {126: 4, 127: 10}.get(short, 2)
    size = short if short < 126 else int.from_bytes(data[2:start])
    end = start + 4 + size
    return (data[0], bytes(data[start + 4 : end]), end) if len(data) >= end else None
