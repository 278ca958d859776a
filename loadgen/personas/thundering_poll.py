"""Many long-polls that are woken at once."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Stage, Threat
from loadgen.personas import persona
from loadgen.personas.poll import Poll
from loadgen.timers import now

#: All processes of a run publish at the same moments of the machine's clock, so that all polls are woken at once.
BELL_EVERY_SECONDS: Final = 2.0

#: The room is theirs alone: victims' messages would wake the polls ten times a second.
ROOM: Final = "thunder"


@persona
class ThunderingPoll(Poll):
    """Long-poll on one room with thousands of others; one of them posts a message every 2 s, which wakes them all.

    A goal in the match that everybody follows. The server owes thousands of answers at once, and victims their usual
    time in between: it has to encode the answer once, write in batches, and let others in between two batches.
    """

    __slots__ = ("_rings",)

    name = "thundering-poll"
    threat = Threat.GREEDY
    honest = False
    needs = Needs.CHAT

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self.room = ROOM
        self._rings = cohort.made == 1

    def opening(self) -> bytes:
        """Poll; the client that publishes says nothing yet."""
        return b"" if self._rings else super().opening()

    def on_connected(self) -> None:
        """Wait for the bell, in one way or the other."""
        if self._rings:
            self.hold()
            self._await_bell()
        else:
            super().on_connected()

    def on_time(self, moment: float) -> None:
        """Ring."""
        if not self._rings:
            super().on_time(moment)
            return
        self._await_bell()
        body = b"goal!"
        head = wire.request(
            "POST",
            f"/rooms/{ROOM}/messages",
            self.cohort.place.host,
            "Content-Type: text/plain",
            f"Content-Length: {len(body)}",
        )
        self.send(head + body)

    def on_data(self, data: bytes) -> None:
        """Take an answer; the ringer's is only booked."""
        if not self._rings:
            super().on_data(data)
            return
        self.unread += data
        answer = wire.read_response(self.unread)
        if answer is not None:
            self.unread = answer.rest
            self.cohort.answers[f"answered {answer.status}"] += 1

    def on_hangup(self, how: str) -> None:
        """The bell must not fall silent because its connection was idle for a while."""
        if self._rings and self.stage is Stage.HELD:
            self.cohort.engine.reopen(self)
        else:
            super().on_hangup(how)

    def _await_bell(self) -> None:
        self.wake_in(BELL_EVERY_SECONDS - now() % BELL_EVERY_SECONDS)
