"""Many honest members behind one address."""

from typing import Final

from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour

PEOPLE: Final = 300
SPEAKS_EVERY_SECONDS: Final = (30.0, 90.0)
PATIENCE_SECONDS: Final = 10.0


@persona
class Office(Neighbour):
    """One of 300 members behind one address, who all say something once a minute.

    Offices, schools, mobile carriers and whole countries come from one address. A cap on connections, requests or
    messages by address that is meant for one greedy machine hurts them first.
    """

    __slots__ = ()

    name = "office"
    cycle_seconds = SPEAKS_EVERY_SECONDS[0] + PATIENCE_SECONDS  # when some of them have spoken
    usual_clients = PEOPLE
    one_address = True

    def settle_in(self) -> None:
        """Plan the first remark."""
        self.plan(self.between(*SPEAKS_EVERY_SECONDS), self._speak)

    def _speak(self) -> None:
        self.plan(self.between(*SPEAKS_EVERY_SECONDS), self._speak)
        self.say(PATIENCE_SECONDS)
