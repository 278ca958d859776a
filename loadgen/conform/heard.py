"""Everything that a server sends in a case, parsed.

Owns: the parsing, which is wsproto's strict decoder, and the expected order of the replies. A frame that no server may
send is a fault. May not: send, wait, or judge.
"""

from collections import deque
from itertools import takewhile
from typing import Final

from wsproto.frame_protocol import Frame, FrameDecoder, MessageDecoder, Opcode, ParseFailed

from loadgen import wire
from loadgen.conform.case import Kind, Said, Script
from loadgen.conform.utf8 import is_valid
from loadgen.line import Ending

#: Payload of the ping that checks whether the connection is still open.
PROBE: Final = b"still there?"

_KINDS: Final = {Opcode.TEXT: Kind.TEXT, Opcode.BINARY: Kind.BINARY, Opcode.PONG: Kind.PONG, Opcode.CLOSE: Kind.CLOSE}

#: Codes that a close frame may have: RFC 6455 section 7.4, and those that IANA has registered since.
_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class Heard:
    def __init__(self, script: Script) -> None:
        self.head: wire.Head | None = None
        self.missing = deque(script.hears)
        self.unexpected: Said | None = None
        self.close: Said | None = None
        self.pinged: list[bytes] = []  # payloads of the server's pings that are not answered yet
        self.alive = False  # the probe was answered
        self.late = False  # everything was sent before the server closed
        self.fault = ""
        self.ended: Ending | None = None
        self._unread = b""
        self._frames = FrameDecoder(client=True, extensions=[])
        self._messages = MessageDecoder()
        self._parts: list[bytes] = []

    @property
    def opened(self) -> bool:
        return self.head is not None and self.head.status == 101

    def feed(self, data: bytes) -> None:
        try:
            if self.head is None:
                self._unread += data
                self.head = wire.read_head(self._unread)
                data = b"" if self.head is None else self._unread[self.head.size :]
            if self.opened:
                self._frames.receive_bytes(data)
                while not self.fault and (frame := self._frames.process_buffer()) is not None:
                    self._note(frame)
        except (ParseFailed, wire.WireError) as error:
            self.fault = f"sends what it may not: {error}"

    def _note(self, frame: Frame) -> None:
        if self.close is not None:
            self.fault = "goes on after its close frame"
        elif frame.opcode is Opcode.PING:
            self.pinged.append(_payload(frame))
        elif frame.opcode.iscontrol():
            self._take(Said(_KINDS[frame.opcode], _payload(frame)))
        else:
            frame = self._messages.process_frame(frame)
            self._parts.append(_payload(frame))
            if frame.message_finished:
                self._take(Said(_KINDS[frame.opcode], b"".join(self._parts)))
                self._parts.clear()

    def _take(self, said: Said) -> None:
        if said.kind is Kind.CLOSE:
            self.close = said
            self.fault = _wrong_close(said.payload)
        elif said == Said(Kind.PONG, PROBE):
            self.alive = True
        elif said in takewhile(lambda each: each.kind is Kind.PONG, self.missing):
            while self.missing.popleft() != said:  # a pong may answer several pings: section 5.5.3
                pass
        elif self.missing and said == self.missing[0]:
            self.missing.popleft()
        else:
            self.unexpected = self.unexpected or said


def _payload(frame: Frame) -> bytes:
    assert not isinstance(frame.payload, tuple), "close frames are read here"
    return frame.payload.encode() if isinstance(frame.payload, str) else bytes(frame.payload)


def _wrong_close(payload: bytes) -> str:
    if not is_valid(payload[2:]):
        return "closes with a reason that is not UTF-8"
    if payload and (len(payload) == 1 or int.from_bytes(payload[:2]) not in _CODES):
        return f"closes with {payload[:2]!r}, which is no code that may be sent"
    return ""
