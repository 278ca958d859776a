"""Members that take all the rooms which a server keeps in memory."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Threat
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer
from loadgen.personas._websocket import decode, join, publish

#: Rooms that one connection may be in: chatserver 100, Centrifugo 128.
ROOMS: Final = 100

#: After a refusal, before the same room is tried again.
REFUSED_SECONDS: Final = 1.0


@persona
class FillRooms(Lingerer):
    """WebSocket that writes one message in each of a hundred rooms of its own and sits in all of them.

    No rate is exceeded, and no connection is in too many rooms. But the number of rooms in memory is limited too
    (100,000 in chatserver), and a thousand of these take all of them: nobody else can open a room while they stay.
    """

    __slots__ = ("_joined",)

    name = "fill-rooms"
    threat = Threat.GREEDY
    needs = Needs.CHAT
    usual_clients = 1000

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._joined = 0

    def on_open(self, head: wire.Head) -> None:
        """Begin with the first room."""
        self._joined = 0
        self._write()

    def on_text(self, frame: wire.Frame) -> None:
        """Join after an ack, go on to the next room after a join, wait after a refusal."""
        message = decode(frame)
        if message.type == "ack":
            self.send(join(self._joined, self._room))
        elif message.type == "joined":
            self._joined += 1
            self._write()
        elif message.type == "error":
            self.wake_in(self.pace(REFUSED_SECONDS))
        if message.type in {"ack", "joined", "error"}:
            self.cohort.answers[f"{message.type} {message.code}".rstrip()] += 1

    def on_time(self, moment: float) -> None:
        """Try again."""
        self._write()

    @property
    def _room(self) -> str:
        return f"fill-{self.index}-{self._joined}"

    def _write(self) -> None:
        if self._joined < ROOMS:
            self.send(publish(self._room, self._joined, "mine"))
