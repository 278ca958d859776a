"""What the honest slow share who come by WebSocket: they follow a room and talk now and then. No persona itself.

An honest user calls it a failure when the connection is closed, when a message is lost without a word, when what was
said is refused, and when nothing happens for far too long. Nothing else counts as one.
"""

from functools import partial

from loadgen import wire
from loadgen.client import Cohort
from loadgen.personas._agenda import Planner
from loadgen.personas._websocket import Envelope, Member, decode, publish


class Neighbour(Planner, Member):
    """An honest member of a room: no attack may hurt it."""

    __slots__ = ("_acknowledged", "_next_offset", "_said")

    slow = True
    usual_clients = 50

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._said = 0
        self._acknowledged = 0
        self._next_offset = 0  # of the room's next message, as soon as it is known

    def on_joined(self, message: Envelope) -> None:
        """Begin to live."""
        self._next_offset = 0
        self.begin()
        self.settle_in()

    def settle_in(self) -> None:
        """Plan what this one does."""
        raise NotImplementedError

    def say(self, patience: float) -> None:
        """Say something, and have it acknowledged within so many seconds."""
        self._said += 1
        self.send(publish(self.room, self._said, "hello, it is me again"))
        self.plan(patience, partial(self._mind, self._said, patience))

    def _mind(self, number: int, patience: float) -> None:
        if self._acknowledged < number:
            self.fail(f"a message not acknowledged in {patience:g} s")

    def on_text(self, frame: wire.Frame) -> None:
        """Follow the room."""
        message = decode(frame)
        match message.type:
            case "message":
                self.cohort.deliveries += 1
                self._follow(message.offset)
            case "ack" if isinstance(message.id, int):
                self._acknowledged = max(self._acknowledged, message.id)
            case "gap":
                self._next_offset = 0  # told, so not lost: the history has it
            case "error" if isinstance(message.id, int) and message.id > 0:
                self.fail(f"error {message.code}")
            case _:
                super().on_text(frame)

    def _follow(self, offset: int) -> None:
        if self._next_offset and offset != self._next_offset:
            self.fail("a message was lost" if offset > self._next_offset else "a message came twice")
            return
        self._next_offset = offset + 1 if offset else 0  # other servers may not count
