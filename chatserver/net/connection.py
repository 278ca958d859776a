"""One parked peer: its descriptor, its state, its unparsed input and its unsent output.

Owns: the structs, and the network that an address is counted under. May not: do anything; `Connections` does.

With `gc=False` the collector never visits them: 15,000 do not make a collection longer. But a cycle through them is
never collected: there is one, from context to member to connection, which `Handler.released` cuts. A descriptor number
saves 100 bytes beside a socket object; the kernel reuses numbers, so liveness is asked of the object.
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

#: How bytes get to a peer and back. Both have the methods of `PlainTransport`, and none of the methods waits.
Transport: TypeAlias = Union["PlainTransport", "TlsTransport"]
#: `Connection.armed`, beside READ and WRITE. HANGUP: armed for a reset only. QUEUED: in the scheduler; not armed until
#: its step has run, or it would be queued twice. RESUMED, while such a step waits or runs: it is resumed afterwards.
HANGUP, QUEUED, RESUMED = 0x200, 0x100, 0x400
#: `Connection.descriptor` once it is closed.
CLOSED = -1
#: IPv6 addresses whose network is cached: each event needs it several times.
CACHED_NETWORKS = 8192
#: Addresses that are kept once for all their connections, the latest ones: 1 MB.
SHARED_ADDRESSES = 8192

_NETWORK_BYTES = 8  # of the 16 of an IPv6 address: its /64
_IPV4_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2


def network_of(address: str) -> str:
    """The key that an address is counted under: itself, or its /64."""
    return address if ":" not in address else _network_of_ipv6(address)


#: The one object for an address. Not `sys.intern`: on Python 3.12 that keeps every string for ever, and one client has
#: 2^64 addresses.
shared_address = lru_cache(SHARED_ADDRESSES)(str)


@lru_cache(CACHED_NETWORKS)
def _network_of_ipv6(address: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_IPV4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:_NETWORK_BYTES].ljust(len(packed), b"\0")) + "/64"


class TransportError(Exception):
    """Bytes to or from this peer can no longer be encrypted or decrypted; `reason` is why the connection ends."""

    def __init__(self, message: str, reason: Reason = Reason.TLS_FAILED) -> None:
        super().__init__(message)
        self.reason = reason


class Backlog(msgspec.Struct, gc=False):
    """Bytes that the kernel did not take, and the peer's progress since the flush window began (net/flush.py)."""

    chunks: list[bytes]  # whole encoded frames or answers, shared with all other peers that lack them
    position: int  # bytes of chunks[0] already written
    remaining: int  # ticks that the deadline of the connection's state had left
    outstanding: int  # bytes in the kernel's send queue when the window began
    blocked: bool = False  # nothing is written until it is writable; False: only its progress is watched
    written: int = 0  # bytes given to the kernel since the window began
    excused: bool = False  # it took too little in the last window, but TCP may have been in RTO backoff


class Closing(msgspec.Struct, gc=False, eq=False):
    """The context of `CLOSING`: why it closes, and how much input was dropped since."""

    reason: Reason
    dropped: int = 0  # bytes


class Connection(msgspec.Struct, gc=False, eq=False):
    """A peer. Hashable by identity; 96 bytes."""

    descriptor: int
    address: str
    transport: Transport
    state: State
    deadline: int  # tick of the wheel
    armed: int = 0  # what its next step comes from: READ, WRITE, HANGUP: from the kernel; QUEUED: from the scheduler
    inbox: bytes = b""  # received, not yet parsed; bounded by the limits of what is being parsed
    backlog: Backlog | None = None
    context: object = None  # data of the current state, whose type is set by `Connections.bind`
    rate: int = 0  # state of its token bucket

    @property
    def alive(self) -> bool:
        return self.descriptor >= 0

    @property
    def network(self) -> str:
        """The key that it is counted under: its address, or its /64."""
        address = self.address
        return address if ":" not in address else _network_of_ipv6(address)  # `network_of`, inlined

    @property
    def blocked(self) -> bool:
        """Whether unsent bytes wait for it to become writable."""
        backlog = self.backlog
        return backlog is not None and backlog.blocked
