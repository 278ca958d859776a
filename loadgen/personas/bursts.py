"""Many at one moment: reconnecting, woken polls, descriptors."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Stage, Threat
from loadgen.personas import persona
from loadgen.personas._requests import page, post
from loadgen.personas._shapes import Welcome
from loadgen.personas._websocket import JOIN_ID, Envelope, Member, join, publish
from loadgen.personas.honest import Poll
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
    each has missed are all due together; a member in each room says something just before, so that there is something
    to miss. Half of them vanish with RST.
    """

    __slots__ = ("_cursor",)

    name = "reconnect-storm"
    threat = Threat.GREEDY
    honest = False

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._cursor = ""

    @property
    def room(self) -> str:
        return f"storm-{self.number % ROOMS}"

    def joining(self) -> bytes:
        return join(JOIN_ID, self.room, self._cursor)

    def on_joined(self, message: Envelope) -> None:
        self._cursor = message.cursor
        until_storm = STORM_EVERY_SECONDS - now() % STORM_EVERY_SECONDS
        self.wake_in(until_storm + self.cohort.place.random.uniform(0.0, DROP_WITHIN_SECONDS))

    def on_time(self, moment: float) -> None:
        if self.number < ROOMS:
            self.send(publish(self.room, 0, "here we go again"))
        return_in = self.cohort.place.random.uniform(0.0, RETURN_WITHIN_SECONDS)
        if self.number % 2:
            self.abort(return_in)
        else:
            self.leave(return_in)


#: All processes of a run ring at the same moments of the machine's clock, so that all polls are woken at once.
BELL_EVERY_SECONDS: Final = 2.0

#: The room is theirs alone: victims' messages would wake the polls ten times a second.
ROOM: Final = "thunder"


@persona
class ThunderingPoll(Poll):
    """Long-poll on one room with thousands of others; one of them posts a message every 2 s, which wakes them all.

    A goal in a match that thousands follow. The server owes thousands of answers at once, and victims their usual
    time in between: it has to encode the answer once, write in batches, and let others in between two batches.
    """

    name = "thundering-poll"
    threat = Threat.GREEDY
    honest = False
    needs = Needs.CHAT

    room = ROOM

    @property
    def _rings(self) -> bool:
        return self.number == 0

    def opening(self) -> bytes:
        """Poll; the client that rings says nothing yet."""
        return b"" if self._rings else super().opening()

    def on_connected(self) -> None:
        if self._rings:
            self.hold()
            self._await_bell()
        else:
            super().on_connected()

    def on_time(self, moment: float) -> None:
        if not self._rings:
            super().on_time(moment)
            return
        self._await_bell()
        self.send(post(self.cohort.place, self.room, b"goal!"))

    def on_data(self, data: bytes) -> None:
        if not self._rings:
            super().on_data(data)
            return
        self.unread += data
        answer = wire.read_response(self.unread)
        if answer is not None:
            self.unread = answer.rest
            self.cohort.answers[f"answered {answer.status}"] += 1

    def on_hangup(self, how: str) -> None:
        """Connect the bell again, should its connection have been idle for too long."""
        if self._rings and self.stage is Stage.HELD:
            self.cohort.engine.reopen(self)
        else:
            super().on_hangup(how)

    def _await_bell(self) -> None:
        self.wake_in(BELL_EVERY_SECONDS - now() % BELL_EVERY_SECONDS)


#: Asked again that often, a server sees the liveliest of clients: below the keep-alive of nginx (75 s), Apache behind
#: most panels (15 s) and chatserver (60 s).
ASK_EVERY_SECONDS = 12.0


@persona
class DescriptorExhaust(Welcome):
    """Opens as many connections as it gets, and holds them with a small request every 12 s.

    None of them is late with anything, so no deadline applies. What counts is whether the server serves those that were
    in before, refuses politely, does not spin over an accept() that fails with EMFILE, and recovers. The usual number
    is twice 4,096, a common hard limit; a server that has more descriptors needs `--clients` and `--processes`.
    """

    name = "descriptor-exhaust"
    threat = Threat.GREEDY
    usual_clients = 8192
    opening = page

    def on_connected(self) -> None:
        super().on_connected()
        self.wake_in(self.pace(ASK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        self.wake_in(self.pace(ASK_EVERY_SECONDS))
        self.send(self.opening())
