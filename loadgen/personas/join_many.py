"""A member of everything."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Threat
from loadgen.personas import persona
from loadgen.personas._flood import Intruder
from loadgen.personas._websocket import decode, join

ROOMS: Final = 100_000

#: Characters of a room's name in chat.v1.
LONGEST_NAME: Final = 64

#: Joins on their way at a time: enough that the server never waits for us.
WINDOW: Final = 50


@persona
class JoinMany(Intruder):
    """WebSocket that joins 100,000 rooms, as fast as it is answered, none of which anybody else is in.

    A room is memory in the server: a history, a list of members, an entry in a cache. What bounds it is a cap on the
    rooms of a connection; what is said beyond that is booked.
    """

    __slots__ = ("_asked", "_open")

    name = "join-many"
    threat = Threat.GREEDY
    needs = Needs.CHAT

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._asked = 0
        self._open = 0  # joins that are not answered

    def on_open(self, head: wire.Head) -> None:
        """Begin with the first rooms."""
        self._asked = self._open = 0
        self._ask()

    def hear(self, data: bytes) -> None:
        """Book every answer, and go on when half of what was asked is answered."""
        frames, self.unread = wire.read_frames(self.unread + data)
        for frame in frames:
            if frame.opcode == wire.CLOSE:
                self.closed(frame.close_code)
                return
            if frame.opcode == wire.TEXT:
                self._hear_message(frame)
        if self._open <= WINDOW // 2:
            self._ask()

    def _hear_message(self, frame: wire.Frame) -> None:
        message = decode(frame)
        if message.type in {"joined", "error"}:
            self._open -= 1
            self.cohort.answers[f"{message.type} {message.code}".rstrip()] += 1

    def _ask(self) -> None:
        first = self._asked
        self._asked = min(first + WINDOW - self._open, ROOMS)
        self._open += self._asked - first
        self.send(b"".join(join(number, self._room(number)) for number in range(first, self._asked)))

    def _room(self, number: int) -> str:
        """Half of them use names as long as a room's may be: a server that reads by bytes reads fewer at a time."""
        name = f"join-{self.index}-{number}"
        return name.ljust(LONGEST_NAME, "-") if self.index % 2 else name
