"""Who may come in: a cap for each address, a cap for all.

Owns: the counts. May not: touch a socket; it decides, the listener acts.

An IPv6 peer is counted by its /64, the smallest network that one customer gets (RFC 6177): whoever has one address
there has 2^64. Only networks that hold a connection have a count, so there are never more counts than connections.
"""

import socket
from collections.abc import Callable

from chatserver.reasons import Reason

_NETWORK_BYTES = 8  # of the 16 of an IPv6 address: its /64
_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2


class Admission:
    """Counts of held connections. `admit` and `release` come in pairs."""

    def __init__(self, *, total: int, per_address: int, uncapped: Callable[[str], bool] | None = None) -> None:
        self.total = total
        self._per_address = per_address
        self._uncapped = uncapped  # addresses without a cap of their own: proxies
        self._by_address: dict[str, int] = {}
        self.held = 0

    def admit(self, address: str) -> Reason | None:
        """Count a newcomer in, or say why not; its own cap first, so that nobody is evicted for one that is over it."""
        network = network_of(address)
        count = self._by_address.get(network, 0)
        if self._is_over(count, address):
            return Reason.REFUSED_ADDRESS
        if self.held >= self.total:
            return Reason.REFUSED_FULL
        self._by_address[network] = count + 1
        self.held += 1
        return None

    def _is_over(self, count: int, address: str) -> bool:
        if not self._per_address or count < self._per_address:
            return False
        return self._uncapped is None or not self._uncapped(address)

    def move(self, old: str, new: str) -> Reason | None:
        """Count one that was admitted under another address, or say why not; then it stays where it was."""
        before, after = network_of(old), network_of(new)
        if before == after:
            return None
        count = self._by_address.get(after, 0)
        if self._is_over(count, new):
            return Reason.REFUSED_ADDRESS
        self.release(old)
        self._by_address[after] = count + 1
        self.held += 1
        return None

    def release(self, address: str) -> None:
        """Count one out that was admitted."""
        network = network_of(address)
        count = self._by_address[network] - 1
        if count:
            self._by_address[network] = count
        else:
            del self._by_address[network]
        self.held -= 1

    def statistics(self) -> dict[str, int]:
        """Connections held, and the addresses they come from."""
        return {"held": self.held, "addresses": len(self._by_address)}


def network_of(address: str) -> str:
    """The key that an address is counted under: itself, or its /64."""
    if ":" not in address:
        return address
    # Not `ipaddress`: it takes 9 µs where this takes 0.7, and a flood of newcomers pays it three times each.
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_IPV4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:_NETWORK_BYTES].ljust(len(packed), b"\0")) + "/64"
