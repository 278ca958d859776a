"""The minute after a load balancer restarted."""

from typing import Final

from loadgen.client import Cohort, Threat
from loadgen.personas import persona
from loadgen.personas._websocket import JOIN_ID, Envelope, Member, join, publish
from loadgen.timers import now

#: All processes of a run drop theirs at the same moments of the machine's clock.
STORM_EVERY_SECONDS: Final = 10.0

#: How long the dropping takes, and the returning: what a client library does that has no jitter, or little.
DROP_WITHIN_SECONDS: Final = 0.5
RETURN_WITHIN_SECONDS: Final = 0.5

#: The storm's own rooms, so that what its members are told is the server's work and not all of the generator's.
ROOMS: Final = 100


@persona
class ReconnectStorm(Member):
    """WebSocket joined to a room that is dropped with all others every 10 s, and back within a second.

    A proxy, a network or a deployment does this to every client at once. Accepting, the handshakes, the joins and what
    each has missed are all due together; one in each room says something just before, so that there is something to
    miss. Half of them vanish with RST.
    """

    __slots__ = ("_cursor", "_resets", "_speaks")

    name = "reconnect-storm"
    threat = Threat.GREEDY
    honest = False

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self.room = f"storm-{cohort.made % ROOMS}"
        self._resets = cohort.made % 2 == 0
        self._speaks = cohort.made <= ROOMS
        self._cursor = ""

    def joining(self) -> bytes:
        """Join, and ask for what was missed."""
        return join(JOIN_ID, self.room, self._cursor)

    def on_joined(self, message: Envelope) -> None:
        """Wait for the storm."""
        self._cursor = message.cursor
        until_storm = STORM_EVERY_SECONDS - now() % STORM_EVERY_SECONDS
        self.wake_in(until_storm + self.cohort.place.random.uniform(0.0, DROP_WITHIN_SECONDS))

    def on_time(self, moment: float) -> None:
        """Be dropped."""
        if self._speaks:
            self.send(publish(self.room, 0, "here we go again"))
        return_in = self.cohort.place.random.uniform(0.0, RETURN_WITHIN_SECONDS)
        if self._resets:
            self.abort(return_in)
        else:
            self.leave(return_in)
