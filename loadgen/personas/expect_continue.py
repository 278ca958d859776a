"""After you. No, after you."""

from loadgen.client import Attacker
from loadgen.personas import persona
from loadgen.personas._posting import post_head
from loadgen.personas.slow_body import BODY_BYTES


@persona
class ExpectContinue(Attacker):
    """Asks whether it may send a body (`Expect: 100-continue`) and, told to go on, never does.

    A server whose clock for the body starts with its first byte, or that hands the request to the application before,
    waits for ever (RFC 9110 section 10.1.1 lets the client wait as long as it likes).
    """

    __slots__ = ()

    name = "expect-continue"

    def opening(self) -> bytes:
        """Ask."""
        return post_head(self.cohort.place, self.room, f"Content-Length: {BODY_BYTES}", "Expect: 100-continue")
