"""Parked connections for tests: real descriptors, real readiness, a handler that records.

Owns: socket pairs as connections, and clients of a listener; the test plays the poller and the clock. May not: know
HTTP.

    with parked(head_deadline=3.0) as it:
        connection, peer = it.connect()
        peer.send(b"x")
        it.turn_over()
        assert it.details("received") == [b"x"]
        assert it.turn(seconds=3.1) == [connection]
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection, network_of
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler
from chatserver.net.listener import Listener, bind
from chatserver.net.poller import Poller
from chatserver.net.readiness import Readiness
from chatserver.net.states import ENDING, State
from chatserver.net.wheel import TICK, Wheel
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings

#: Bytes of a small kernel buffer: a few of these and the peer is behind. The kernel rounds it up.
SMALL = 2048
#: Rounds after which a scheduler that still has work has failed.
MANY_ROUNDS = 100_000
#: The answer to a peer that finds no place, or loses its place.
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Recorder:
    """Records events of connections in order; a test may set a function for an event."""

    events: list[tuple[str, Connection, object]] = field(default_factory=list)
    on: dict[str, Callable[[Connection], object]] = field(default_factory=dict)

    def note(self, event: str, connection: Connection, detail: object) -> bool:
        """Record an event and call the test's function for it; returns whether the handler wants another step."""
        self.events.append((event, connection, detail))
        return bool(self.on[event](connection)) if event in self.on else False


class RecordingHandler(Handler):
    """Handles every state except the last two, which have their own handler."""

    def __init__(self, connections: Connections, recorder: Recorder) -> None:
        super().__init__(connections)
        self.recorder = recorder
        self.lacks = 0  # the answer of `lacking` for every connection

    def received(self, connection: Connection, data: bytes) -> None:
        if self.recorder.note("received", connection, data):
            self._connections.resume(connection, later=True)

    def lacking(self, connection: Connection) -> int:
        return self.lacks

    def ended(self, connection: Connection) -> None:
        self.recorder.note("ended", connection, None)

    def writable(self, connection: Connection) -> None:
        if self.recorder.note("writable", connection, None):
            self._connections.resume(connection)

    def expired(self, connection: Connection) -> None:
        self.recorder.note("expired", connection, connection.state)

    def resumed(self, connection: Connection) -> None:
        if self.recorder.note("resumed", connection, None):
            self._connections.resume(connection, later=True)

    def faulted(self, connection: Connection) -> None:
        self.recorder.note("faulted", connection, None)

    def released(self, connection: Connection, context: object) -> None:
        self.recorder.note("released", connection, context)


class WatchedReadiness(Readiness):
    """The real readiness, which also keeps what each descriptor is armed for."""

    def __init__(self) -> None:
        super().__init__()
        self.armed: dict[int, int] = {}

    def add(self, descriptor: int, interest: int) -> None:
        self.armed[descriptor] = interest
        super().add(descriptor, interest)

    def arm(self, descriptor: int, interest: int) -> None:
        self.armed[descriptor] = interest
        super().arm(descriptor, interest)

    def ready(self, limit: int) -> list[tuple[int, int]]:
        events = super().ready(limit)
        for descriptor, _ in events:
            self.armed.pop(descriptor, None)
        return events


