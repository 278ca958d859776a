"""Plays one case over one connection, and parses everything that the server sends.

Owns: when each piece is sent, how long to wait for what, and that sending and receiving run at once: a server may stop
reading until its answers are read. The parsing is wsproto's strict decoder; a frame that no server may send is a fault.
May not: judge.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Final

import trio
from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, MessageDecoder, Opcode, ParseFailed

from loadgen.cases.case import End, Said, SaidKind, Script, close, cut, ping
from loadgen.cases.websocket import is_valid
from loadgen.net import wire
from loadgen.net.line import FAILURES, EndedError, Ending, Line, describe, dial
from loadgen.net.target import Target
from loadgen.net.websocket import payload_of
from loadgen.net.wire import FIN, PONG, frame

#: Payload of the ping that checks whether the connection is still open.
PROBE: Final = b"still there?"

#: Bytes by which a message of the server may exceed all that was sent; a longer one is not kept.
UNASKED_BYTES: Final = 64 * 1024

#: Codes that a close frame may have: RFC 6455 section 7.4, and those that IANA has registered since.
_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class Heard:
    def __init__(self, script: Script) -> None:
        self.head: wire.Head | None = None
        self.missing = deque(script.hears)
        self.unexpected: Said | None = None
        self.close: Said | None = None
        self.pinged: bytes | None = None  # payload of the server's last ping, if that is not answered yet
        self.alive = False  # the probe was answered
        self.late = False  # everything was sent before the server closed
        self.fault = ""
        self.unreached = False  # there is no connection
        self.ended: Ending | None = None
        self.timed_out = False
        self._must_fail = script.end is End.FAILED  # a pong with a payload then answers what is no ping
        self._unread = b""
        self._frames = FrameDecoder(client=True, extensions=[])
        self._messages = MessageDecoder()
        self._message = bytearray()  # one that is not complete
        self._most_bytes = script.sent_bytes + UNASKED_BYTES

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
            is_text = isinstance(error, ParseFailed) and error.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA
            self.fault = "sends text that is not UTF-8" if is_text else f"sends what it may not: {error}"

    def _note(self, frame: Frame) -> None:
        if self.close is not None:
            self.fault = "goes on after its close frame"
        elif frame.opcode is Opcode.PING:
            self.pinged = payload_of(frame)
        elif frame.opcode.iscontrol():
            self._take(Said(SaidKind[frame.opcode.name], payload_of(frame)))
        else:
            frame = self._messages.process_frame(frame)
            self._message += payload_of(frame)
            if len(self._message) > self._most_bytes:
                self.fault = "sends a message that is longer than anything that was sent"
            elif frame.message_finished:
                self._take(Said(SaidKind[frame.opcode.name], bytes(self._message)))
                self._message.clear()

    def _take(self, said: Said) -> None:
        if said.kind is SaidKind.CLOSE:
            self.close = said
            self.fault = _wrong_close(said.payload)
        elif said == Said(SaidKind.PONG, PROBE):
            self.alive = True
        elif said in takewhile(lambda each: each.kind is SaidKind.PONG, self.missing):
            while self.missing.popleft() != said:  # a pong may answer several pings: section 5.5.3
                pass
        elif self.missing and said == self.missing[0]:
            self.missing.popleft()
        elif said.kind is not SaidKind.PONG or (self._must_fail and said.payload):
            self.unexpected = self.unexpected or said
        # other unsolicited pongs are signs of life: section 5.5.3


def _wrong_close(payload: bytes) -> str:
    if not is_valid(payload[2:]):
        return "closes with a reason that is not UTF-8"
    if payload and int.from_bytes(payload[:2]) not in _CODES:  # one byte is below all codes
        return "closes with a code that may not be sent"
    return ""


#: Pause after a violation, in which a strict server notices it. A ping follows, which must not meet a closed socket:
#: the reset would discard the close frame.
NOTICE_SECONDS: Final = 1.0

#: Time for the TCP connection to end, after both close frames.
END_SECONDS: Final = 5.0

#: Time for a close frame after a violation, once a ping was answered: some servers handle messages in another task.
AFTERTHOUGHT_SECONDS: Final = 2.0

#: Extra time for a long case on a slow server, beside the timeout.
LEAST_BYTES_PER_S: Final = 256 * 1024
MOST_SECONDS_PER_WRITE: Final = 0.002


async def play(script: Script, target: Target, path: str, fields: Sequence[str], seconds: float) -> Heard:
    heard = Heard(script)
    try:
        async with dial(target) as line:
            await _Conversation(script, heard, line, request(script, target, path, fields)).run(seconds)
    except FAILURES as error:
        heard.fault, heard.unreached = f"cannot be reached: {describe(error)}", True
    return heard


def request(script: Script, target: Target, path: str, fields: Sequence[str] = ()) -> list[bytes]:
    opening = script.opening
    if opening is None:
        return [wire.upgrade_request(path, target.authority, *fields)]
    request = wire.upgrade_request(path, target.authority, *fields, *opening.fields).decode("ascii")
    for usual, instead in opening.changes:
        assert usual in request, usual
        request = request.replace(usual, instead, 1)
    return cut(request.encode("ascii"), 1 if opening.bytewise else len(request))


class _Conversation:
    def __init__(self, script: Script, heard: Heard, line: Line, head: list[bytes]) -> None:
        self._script = script
        self._heard = heard
        self._line = line
        self._head = head
        self._opened = trio.Event()
        self._complete = trio.Event()  # everything that is expected has come
        self._sent = trio.Event()
        self._patience = trio.CancelScope()
        self._ponging = False

    async def run(self, seconds: float) -> None:
        script = self._script
        sent = script.sent_bytes / LEAST_BYTES_PER_S + len(script.sends) * MOST_SECONDS_PER_WRITE
        self._patience.deadline = trio.current_time() + seconds + sent
        with self._patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak)
                await self._listen(nursery)
                nursery.cancel_scope.cancel()
        self._heard.timed_out = self._patience.cancelled_caught

    async def _speak(self) -> None:
        script, heard = self._script, self._heard
        with suppress(EndedError):  # the listener sees it too, after the server's last bytes
            await self._send(self._head)
            await self._opened.wait()
            await self._send(script.sends)
            fails_fast = script.end is End.FAILED and bool(script.then)  # the bytes so far may end within a frame
            if not fails_fast:
                self._sent.set()
            if script.end is End.FAILED:
                await trio.sleep(NOTICE_SECONDS)
            elif script.then or script.end is End.OPEN:
                await self._complete.wait()
            heard.late = fails_fast and heard.close is None
            await self._send(script.then)
            if fails_fast:
                await trio.sleep(NOTICE_SECONDS)
                self._sent.set()
            if script.end in {End.OPEN, End.FAILED} and heard.close is None:
                await self._line.send(ping(PROBE))

    async def _send(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            await self._line.send(piece)

    async def _listen(self, nursery: trio.Nursery) -> None:
        heard, closing = self._heard, False
        try:
            while not self._is_over():
                heard.feed(await self._line.receive())
                if heard.opened:
                    self._opened.set()
                if not heard.missing:
                    self._complete.set()
                if heard.close is not None and not closing:
                    closing = True
                    self._hurry(END_SECONDS)
                    if self._script.end is not End.CLOSED:
                        nursery.start_soon(self._reply, close(1000))
                elif heard.alive:
                    self._hurry(AFTERTHOUGHT_SECONDS)
                # within one of our frames a pong would be payload
                if heard.pinged is not None and self._sent.is_set() and not self._ponging:
                    self._ponging = True
                    nursery.start_soon(self._pong)
        except EndedError as error:
            heard.ended = error.ending

    def _hurry(self, seconds: float) -> None:
        self._patience.deadline = min(self._patience.deadline, trio.current_time() + seconds)

    def _is_over(self) -> bool:
        """Whether nothing can change the result any more."""
        heard, script = self._heard, self._script
        refused = heard.head is not None and not heard.opened
        if heard.fault or refused or heard.unexpected is not None:
            return True
        if script.end is End.REFUSED:
            return heard.opened
        return script.end is End.OPEN and (heard.alive or heard.close is not None)

    async def _pong(self) -> None:
        """Answer the last ping, until there is none: one pong may answer several pings (section 5.5.3)."""
        while (payload := self._heard.pinged) is not None:
            self._heard.pinged = None
            await self._reply(frame(FIN | PONG, payload))
        self._ponging = False

    async def _reply(self, data: bytes) -> None:
        with suppress(EndedError):
            await self._line.send(data)
