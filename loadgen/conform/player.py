"""Plays one case over one connection.

Owns: when each piece is sent, how long to wait for what, and that sending and receiving run at once: a server may stop
reading until its answers are read. May not: judge.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from loadgen import wire
from loadgen.conform.case import End, Script, close, cut, ping
from loadgen.conform.heard import PROBE, Heard
from loadgen.line import FAILURES, EndedError, Line, describe, dial
from loadgen.target import Target
from loadgen.wire import FIN, PONG, frame

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


async def play(script: Script, target: Target, path: str, seconds: float) -> Heard:
    heard = Heard(script)
    try:
        async with dial(target) as line:
            await _Conversation(script, heard, line, request(script, target, path)).run(seconds)
    except FAILURES as error:
        heard.fault = f"cannot be reached: {describe(error)}"
    return heard


def request(script: Script, target: Target, path: str) -> list[bytes]:
    opening = script.opening
    if opening is None:
        return [wire.upgrade_request(path, target.authority)]
    told = wire.upgrade_request(path, target.authority, *opening.fields).decode("ascii")
    for usual, instead in opening.changes:
        assert usual in told, usual
        told = told.replace(usual, instead, 1)
    return cut(told.encode("ascii"), 1 if opening.bytewise else len(told))


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

    async def run(self, seconds: float) -> None:
        script = self._script
        sent = script.sent_bytes / LEAST_BYTES_PER_S + len(script.sends) * MOST_SECONDS_PER_WRITE
        self._patience.deadline = trio.current_time() + seconds + sent
        with self._patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak)
                await self._listen(nursery)
                nursery.cancel_scope.cancel()

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
                while heard.pinged and self._sent.is_set():  # within one of our frames a pong would be payload
                    nursery.start_soon(self._reply, frame(FIN | PONG, heard.pinged.pop(0)))
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

    async def _reply(self, data: bytes) -> None:
        with suppress(EndedError):
            await self._line.send(data)
