"""Members who never have seen enough of the past."""

from typing import Final

from loadgen import wire
from loadgen.client import Needs, Threat
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer
from loadgen.personas._websocket import decode, join, publish

#: A room of their own: what they write there is nobody else's reading.
ROOM: Final = "catch-up"

#: What each writes there when it comes: 400 of these are 3,200, three times what a room keeps in memory. Short ones:
#: all of them read all of it.
MESSAGES: Final = 8
TEXT: Final = "something that was said a while ago"

#: Between an answer and the next join: five a second are below what servers call a flood (chatserver's 20).
AGAIN_SECONDS: Final = 0.2
REFUSED_SECONDS: Final = 1.0

_BEGINNING: Final = "0"
_JOIN_ID: Final = 0


@persona
class CatchUp(Lingerer):
    """WebSocket that joins a room from its first message on, reads for a moment and joins again, for ever.

    What a bot does that keeps no cursor, and what every member does once after an outage. Most of that past is in the
    log only. Where those who catch up wait for it in one row, the honest one behind 400 of these waited 12 s.
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
