"""Many cheap clients on one epoll, so that the clients' own cost is not what is measured.

Owns: the sockets, the loop. May not: parse more than a bench needs; what a client receives goes to its callable.

    with Crowd(server.address) as crowd:
        members = crowd.open(9_000, [Step(upgrade, b"\r\n\r\n"), Step(join, b'"joined"')], hear)
        crowd.run(60.0)

Source addresses are spread over 127.0.0.0/8, because of the cap per address and the number of ports. At most `window`
clients are between connect and their last scripted answer: with a full accept queue a SYN is repeated after a second.
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
from tests.support.peers import upgrade

#: Bytes read at a time.
READ = 1 << 18
#: Connections from one source address.
PER_ADDRESS = 50
#: Clients between connect and their last scripted answer.
WINDOW = 128
#: Seconds between two groups of `PACED_GROUP` clients that expect no answer.
PACE, PACED_GROUP = 0.01, 64
#: Seconds without any scripted answer after which the bench fails.
STUCK = 30.0
_ABORT = struct.pack("ii", 1, 0)
_sources = itertools.count()


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to send, and what the answer must contain before the next step; b"" if none is awaited."""

    send: bytes
    expect: bytes


#: The first step of a chat client.
HELLO = Step(upgrade(), b'"hello"')


def joins(room: str) -> Step:
    return Step(wire.join(room), b'"joined"')


class Client:
    """One connection. `on_data` is called with received bytes, b"" at the end; with None they are only counted."""

    __slots__ = ("inbox", "on_data", "socket", "steps")

    def __init__(self, connected: socket.socket, steps: Sequence[Step], on_data: "OnData | None") -> None:
        self.socket = connected
        self.steps = list(steps)
        self.on_data = on_data
        self.inbox = b""


OnData: TypeAlias = Callable[[Client, bytes], object]


class ClosedError(Exception):
    """The server closed a connection that should have stayed open."""


class Crowd:
    """Clients of one server, and the loop that serves them."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._buffer = bytearray(READ)  # one for all: to allocate it costs more than a read
        self._unanswered = 0
        self.drained = 0  # bytes that came for clients without `on_data`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._epoll.close()

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(
        self, count: int, steps: Sequence[Step] | Callable[[], Sequence[Step]], on_data: OnData | None, *,
        window: int = WINDOW,
    ) -> list[Client]:  # fmt: skip
        """Connect `count` clients; each does these steps, or those made for it, and then its data goes to `on_data`."""
        opened = []
        paced = not callable(steps) and not any(step.expect for step in steps)
        for index in range(count):
            opened.append(self.begin(steps() if callable(steps) else steps, on_data))
            if paced and index % PACED_GROUP == PACED_GROUP - 1:
                self.run(PACE)
            self._await_answers(window - 1)
        self._await_answers(0)
        return opened

    def _await_answers(self, most: int) -> None:
        """Serve until at most so many clients wait for a scripted answer. Raises TimeoutError."""
        patience, least = time.perf_counter() + STUCK, self._unanswered
        while self._unanswered > most:
            self.turn(max(patience - time.perf_counter(), 0.0))
            if self._unanswered < least:
                patience, least = time.perf_counter() + STUCK, self._unanswered
            if time.perf_counter() > patience:
                raise TimeoutError(f"{self._unanswered} clients got no answer for {STUCK:g} s")

    def begin(self, steps: Sequence[Step], on_data: OnData | None) -> Client:
        """Connect one client and send its first step."""
        connected = connect(self.address)
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

    def wake_for(self, descriptor: int) -> None:
        """Let `turn` also return when this descriptor is readable."""
        self._epoll.register(descriptor, select.EPOLLIN)

    # -- running ----------------------------------------------------------------------------------------------------

    def turn(self, timeout: float) -> int:
        """Wait for events once, serve them, and return their number."""
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
            raise ClosedError(
                f"the server closed a connection while {client.steps[0].expect!r} was expected: {client.inbox[-300:]!r}"
            )
        client.inbox += data
        if client.steps[0].expect in client.inbox:
            client.inbox = b""
            del client.steps[0]
            self._unanswered -= 1
            self._advance(client)

    def run(self, seconds: float) -> None:
        self.run_until(time.perf_counter() + seconds)

    def run_until(self, when: float) -> None:
        """Serve until a time of `time.perf_counter`."""
        while (left := when - time.perf_counter()) > 0:
            self.turn(left)

    # -- closing ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()

    def hang_up(self, clients: Sequence[Client]) -> None:
        for client in clients:
            if self._clients.pop(client.socket.fileno(), None) is not None:
                client.socket.close()

    def abort(self, client: Client) -> None:
        """Close with RST."""
        if self._clients.pop(client.socket.fileno(), None) is not None:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            client.socket.close()

    def _forget(self, client: Client) -> None:
        del self._clients[client.socket.fileno()]
        client.socket.close()

    def __len__(self) -> int:
        return len(self._clients)


def connect(address: Address) -> socket.socket:
    """A connected, non-blocking socket from the next source address."""
    group = next(_sources) // PER_ADDRESS
    source = f"127.{1 + (group >> 14 & 63)}.{group >> 7 & 127}.{1 + (group & 127)}"
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    sock.connect(address)
    sock.setblocking(False)
    return sock


# -- callables for `on_data` -------------------------------------------------------------------------------------------


def ignore(client: Client, data: bytes) -> None:
    """Drop the data."""


def must_live(client: Client, data: bytes) -> None:
    """Raise ClosedError when the server closes the connection."""
    if not data:
        raise ClosedError("the server closed a connection that it should have held")


def hear(client: Client, data: bytes) -> list[bytes]:
    """Answer pings; the payloads of all other frames that are complete. Raises ClosedError."""
    must_live(client, data)
    found, client.inbox = wire.frames(client.inbox + data if client.inbox else data)
    texts = []
    for start, payload in found:
        if start == wire.PING:
            client.socket.send(wire.EMPTY_PONG)
        else:
            texts.append(payload)
    return texts
