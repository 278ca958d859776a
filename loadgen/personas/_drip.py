"""What the slow senders share: a few bytes, a pause, a few bytes, for as long as they are let. No persona itself."""

from typing import ClassVar, Final

from loadgen.client import Attacker, Cohort

#: R.U.D.Y. waits 10 s between two bytes; faster is harder on servers that judge by progress.
BYTE_EVERY_SECONDS: Final = 1.0


class Dripper(Attacker):
    """Says a little every so often."""

    __slots__ = ("_said",)

    every_seconds: ClassVar[float] = BYTE_EVERY_SECONDS

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._said = 0

    def drop(self, number: int) -> bytes:
        """Return what to say for the `number`th time on this connection, from 0 on; nothing ends it."""
        raise NotImplementedError

    def on_connected(self) -> None:
        """Wait for the first moment."""
        super().on_connected()
        self.drip()

    def drip(self) -> None:
        """Begin."""
        self._said = 0
        self.wake_in(self.pace(self.every_seconds))

    def on_time(self, moment: float) -> None:
        """Say the next bit; an answer changes nothing, only the end of the connection does."""
        data = self.drop(self._said)
        if not data:
            return
        self._said += 1
        self.wake_in(self.pace(self.every_seconds))
        self.send(data)
