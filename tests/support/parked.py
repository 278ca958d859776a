"""Parked connections for tests: real descriptors, an attendant that writes it all down, a readiness nobody asks.

Owns: socket pairs as connections. May not: know HTTP.

    parked = Parked(PhaseLimits(head=3.0))
    connection, peer = parked.connect()
    parked.turn(seconds=3.0)
    assert parked.attendant.of("expired") == [connection]
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chatserver.net.connection import BEHIND, Connection
from chatserver.net.connections import Connections
from chatserver.net.phases import PhaseLimits
from chatserver.net.readiness import LATER
from chatserver.net.wheel import TICK
from chatserver.reasons import Reason

#: Bytes of a small kernel buffer: a few of these and the peer is behind. The kernel rounds it up.
SMALL = 2048


@dataclass
class RecordingAttendant:
    """Writes down who was told what; a test may hang code on an event."""

    events: list[tuple[str, Connection, object]] = field(default_factory=list)
    on: dict[str, Callable[[Connection], None]] = field(default_factory=dict)
    connections: Connections | None = None
    lacks: int = 0  # bytes that everybody has yet to send of what is half here

    def lacking(self, connection: Connection) -> int:
        return self.lacks

    def received(self, connection: Connection, data: bytes) -> None:
        self._note("received", connection, data)

    def ended(self, connection: Connection) -> None:
        self._note("ended", connection, None)

    def drained(self, connection: Connection) -> None:
        self._note("drained", connection, None)

    def expired(self, connection: Connection) -> None:
        self._note("expired", connection, connection.phase)

    def resumed(self, connection: Connection) -> None:
        self._note("resumed", connection, None)

    def faulted(self, connection: Connection) -> None:
        self._note("faulted", connection, None)

    def closed(self, connection: Connection, reason: Reason) -> None:
        self._note("closed", connection, reason)

    def _note(self, event: str, connection: Connection, detail: object) -> None:
        self.events.append((event, connection, detail))
        if event in self.on:
            self.on[event](connection)

    def of(self, event: str) -> list[Connection]:
        """The connections to which something happened, in order."""
        return [connection for name, connection, _ in self.events if name == event]

    def details(self, event: str) -> list[object]:
        """What came with it."""
        return [detail for name, _, detail in self.events if name == event]


class FakeReadiness:
    """Remembers interests, and insists that `before` is true: kqueue depends on it."""

    def __init__(self) -> None:
        self.interests: dict[int, int] = {}

    def fileno(self) -> int:
        raise AssertionError("nobody waits here")

    def add(self, descriptor: int, interest: int) -> None:
        self.interests[descriptor] = interest

    def change(self, descriptor: int, interest: int, before: int) -> None:
        assert self.interests[descriptor] == before, "the interest before is not what it was said to be"
        self.interests[descriptor] = interest

    def ready(self, limit: int) -> list[tuple[int, int]]:
        return []

    def later(self, limit: int) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        self.interests.clear()


class Parked:
    """`Connections` by themselves: the test plays poller and clock."""

    def __init__(self, limits: PhaseLimits | None = None) -> None:
        self.readiness = FakeReadiness()
        self.attendant = RecordingAttendant()
        self.connections = Connections(self.readiness, limits or PhaseLimits(), now=0.0)
        self.connections.attendant = self.attendant
        self.now = 0.0
        self._peers: list[socket.socket] = []

    def connect(self, *, small: bool = True) -> tuple[Connection, socket.socket]:
        """A connection, and the peer's end of it."""
        ours, peer = pair(small=small)
        self._peers.append(peer)
        return self.connections.adopt(ours.detach(), "192.0.2.1"), peer

    def interest(self, connection: Connection) -> int:
        """What the kernel would be asked to report, of a newcomer or not."""
        assert self.readiness.interests[connection.descriptor] == connection.interest & ~BEHIND
        return connection.interest & ~(LATER | BEHIND)

    def turn(self, *, seconds: float) -> list[Connection]:
        """Let time pass, punctually; judge overlays as the poller does. Returns who expired in its phase."""
        expired = []
        for _ in range(round(seconds / TICK)):
            self.now = self.connections.wheel.next_tick()
            for connection in self.connections.wheel.turn(self.now):
                if connection.backlog is not None:
                    self.connections.judge(connection, connection.backlog)
                else:
                    expired.append(connection)
        return expired

    def close(self) -> None:
        """Everything, the peers' ends too."""
        self.connections.attendant = None
        self.connections.close_all(Reason.DRAINING)
        for peer in self._peers:
            peer.close()


@contextmanager
def parked(limits: PhaseLimits | None = None) -> Iterator[Parked]:
    """A `Parked` that is gone afterwards."""
    made = Parked(limits)
    try:
        yield made
    finally:
        made.close()


def pair(*, small: bool = True) -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking ends; with a small buffer the peer is behind after a few KiB."""
    ours, peer = socket.socketpair()
    for end in (ours, peer):
        end.setblocking(False)
    if small:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    return ours, peer


def tcp_pair(*, receive_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """The same over loopback: for what only TCP does, such as RST; and a peer's window."""
    peer = socket.socket()
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer.connect(listening.getsockname())
        ours, _ = listening.accept()
    ours.setblocking(False)
    peer.setblocking(False)
    return ours, peer


def take(peer: socket.socket, limit: int = 1 << 30) -> bytes:
    """At most `limit` bytes of what the peer can read now."""
    taken = bytearray()
    while len(taken) < limit:
        try:
            data = peer.recv(min(65536, limit - len(taken)))
        except BlockingIOError:
            break
        if not data:
            break
        taken += data
    return bytes(taken)


def ended(peer: socket.socket) -> bool:
    """Whether the peer reads FIN now."""
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False


def descriptors(process: int | str = "self") -> int:
    """Descriptors that this process, or on Linux any of ours, has open."""
    folder = Path(f"/proc/{process}/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    return sum(1 for _ in folder.iterdir())
