"""A member who speaks."""

from loadgen import wire
from loadgen.client import Cohort
from loadgen.personas import persona
from loadgen.personas._websocket import Envelope, Member, decode, publish
from loadgen.traffic import Traffic


@persona
class Chat(Member):
    """WebSocket joined to a room that publishes on the open-loop schedule and times acks and echoes."""

    __slots__ = ("_traffic",)

    name = "chat"
    speaks = True
    echoes = True

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        traffic = cohort.place.traffic
        assert traffic is not None, "a run with chatters has traffic"
        self._traffic: Traffic = traffic

    def on_joined(self, message: Envelope) -> None:
        """Be one of those whom the schedule may call upon."""
        self._traffic.enter(self)

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Leave the schedule too."""
        self._traffic.leave(self)
        super().fail(reason, turned_away=turned_away)

    def publish(self, number: int, text: str) -> None:
        """Say something."""
        self.send(publish(self.room, number, text))

    def on_text(self, frame: wire.Frame) -> None:
        """Time what comes back."""
        message = decode(frame)
        if message.type == "message":
            self.cohort.deliveries += 1
            self._traffic.heard(self, message.text)
        elif message.type == "ack" and isinstance(message.id, int):
            self._traffic.acknowledged(message.id)
        elif message.type == "error" and isinstance(message.id, int) and message.id >= 0:
            self._traffic.refused(message.id, message.code)
        else:
            super().on_text(frame)
