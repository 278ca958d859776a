"""Who may come in: a cap for each address, a cap for all.

Owns: the counts. May not: touch a socket; it decides, the listener acts.

An IPv6 peer is counted by its /64, the smallest network that one customer gets (RFC 6177): whoever has one address
there has 2^64.
"""

import ipaddress

from chatserver.reasons import Reason


class Admission:
    """Counts of held connections. `admit` and `release` come in pairs."""

    def __init__(self, *, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._by_address: dict[str, int] = {}
        self.held = 0
        self.refused: dict[Reason, int] = {Reason.REFUSED_FULL: 0, Reason.REFUSED_ADDRESS: 0}

    def admit(self, address: str) -> Reason | None:
        """Count a newcomer in, or say why not."""
        if self.held >= self._total:
            return self._refuse(Reason.REFUSED_FULL)
        network = network_of(address)
        count = self._by_address.get(network, 0)
        if self._per_address and count >= self._per_address:
            return self._refuse(Reason.REFUSED_ADDRESS)
        self._by_address[network] = count + 1
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

    def _refuse(self, reason: Reason) -> Reason:
        self.refused[reason] += 1
        return reason

    def statistics(self) -> dict[str, int]:
        """Connections held, and the addresses they come from."""
        return {"held": self.held, "addresses": len(self._by_address)}


def network_of(address: str) -> str:
    """The key that an address is counted under: itself, or its /64."""
    if ":" not in address:
        return address
    bare = ipaddress.IPv6Address(address.partition("%")[0])
    if bare.ipv4_mapped is not None:
        return str(bare.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(bare) >> 64 << 64, 64)))
