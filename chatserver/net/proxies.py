"""Who may speak for others: the addresses of balancers and proxies in front of us.

Owns: the list. May not: believe anybody who is not on it. Empty, nobody is believed.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

#: Addresses whose answer is remembered: proxies are few, and they connect often.
REMEMBERED = 4096


class TrustedProxies:
    """Addresses and networks; `covers` is asked for each newcomer, where there are any."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(each, strict=False) for each in networks]
        self.covers = lru_cache(REMEMBERED)(self._covers)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _covers(self, address: str) -> bool:
        """Whether this address is a trusted proxy's. An IPv4 address in IPv6 form is the IPv4 address."""
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)
