"""R-U-Dead-Yet, as published in 2010."""

from typing import Final

from loadgen.personas import persona
from loadgen.personas._drip import Dripper
from loadgen.personas._posting import post_head

#: Below the 64 KiB that most servers take, so that the length itself is no reason to refuse.
BODY_BYTES: Final = 60_000


@persona
class SlowBody(Dripper):
    """Announces a body of 60,000 bytes and sends one byte a second (R.U.D.Y.).

    No HTTP server that we measured beside ours stopped a body of which a byte came every five seconds: they time the
    silence between two bytes, or nothing.
    """

    __slots__ = ()

    name = "slow-body"

    def opening(self) -> bytes:
        """Send a whole head."""
        return post_head(self.cohort.place, self.room, f"Content-Length: {BODY_BYTES}")

    def drop(self, number: int) -> bytes:
        """Return a byte; after 17 hours, nothing."""
        return b"x" if number < BODY_BYTES else b""
