"""A guest who does not take the hint."""

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._frames import FIN, TEXT, frame
from loadgen.personas._lingering import Lingerer


@persona
class NoClose(Lingerer):
    """WebSocket that provokes a close frame (text that is not UTF-8) and does not answer it.

    The closing handshake waits for the peer (RFC 6455 section 7.1.1 has the server close first, after the answer). An
    `aclose` without a deadline waits for ever; trio-websocket's may.
    """

    __slots__ = ()

    name = "no-close"

    def on_open(self, head: wire.Head) -> None:
        """Be wrong on purpose."""
        self.send(frame(FIN | TEXT, b"\xff"))

    def on_close(self, code: int) -> None:
        """Remember the code and stay: the end is when the connection ends."""
        self.answered = code
        self.cohort.answers[f"close {code}"] += 1

    def on_hangup(self, how: str) -> None:
        """Book the end under the code, if one came."""
        self.fail(f"close {self.answered}, unanswered" if self.answered else how)
