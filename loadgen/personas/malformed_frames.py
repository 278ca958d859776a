"""Frames that RFC 6455 forbids."""

from collections.abc import Mapping

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._cases import CaseByCase
from loadgen.personas._flood import Intruder
from loadgen.personas._malformed_frames import CASES


@persona
class MalformedFrames(Intruder, CaseByCase):
    """WebSocket that breaks RFC 6455, in one way on each connection, and notes how it is closed.

    Unmasked and reserved, control frames too long or in fragments, UTF-8 broken across fragments, close codes that may
    not be sent. 1002 or 1007 is right for nearly all; what stays open is booked under the name of its case.
    """

    __slots__ = ()

    name = "malformed-frames"

    def cases(self) -> Mapping[str, bytes]:
        """Return the catalogue."""
        return CASES

    def on_open(self, head: wire.Head) -> None:
        """Begin."""
        self.play()
