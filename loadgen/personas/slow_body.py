"""R-U-Dead-Yet, as published in 2010."""

from loadgen import wire
from loadgen.client import Attacker
from loadgen.personas import persona

BODY_BYTES = 60_000  # below the 64 KiB that most servers take, so that the length itself is no reason to refuse
BYTE_EVERY_SECONDS = 1.0


@persona
class SlowBody(Attacker):
    """Announces a body of 60,000 bytes and sends one byte a second (R.U.D.Y.)."""

    __slots__ = ()

    name = "slow-body"

    def opening(self) -> bytes:
        """Send a whole head."""
        return wire.request(
            "POST",
            f"/rooms/{self.room}/messages",
            self.cohort.place.host,
            "Content-Type: text/plain",
            f"Content-Length: {BODY_BYTES}",
        )

    def on_connected(self) -> None:
        """Wait for the first byte's moment."""
        super().on_connected()
        self.wake_in(self.pace(BYTE_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        """Send a byte."""
        self.wake_in(self.pace(BYTE_EVERY_SECONDS))
        self.send(b"x")
