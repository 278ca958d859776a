"""More connections than the server has numbers for."""

from loadgen import wire
from loadgen.client import Attacker, Threat
from loadgen.personas import persona

#: Asked again that often, a server sees the liveliest of clients: below the keep-alive of nginx (75 s), Apache behind
#: most panels (15 s) and chatserver (60 s).
ASK_EVERY_SECONDS = 12.0


@persona
class DescriptorExhaust(Attacker):
    """Opens as many connections as it gets, and holds them with a small request every 12 s.

    None of them is late with anything, so no deadline applies. What counts is whether the server is there for those who
    were in before, says no politely, does not spin over an accept() that fails with EMFILE, and recovers. The usual
    number is twice 4,096, a common hard limit; a server that has more descriptors needs `--clients` and `--processes`.
    """

    __slots__ = ()

    name = "descriptor-exhaust"
    threat = Threat.GREEDY
    usual_clients = 8192

    def opening(self) -> bytes:
        """Ask for one thing."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)

    def on_connected(self) -> None:
        """Plan the next request."""
        super().on_connected()
        self.wake_in(self.pace(ASK_EVERY_SECONDS))

    def on_data(self, data: bytes) -> None:
        """Remember a refusal; any other answer is what it came for."""
        super().on_data(data)
        if self.answered < 400:
            self.answered = 0

    def on_time(self, moment: float) -> None:
        """Prove to be alive."""
        self.wake_in(self.pace(ASK_EVERY_SECONDS))
        self.send(self.opening())
