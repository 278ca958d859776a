"""One peer, parked: the descriptor it owns, the state it is in, and what has not been parsed or taken yet.

Owns: the structs, and what an address counts for. May not: do anything; `Connections` does.

All are `msgspec.Struct(gc=False)`: the collector never visits them, so 15,000 of them do not make a collection one
microsecond longer. The price is that a cycle through them is never found. There is one, from context to member and back
to the connection, and `Handler.released` cuts it: nothing else may add one. A descriptor number stands instead of a
socket object: that saves 100 bytes and one tracked object each. The kernel reuses numbers, so liveness is asked of the
object (`descriptor >= 0`), never of the number.
"""

import socket
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, Union

import msgspec

from chatserver.net.states import State
from chatserver.reasons import Reason

if TYPE_CHECKING:
    from chatserver.net.tls_transport import TlsTransport
    from chatserver.net.transport import PlainTransport

#: How bytes get to a peer and back; both have the methods of `PlainTransport`, none of which waits.
Transport: TypeAlias = Union["PlainTransport", "TlsTransport"]
#: `Connection.descriptor` once it is closed.
CLOSED = -1
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


class TransportError(Exception):
    """The bytes to or from this peer cannot be sealed or opened any more, and the reason for which it ends."""

    def __init__(self, message: str, reason: Reason = Reason.TLS_FAILED) -> None:
        super().__init__(message)
        self.reason = reason


class Backlog(msgspec.Struct, gc=False):
    """What the kernel would not take, and how far the peer has come since the flush window began (net/flush.py)."""

    chunks: list[bytes]  # whole encoded frames or answers, shared with everybody else who lacks them
    position: int  # bytes of chunks[0] already written
    remaining: int  # ticks the state beneath had left
    outstanding: int  # bytes in the kernel's send queue when the window began
    blocked: bool = False  # it is to be writable before anything else is written; False: only its progress is watched
    written: int = 0  # bytes given to the kernel since the window began
    excused: bool = False  # it took nothing in the last window, and TCP had not tried for long enough to tell why


class Closing(msgspec.Struct, gc=False, eq=False):
    """The context of `CLOSING`: why, and what was read and dropped since."""

    reason: Reason
    dropped: int = 0


class Connection(msgspec.Struct, gc=False, eq=False):
    """A peer. Hashable by identity; 96 bytes."""

    descriptor: int
    address: str
    transport: Transport
    state: State
    deadline: int  # tick of the wheel
    armed: int = 0  # what the kernel is asked to report once: readiness.READ, WRITE
    inbox: bytes = b""  # received, not yet parsed; bounded by the limits of what is being parsed
    backlog: Backlog | None = None
    context: object = None  # what the connection carries in its state; its type is a column of the table
    rate: int = 0  # state of its token bucket

    @property
    def alive(self) -> bool:
        """Whether it still owns a descriptor."""
        return self.descriptor >= 0

    @property
    def network(self) -> str:
        """What it counts for: its address, or its /64."""
        address = self.address
        return address if ":" not in address else _network_of_ipv6(address)  # `network_of`, a call less

    @property
    def blocked(self) -> bool:
        """Whether it has not taken what we wrote."""
        backlog = self.backlog
        return backlog is not None and backlog.blocked
