"""The WebSocket of the planted server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed
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
        self.protocol = FrameProtocol(client=False, extensions=[])
        self.fragments = 0
        self.size = 0  # of the message so far
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
        while await self._turn():
            pass

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
            self.protocol.receive_bytes(await self.conversation.receive(min(ping_at, cut_at)))
        except LateError:
            if trio.current_time() >= cut_at:
                return await self._close(1008)
            self.pinged = trio.current_time()
            await self._send(0x9, b"")
            return True
        self.heard, self.pinged = trio.current_time(), NEVER
        try:
            for frame in self.protocol.received_frames():
                if not await self._frame(frame):
                    return False
        except ParseFailed as error:
            return await self._close(error.code)
        return True

    async def _frame(self, frame: Frame) -> bool:
        """Take a frame, or the part of it that has come."""
        if frame.opcode is Opcode.CLOSE:
            await self._send(0x8, b"")
            return False
        if frame.opcode is Opcode.PING:
            await self._send(0xA, bytes(frame.payload))  # type: ignore[arg-type]
        if frame.opcode.iscontrol():
            return True
        now = trio.current_time()
        self.fragments += frame.frame_finished
        self.size += len(frame.payload)
        self.frame_begun = NEVER if frame.frame_finished else min(self.frame_begun, now)
        self.message_begun = min(self.message_begun, now)
        if self.size > self.plant.max_message and self.plant.refuses_late:
            self.refused_at = now + self.plant.refuses_late
        elif self.fragments > self.plant.max_fragments or self.size > self.plant.max_message:
            return await self._close(1009)
        if frame.message_finished:
            self.fragments, self.size, self.message_begun = 0, 0, NEVER
        return True

    async def _send(self, opcode: int, payload: bytes) -> None:
        await self.conversation.stream.send_all(bytes((0x80 | opcode, len(payload))) + payload)

    async def _close(self, code: int) -> bool:
        await self._send(0x8, code.to_bytes(2) + b"planted")
        until = trio.current_time() + self.plant.close_within
        while True:
            await self.conversation.receive(until)
