"""Which peers wait for all others, because their network has broken a rule lately.

Owns: the demoted networks, and the peers that wait. May not: know the rules, or queue anything.

The scheduler serves networks in turn, which does not help against thousands of them, each with as many turns as a
person. But what they send to keep the loop busy is refused or ends their connections, and they come back. So a peer
that breaks a rule waits for a while, and so do all that come from its network then. Those that were there before keep
their turns: else an office of three hundred would wait a minute beside a flood, because one of them sent a bad request.
"""

from collections.abc import Callable
from time import perf_counter

from chatserver.net.connection import Connection

#: Seconds for which a network is demoted, and twice that at most. An attacker breaks the next rule within a second.
DEMOTED_SECONDS = 10.0
#: Networks that can be demoted in that time: 4 MB, and as much for those before. Any more keep their turns.
MAX_DEMOTED = 32_768


class Demotion:
    """See the module. `is_proxy`: whether an address is that of a trusted proxy."""

    def __init__(self, is_proxy: Callable[[str], bool]) -> None:
        self._is_proxy = is_proxy
        self._networks: set[str] = set()
        self._networks_before: set[str] = set()  # those of the last DEMOTED_SECONDS
        self._peers: set[Connection] = set()  # that have broken a rule, or came from a demoted network
        self._forget_at = 0.0

    def demote(self, connection: Connection) -> None:
        """A peer has broken a rule. A proxy is not demoted: its network is that of many people."""
        if len(self._networks) < MAX_DEMOTED and not self._is_proxy(connection.address):
            network = connection.network
            self._networks.add(network)
            self._networks_before.discard(network)
            self._peers.add(connection)

    def came(self, connection: Connection) -> None:
        """A peer has connected, or a proxy's connection is another client's now, whatever the client before did."""
        self._peers.discard(connection)
        if self.is_demoted(connection.network) and not self._is_proxy(connection.address):  # but its /64 may be
            self._peers.add(connection)

    def gone(self, connection: Connection) -> None:
        self._peers.discard(connection)

    def applies(self, connection: Connection) -> bool:
        """Whether this peer waits for all others."""
        if connection not in self._peers:
            return False
        if not self.is_demoted(connection.network):
            self._peers.remove(connection)  # the next demotion of its network finds it there
            return False
        return True

    def is_demoted(self, network: str) -> bool:
        return network in self._networks or network in self._networks_before

    def sweep(self) -> None:
        """Once a second: forget the networks that were demoted long ago."""
        now = perf_counter()
        if now >= self._forget_at:
            self._forget_at = now + DEMOTED_SECONDS
            self._networks_before, self._networks = self._networks, set()

    def __len__(self) -> int:
        """Networks that are demoted now."""
        return len(self._networks) + len(self._networks_before)
