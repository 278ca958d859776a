"""Many at one moment: reconnecting, woken polls, descriptors."""

from typing import Final

from loadgen.clients.client import Needs, Stage, Threat
from loadgen.net.timers import now
from loadgen.personas import persona
from loadgen.personas._requests import page, post
from loadgen.personas._shapes import Dripper, Welcome
from loadgen.personas._websocket import Envelope, Member, publish
from loadgen.personas.honest import Poll

#: Counted on the machine's clock, so that all processes of a run drop their connections at the same time.
STORM_EVERY_SECONDS: Final = 10.0

#: Spread of the drops and of the returns: a client library with little jitter or none.
DROP_WITHIN_SECONDS: Final = 0.5
RETURN_WITHIN_SECONDS: Final = 0.5

#: The storm has rooms of its own, many of them, so that reading the messages does not overload the generator.
ROOMS: Final = 100


@persona
class ReconnectStorm(Member):
    """WebSocket in a room; it disconnects with all others every 10 s, and is back within a second.

    A proxy, a network or a deployment does this to every client at once: accepts, handshakes, joins and missed messages
    are all due together. Half of them leave with RST.
    """

    threat = Threat.GREEDY
    honest = False

    @property
    def room(self) -> str:
        return f"storm-{self.number % ROOMS}"

    def on_joined(self, message: Envelope) -> None:
        until_storm = STORM_EVERY_SECONDS - now() % STORM_EVERY_SECONDS
        self.wake_in(until_storm + self.cohort.place.random.uniform(0.0, DROP_WITHIN_SECONDS))

    def on_time(self, moment: float) -> None:
        if self.number < ROOMS:
            self.send(publish(self.room, 0, "here we go again"))
        disconnect = self.abort if self.number % 2 else self.leave
        disconnect(self.cohort.place.random.uniform(0.0, RETURN_WITHIN_SECONDS))


#: Counted on the machine's clock, so that all processes of a run post at the same time and all polls wake at once.
POST_EVERY_SECONDS: Final = 2.0


@persona
class ThunderingPoll(Poll):
    """Long-poll on one room with thousands of others; one of them posts a message every 2 s, which wakes them all.

    Thousands of answers are due at once. The server has to encode the answer once, write in batches, and serve other
    clients between two batches.
    """

    threat = Threat.GREEDY
    honest = False
    needs = Needs.CHAT

    room = "thunder"  # of its own: victims' messages would wake the polls ten times a second

    @property
    def _rings(self) -> bool:
        return self.number == 0

    def opening(self) -> bytes:
        """Poll; the client that posts sends nothing yet."""
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
        answer = self.read_response(data)
        if answer is not None:
            self.cohort.answers[f"answered {answer.status}"] += 1

    def on_hangup(self, how: str) -> None:
        """Reconnect the posting client if the server closed its connection as idle."""
        if self._rings and self.stage is Stage.HELD:
            self.cohort.engine.reopen(self)
        else:
            super().on_hangup(how)

    def _await_bell(self) -> None:
        self.wake_in(POST_EVERY_SECONDS - now() % POST_EVERY_SECONDS)


@persona
class DescriptorExhaust(Welcome, Dripper):
    """Opens as many connections as it gets, and holds them with a small request every 12 s.

    None of them is late, so no deadline applies. The server must serve those that were connected before, refuse
    politely, not spin on an accept() that fails with EMFILE, and recover.
    """

    threat = Threat.GREEDY
    usual_clients = 8192
    every_seconds = 12.0  # so that no keep-alive deadline applies: nginx 75 s, Apache behind most panels 15 s
    opening = page

    def drop(self, number: int) -> bytes:
        return self.opening()
