"""Messages that are not chat.v1."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Threat
from loadgen.personas import persona
from loadgen.personas._cases import CLIENTS, PATIENCE_SECONDS, PAUSE_SECONDS
from loadgen.personas._flood import Intruder
from loadgen.personas._malformed_chat import CASES
from loadgen.personas._websocket import decode

_NAMES: Final = tuple(CASES)

#: What a server says without being asked.
_UNASKED: Final = frozenset(("hello", "message", "presence", "typing", "gap", "goaway"))


@persona
class MalformedChat(Intruder):
    """WebSocket whose messages are not chat.v1: bad JSON, wrong fields, rooms that are no names.

    One case after the other on one connection: each deserves an error, and none an end, a fault or silence. Errors are
    booked by code, everything else under the name of its case.
    """

    __slots__ = ("_heard", "_number")

    name = "malformed-chat"
    threat = Threat.MALFORMED
    needs = Needs.CHAT
    usual_clients = CLIENTS

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._number = cohort.made - 2  # each begins one further than the one before it
        self._heard = False  # an answer to this case

    def on_open(self, head: wire.Head) -> None:
        """Begin."""
        self._play()

    def _play(self) -> None:
        self._number += 1
        self._heard = False
        self.send(wire.frame(wire.TEXT, CASES[self._case]))
        if self.fd >= 0:
            self.wake_in(PATIENCE_SECONDS)

    @property
    def _case(self) -> str:
        return _NAMES[self._number % len(_NAMES)]

    def hear(self, data: bytes) -> None:
        """Book what is answered."""
        frames, self.unread = wire.read_frames(self.unread + data)
        for frame in frames:
            if frame.opcode == wire.PING:
                self.send(wire.frame(wire.PONG, frame.payload))
            elif frame.opcode == wire.CLOSE:
                self.cohort.answers[f"{self._case}: close {frame.close_code}"] += 1
                self.closed(frame.close_code)
                return
            elif frame.opcode == wire.TEXT:
                self._hear_message(frame)

    def _hear_message(self, frame: wire.Frame) -> None:
        message = decode(frame)
        if message.type in _UNASKED:
            return
        self.cohort.answers[
            f"error {message.code}" if message.type == "error" else f"{self._case}: {message.type}"
        ] += 1
        self._heard = True
        self.wake_in(self.pace(PAUSE_SECONDS))

    def on_time(self, moment: float) -> None:
        """Go on with the next case."""
        if not self._heard:
            self.cohort.answers[f"{self._case}: nothing in {PATIENCE_SECONDS:g} s"] += 1
        self._play()
