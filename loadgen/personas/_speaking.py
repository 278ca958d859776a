"""What clients that the schedule speaks through have in common, in any protocol."""

from loadgen.client import Client, Cohort
from loadgen.traffic import Traffic


class Speaking(Client):
    """A client through which the schedule sends messages, from `enter` until it fails."""

    __slots__ = ("_traffic",)

    honest = True
    speaks = True

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        traffic = cohort.place.traffic
        assert traffic is not None, "a run with speakers has traffic"
        self._traffic: Traffic = traffic

    def publish(self, number: int, text: str) -> None:
        """Send `text`, to be acknowledged under `number`."""
        raise NotImplementedError

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Leave the schedule too."""
        self._traffic.leave(self)
        super().fail(reason, turned_away=turned_away)