class Parked:
    """`Connections` with admission; the test plays poller and clock. States allow any context."""

    def __init__(
        self, *, total: int = 1000, listen: bool = False, now: float = 0.0,
        is_proxy: Callable[[str], bool] = lambda address: False, **settings: Any,
    ) -> None:  # fmt: skip
        self.settings = Settings(**{"per_ip": 0, **settings})
        self.readiness = WatchedReadiness()
        self.recorder = Recorder()
        self.connections = Connections(self.readiness, self.settings, now=now, closed=self._closed, is_proxy=is_proxy)
        self.admission = Admission(
            self.connections, self.settings, total=total, farewell=lambda connection: REFUSAL
        )  # fmt: skip
        self.handler = RecordingHandler(self.connections, self.recorder)
        for state in State:
            if state not in ENDING:
                self.connections.bind(state, self.handler, object)
        self.first: Callable[[str], State] = lambda address: State.HEAD
        self.refused: list[Reason] = []
        self.listeners = [self._listener()] if listen else []
        self.poller = Poller(self.connections, self.readiness, self.listeners)
        self.now = now
        self.peers: list[socket.socket] = []
        self.faults = 0  # of ours, that the test plants; any other fails it

    def _listener(self) -> Listener:
        self.socket = bind("127.0.0.1", 0, send_buffer=0)
        self.address: tuple[str, int] = self.socket.getsockname()

        def refused(reason: Reason, _: str) -> None:
            self.refused.append(reason)

        return Listener(
            self.socket, self.connections, self.admission, first=self.first, refusals=[REFUSAL], refused=refused
        )  # fmt: skip

    @property
    def listener(self) -> Listener:
        [listener] = self.listeners
        return listener

    def knock(self) -> socket.socket:
        """A new client of the listener, connected and non-blocking."""
        peer = socket.create_connection(self.address)
        peer.setblocking(False)
        self.peers.append(peer)
        return peer

    def inside(self) -> list[Connection]:
        """The open connections."""
        return [connection for connection in self.connections.table if connection is not None]

    def _closed(self, connection: Connection, reason: Reason) -> None:
        self.recorder.note("closed", connection, reason)
        self.admission.release(connection.address)

    def of(self, event: str) -> list[Connection]:
        """The connections of an event, in order."""
        return [connection for name, connection, _ in self.recorder.events if name == event]

    def details(self, event: str) -> list[object]:
        """The details of an event, in order."""
        return [detail for name, _, detail in self.recorder.events if name == event]

    def connect(
        self, *, small: bool = True, address: str = "192.0.2.1", operator: bool = False
    ) -> tuple[Connection, socket.socket]:  # fmt: skip
        """An admitted connection, and the peer's end of it."""
        return self._adopt(pair(small=small), address, operator=operator)

    def connect_tcp(self) -> tuple[Connection, socket.socket]:
        """The same over TCP, where shutdown and reset differ from a socket pair's."""
        return self._adopt(tcp_pair(), "192.0.2.1")

    def _adopt(
        self, ends: tuple[socket.socket, socket.socket], address: str, *, operator: bool = False
    ) -> tuple[Connection, socket.socket]:  # fmt: skip
        ours, peer = ends
        self.peers.append(peer)
        assert self.admission.admit(address, operator=operator) is None
        return self.connections.adopt(ours.detach(), address, self.first(address)), peer

    def place(self, state: State, context: object = None, **options: Any) -> tuple[Connection, socket.socket]:
        """The same, put into a state directly."""
        connection, peer = self.connect(**options)
        connection.state = state
        connection.context = context
        self.connections.wheel.watch(connection, self.connections.wheel.due[state])
        self.connections.arm(connection)
        return connection, peer

    def makes_room(self, address: str) -> bool:
        """Whether a connection is evicted for a newcomer from this address."""
        return self.admission.make_room(self.admission._by_network.get(network_of(address), 0))

    def armed(self, connection: Connection) -> int:
        """The events that it is armed for."""
        return self.readiness.armed.get(connection.descriptor, 0)

    def turn_over(self) -> None:
        """Run poller and scheduler until nothing is left to do."""
        for _ in range(MANY_ROUNDS):
            self.poller._gather()
            if self.connections.scheduler.idle:
                return
            self.connections.scheduler.round()
        raise AssertionError("there is no end of it")

    def run_rounds(self) -> None:
        """Run the scheduler until its queues are empty."""
        for _ in range(MANY_ROUNDS):
            if self.connections.scheduler.idle:
                return
            self.connections.scheduler.round()
        raise AssertionError("there is no end of it")

    def turn(self, *, seconds: float) -> list[Connection]:
        """Let time pass tick by tick; the connections that expired."""
        before = len(self.of("expired"))
        for _ in range(round(seconds / TICK)):
            self.now = next_tick(self.connections.wheel)
            for connection in self.connections.wheel.turn(self.now):
                self.poller.expire(connection)
            self.run_rounds()
        return self.of("expired")[before:]

    def drain(self, connection: Connection, peer: socket.socket) -> bytes:
        """Let the peer read until nothing is left to write; what it has read."""
        received = bytearray()
        while connection.blocked:
            received += take(peer)
            self.poller._write(connection)
        return bytes(received + take(peer))

    def close(self) -> None:
        self.recorder.on.clear()
        self.connections.close_all(Reason.DRAINING)
        for listener in self.listeners:
            listener.close()
        self.readiness.close()
        for peer in self.peers:
            peer.close()
        assert self.connections.faults.count == self.faults


def next_tick(wheel: Wheel) -> float:
    """The time of the next tick, on the wheel's clock."""
    return wheel._origin + (wheel.current + 1) * TICK


@contextmanager
def parked(**settings: Any) -> Iterator[Parked]:
    made = Parked(**settings)
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
    """The same over TCP: for RST, or a peer's window."""
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
    """Read at most `limit` bytes that have arrived."""
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
    """Whether FIN has arrived."""
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False


def reset(peer: socket.socket | trio.socket.SocketType) -> None:
    """Close with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


def descriptors(process: int | str = "self") -> int:
    """Open descriptors of this process, or on Linux of any process of this user."""
    folder = Path(f"/proc/{process}/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    return sum(1 for _ in folder.iterdir())
