"""A guest who does not take the hint."""

from typing import Final

from loadgen import wire
from loadgen.client import CLOSED, Stage
from loadgen.frames import FIN, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer

#: How often it looks whether the server still waits for it.
LOOK_EVERY_SECONDS: Final = 0.25

#: Servers are rid of it within seconds: 8,000 who came back at once would be a flood, which is another attack.
RETURNS_SECONDS: Final = 5.0


@persona
class NoClose(Lingerer):
    """WebSocket that provokes a close frame by bad UTF-8 and answers neither that nor the FIN behind it.

    The closing handshake waits for the peer (RFC 6455 section 7.1.1), and so does a half-closed connection. An `aclose`
    without a deadline waits for ever; trio-websocket's may.
    """

    __slots__ = ()

    name = "no-close"
    returns_seconds = RETURNS_SECONDS

    def on_open(self, head: wire.Head) -> None:
        """Be wrong on purpose."""
        self.send(frame(FIN | TEXT, b"\xff"))

    def on_close(self, code: int) -> None:
        """Remember the code and stay: the end is when the connection ends."""
        self.answered = code
        self.cohort.answers[f"close {code}"] += 1

    def on_hangup(self, how: str) -> None:
        """Do not even close when the server has: half a connection is one to it."""
        if how == CLOSED and self.stage is Stage.HELD and self.is_forgotten() is False:
            self.stop_reading()
            self.wake_in(LOOK_EVERY_SECONDS)
        else:
            self._go(how)

    def on_time(self, moment: float) -> None:
        """Look whether that was enough."""
        if self.is_forgotten() is False:
            self.wake_in(LOOK_EVERY_SECONDS)
        else:
            self._go(CLOSED)

    def _go(self, how: str) -> None:
        """Book the end under the code, if one came."""
        self.fail(f"close {self.answered}, unanswered" if self.answered else how)
