"""A member of everything."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder
from loadgen.personas._websocket import decode, join

ROOMS: Final = 100_000

#: Joins sent at once: 6 KB, so that one client's are not a long turn.
BATCH: Final = 100


@persona
class JoinMany(FrameFlooder):
    """WebSocket that joins 100,000 rooms, one after the other, none of which anybody else is in.

    A room is memory in the server: a history, a list of members, an entry in a cache. What bounds it is a cap on the
    rooms of a connection; what is said beyond that is booked.
    """

    __slots__ = ("_joined",)

    name = "join-many"
    needs = Needs.CHAT
    usual_clients = 200

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._joined = 0

    def on_open(self, head: wire.Head) -> None:
        """Begin with the first room."""
        self._joined = 0
        super().on_open(head)

    def on_drained(self) -> None:
        """Go on until there are no more rooms."""
        if self._joined < ROOMS:
            super().on_drained()

    def block(self) -> bytes:
        """Join a few more."""
        first, self._joined = self._joined, self._joined + BATCH
        return b"".join(join(number, f"join-{self.index}-{number}") for number in range(first, self._joined))

    def hear(self, data: bytes) -> None:
        """Book every answer."""
        frames, self.unread = wire.read_frames(self.unread + data)
        for frame in frames:
            if frame.opcode == wire.TEXT:
                message = decode(frame)
                self.cohort.answers[f"{message.type} {message.code}".rstrip()] += 1
            elif frame.opcode == wire.CLOSE:
                self.closed(frame.close_code)
                return
