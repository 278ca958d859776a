"""Many cheap clients on one epoll: what a client costs must not be what is measured.

Owns: the sockets, the loop. May not: parse more than a bench asks for; each client has one callable that is given
what came.

    with Crowd(server.address) as crowd:
        members = crowd.open(9_000, [Step(upgrade, b"\r\n\r\n"), Step(join, b'"joined"')], answer_pings)
        crowd.run(60.0)

Source addresses are spread over 127.0.0.0/8, so that neither ports nor a cap per address get in the way. Connecting
blocks, which on the loopback means until the kernel has queued it for the server's accept: a client that connects
faster than the server accepts would lose a second to a repeated SYN when the queue is full, so only `window` peers
are ever between connect and their first answer.
"""

import itertools
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from tests.bench import wire
from tests.bench.gauges import Address

#: Bytes read at a time; a member of a busy room takes much at once.
READ = 1 << 18
#: Connections from one source address; a client is not alone behind it, and ports are not short.
PER_ADDRESS = 50
#: Peers between connect and their last scripted answer.
WINDOW = 128
#: Seconds between two groups of `PACED_GROUP` peers that expect no answer: nothing else would hold them back.
PACE, PACED_GROUP = 0.01, 64
#: Seconds after which a peer that is still waiting for a scripted answer fails the bench.
STUCK = 30.0
#: Bytes of a segment on an Ethernet.
SEGMENT = 1460
_ABORT = struct.pack("ii", 1, 0)
_sources = itertools.count()


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to send, and what the answer must contain before the next step; b"" for no answer at all."""

    send: bytes
    expect: bytes


class Client:
    """One connection. `on_data` is called with what came, b"" for its end; None reads and counts, no more."""

    __slots__ = ("inbox", "on_data", "socket", "steps")

    def __init__(self, connected: socket.socket, steps: Sequence[Step], on_data: "OnData | None") -> None:
        self.socket = connected
        self.steps = list(steps)
        self.on_data = on_data
        self.inbox = b""


OnData: TypeAlias = Callable[[Client, bytes], None]


class ClosedError(Exception):
    """The server hung up on a client that should have lived."""


class Crowd:
    """Clients of one server, and the loop that serves them."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._buffer = bytearray(READ)  # one for all: a fresh quarter MiB for each read would cost more than the read
        self._unanswered = 0
        self.drained = 0  # bytes that came for clients without `on_data`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._epoll.close()

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(
        self, count: int, steps: Sequence[Step], on_data: OnData | None, *,
        window: int = WINDOW, receive_buffer: int = 0,
    ) -> list[Client]:  # fmt: skip
        """Connect so many, take each through its steps, then hand it to `on_data`."""
        opened = []
        paced = not any(step.expect for step in steps)
        for index in range(count):
            opened.append(self.begin(steps, on_data, receive_buffer=receive_buffer))
            if paced and index % PACED_GROUP == PACED_GROUP - 1:
                self.run(PACE)
            while self._unanswered >= window:
                self.turn(1.0)
        patience = time.perf_counter() + STUCK
        while self._unanswered:
            self.turn(1.0)
            if time.perf_counter() > patience:
                raise TimeoutError(f"{self._unanswered} of {count} clients got no answer")
        return opened

    def begin(self, steps: Sequence[Step], on_data: OnData | None, *, receive_buffer: int = 0) -> Client:
        """Connect one, and send what its first step says."""
        connected = connect(self.address, receive_buffer=receive_buffer)
        client = Client(connected, steps, on_data)
        self._clients[connected.fileno()] = client
        self._epoll.register(connected.fileno(), select.EPOLLIN)
        self._advance(client)
        return client

    def _advance(self, client: Client) -> None:
        while client.steps:
            step = client.steps[0]
            client.socket.send(step.send)
            if step.expect:
                self._unanswered += 1
                return
            del client.steps[0]

    def deafen(self, clients: Sequence[Client]) -> None:
        """Read no more from some, whatever comes."""
        for client in clients:
            self._epoll.unregister(client.socket.fileno())

    def wake_for(self, descriptor: int) -> None:
        """Have `turn` return when this is readable, too."""
        self._epoll.register(descriptor, select.EPOLLIN)

    # -- running ----------------------------------------------------------------------------------------------------

    def turn(self, timeout: float) -> int:
        """Wait for events once and serve them; how many there were."""
        clients = self._clients
        events = self._epoll.poll(timeout, 1024)
        for descriptor, _ in events:
            client = clients.get(descriptor)
            if client is None:
                continue
            try:
                count = client.socket.recv_into(self._buffer)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                count = 0
            if not count:
                self._forget(client)
            if client.steps:
                self._answered(client, bytes(self._buffer[:count]))
            elif client.on_data is not None:
                client.on_data(client, bytes(self._buffer[:count]))
            else:
                self.drained += count
        return len(events)

    def _answered(self, client: Client, data: bytes) -> None:
        if not data:
            raise ClosedError(f"hung up while {client.steps[0].expect!r} was expected: {client.inbox[-300:]!r}")
        client.inbox += data
        if client.steps[0].expect in client.inbox:
            client.inbox = b""
            del client.steps[0]
            self._unanswered -= 1
            self._advance(client)

    def run(self, seconds: float) -> None:
        """Serve for a while."""
        self.run_until(time.perf_counter() + seconds)

    def run_until(self, when: float) -> None:
        """Serve until a moment of `time.perf_counter`."""
        while (left := when - time.perf_counter()) > 0:
            self.turn(left)

    # -- closing ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Hang up on everybody."""
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()

    def hang_up(self, clients: Sequence[Client]) -> None:
        """Hang up on some."""
        for client in clients:
            if self._clients.pop(client.socket.fileno(), None) is not None:
                client.socket.close()

    def abort(self, client: Client) -> None:
        """Close one with RST."""
        if self._clients.pop(client.socket.fileno(), None) is not None:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            client.socket.close()

    def _forget(self, client: Client) -> None:
        del self._clients[client.socket.fileno()]
        client.socket.close()

    def __len__(self) -> int:
        return len(self._clients)


def connect(address: Address, *, receive_buffer: int = 0) -> socket.socket:
    """A connected, non-blocking socket from the next source address.

    With a `receive_buffer`, segments are small too, as they are off the loopback: one of 64 KiB would fill it at once.
    """
    group = next(_sources) // PER_ADDRESS
    source = f"127.{1 + (group >> 14 & 63)}.{group >> 7 & 127}.{1 + (group & 127)}"
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    sock.bind((source, 0))
    sock.connect(address)
    sock.setblocking(False)
    return sock


# -- what clients do with what comes -----------------------------------------------------------------------------------


def ignore(client: Client, data: bytes) -> None:
    """Read, and think nothing of it."""


def must_live(client: Client, data: bytes) -> None:
    """For those the server may not hang up on."""
    if not data:
        raise ClosedError("hung up on a client that should have been held")


def answer_pings(client: Client, data: bytes) -> None:
    """An idle WebSocket: alone among what it hears, a ping wants an answer."""
    if not data:
        raise ClosedError("hung up on an idle WebSocket")
    found, client.inbox = wire.frames(client.inbox + data if client.inbox else data)
    for start, _ in found:
        if start == wire.PING:
            client.socket.send(wire.EMPTY_PONG)
