"""Members that join from an old cursor, again and again."""

from typing import Final

from loadgen import wire
from loadgen.client import Needs, Threat
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer
from loadgen.personas._websocket import decode, join, publish

#: A room of their own, so that the victims need not read what they write.
ROOM: Final = "catch-up"

#: Each client publishes so many when it connects: 3,200 from 400 clients, three times what a room keeps in memory. They
#: are short because every client reads all of them.
MESSAGES: Final = 8
TEXT: Final = "something that was said a while ago"

#: From an answer to the next join: five a second are below the limits on messages (20 in chatserver).
AGAIN_SECONDS: Final = 0.2
REFUSED_SECONDS: Final = 1.0

_BEGINNING: Final = "0"
_JOIN_ID: Final = 0


@persona
class CatchUp(Lingerer):
    """WebSocket that joins a room from its first message on, reads for a moment and joins again, for ever.

    A bot that keeps no cursor does this, and every member does it once after an outage. Most of the messages are in the
    log only. If all who catch up share one queue for it, an honest reconnect waits: 12 s behind 400 of these.
    """

    __slots__ = ()

    name = "catch-up"
    threat = Threat.GREEDY
    needs = Needs.CHAT
    usual_clients = 400

    def on_open(self, head: wire.Head) -> None:
        """Write a little, so that there is something to read."""
        self.send(b"".join(publish(ROOM, number, TEXT) for number in range(1, MESSAGES + 1)))
        self.wake_in(self.pace(REFUSED_SECONDS))

    def on_text(self, frame: wire.Frame) -> None:
        """Count what is read, and plan the next join."""
        message = decode(frame)
        if message.type == "message":
            self.cohort.deliveries += 1
        elif message.type == "joined":
            self.cohort.answers["joined"] += 1
            self.wake_in(self.pace(AGAIN_SECONDS))
        elif message.type == "error":
            self.cohort.answers[f"error {message.code}"] += 1
            self.wake_in(self.pace(REFUSED_SECONDS))

    def on_time(self, moment: float) -> None:
        """Join from the beginning."""
        self.send(join(_JOIN_ID, ROOM, after=_BEGINNING))
