"""Fair between networks: five hundred peers of one address are one voice.

Owns: what a network is, and the queue in which networks take turns. May not: know what is queued.
"""

import socket
from collections import deque
from functools import lru_cache
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")

#: IPv6 addresses whose network is remembered: asked several times for each event.
REMEMBERED = 8192

_NETWORK_BYTES = 8  # of the 16 of an IPv6 address: its /64
_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2


def network_of(address: str) -> str:
    """The key that an address is counted under: itself, or its /64."""
    return address if ":" not in address else _network_of_ipv6(address)


@lru_cache(REMEMBERED)
def _network_of_ipv6(address: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_IPV4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:_NETWORK_BYTES].ljust(len(packed), b"\0")) + "/64"


class FairQueue(Generic[Entry]):
    """Entries of many networks: those of one in their order, the networks in turns."""

    __slots__ = ("_lines", "_turns")

    def __init__(self) -> None:
        self._lines: dict[str, deque[Any]] = {}
        self._turns: deque[deque[Any]] = deque()

    def push(self, network: str, entry: Entry) -> None:
        """Behind the network's others."""
        line = self._lines.get(network)
        if line is None:
            # The network's name is the line's first entry: it is needed to forget the line when it is empty.
            self._lines[network] = line = deque((network, entry))
            self._turns.append(line)
        else:
            line.append(entry)

    def pop(self) -> Entry:
        """The next entry of the network whose turn it is. Raises IndexError when there is none."""
        line = self._turns.popleft()
        network = line.popleft()
        entry: Entry = line.popleft()
        if line:
            line.appendleft(network)
            self._turns.append(line)
        else:
            del self._lines[network]
        return entry

    def __bool__(self) -> bool:
        return bool(self._turns)

    def __len__(self) -> int:
        return sum(map(len, self._turns)) - len(self._turns)
