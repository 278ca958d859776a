"""What a peer under TLS costs: bytes when idle, bytes while it is slow in its handshake, CPU of a handshake.

How: as in `memory`, the growth of Pss while a crowd comes; a fresh server for each kind. The certificate is ECDSA
P-256. CPU is the server's, for connect, handshake, upgrade and join, in turns with a peer that only answers
(peers/bare_tls.py).
What would fool it: OpenSSL allocates small pieces from the C library's heap, so holes that earlier peers left make the
next ones look cheaper. So only `WARM` peers come first, and each server has one crowd.
"""

import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from chatserver.net.states import State
from tests.bench import wire
from tests.bench.clients import connect
from tests.bench.figures import TIMES, Figure, Result, Scale, at_most, compared, spread
from tests.bench.gauges import Address, held, require_held
from tests.bench.memory import SETTLE, bytes_of, grown
from tests.bench.processes import Process, chatserver, peer
from tests.support.certificates import NAMES, certificate, client_hello, trusting
from tests.support.peers import upgrade

#: Peers that come and go before the first reading.
WARM = 100
#: Rounds in which the CPU is measured, and joins in each of its turns.
ROUNDS, JOINS = 5, 200
#: Peers half-way in the handshake: fewer than the server's limit.
FEW = 200
_PATIENT = ("--tls-deadline", "3600", "--head-deadline", "3600", "--ping-interval", "3600")
_VERSIONS = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}


IDLE = {
    "1.3": bytes_of("idle WebSocket under TLS 1.3", 17_000, 14_000),
    "1.2": bytes_of("idle WebSocket under TLS 1.2", 14_000, 13_500),
}
SLOW_HELLO = bytes_of("half a ClientHello", 2_000, 1_200)
HALF_SHAKEN = bytes_of("a handshake left half-way", 60_000, 45_000)
CROWD = at_most("memory: 2,000 of these", " MB", bound=16, aim=12)
FIRST, AGAIN = (
    at_most(name, TIMES, bound=3, aim=2)
    for name in ("connect and join under TLS 1.3: CPU, of bare OpenSSL's", "the same with a ticket")
)


def run(scale: Scale) -> Iterator[Result]:
    count = scale.of(2_000, 50)
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        files = certificate(Path(folder))
        flags = ("--tls-cert", files[0], "--tls-key", files[1], *_PATIENT)
        for version, figure in IDLE.items():
            with chatserver(*flags) as server:
                join = partial(_websocket, server.address, trusting(_VERSIONS[version]))
                yield _memory_of(server, figure, State.OPEN, join, scale, count)
        hello = client_hello()
        half = hello[: len(hello) // 2]
        with chatserver(*flags) as server:
            yield _memory_of(server, SLOW_HELLO, State.TLS_HELLO, partial(_send, server.address, half), scale, count)
        with chatserver(*flags) as server:
            shake = partial(_shake_half, server.address, hello)
            yield _memory_of(server, HALF_SHAKEN, State.TLS_HANDSHAKE, shake, scale, scale.of(FEW, 50))
        with chatserver(*flags) as server:
            yield _crowd_of_hellos(server, count, scale.of(SETTLE, 0.3))
        with chatserver(*flags) as server, peer("bare_tls", *files) as bare, chatserver(*_PATIENT) as plain:
            yield from _joins(server, bare, plain, scale)


def _memory_of(
    server: Process, figure: Figure, state: State, connect_one: Callable[[], socket.socket], scale: Scale, count: int
) -> Result:
    """Bytes of Pss for each of so many peers, on a fresh server."""
    settle = scale.of(SETTLE, 0.3)
    with ExitStack() as first:
        for _ in range(WARM):
            first.enter_context(connect_one())
    time.sleep(settle)
    before = server.memory()
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect_one())
        time.sleep(settle)
        after = server.memory()
        require_held(server.address, count, state, tls=trusting())
    return grown(figure, before, after, count)


def _joins(server: Process, bare: Process, plain: Process, scale: Scale) -> Iterator[Result]:
    """CPU of a join at the server and at the bare peer in turns, without and with a session ticket."""
    count = scale.of(JOINS, 20)
    context = trusting(_VERSIONS["1.3"])
    samples: dict[tuple[str, int], list[float]] = {}
    without: list[float] = []
    with ExitStack() as stack:
        tickets = {}
        for side in (server, bare):
            _open(stack, side, WARM, context)
            tickets[side.pid] = _ticket(stack.enter_context(_websocket(side.address, context)))
        _open(stack, plain, WARM)
        for _ in range(scale.of(ROUNDS, 1)):
            for side in (server, bare):
                samples.setdefault(("first", side.pid), []).append(_open(stack, side, count, context))
                again = _open(stack, side, count, context, tickets[side.pid])
                samples.setdefault(("again", side.pid), []).append(again)
            without.append(_open(stack, plain, count))
    for figure, kind in ((FIRST, "first"), (AGAIN, "again")):
        more = f"; {spread(without)} µs without TLS; ECDSA P-256"
        yield compared(figure, samples[kind, server.pid], samples[kind, bare.pid], unit=" µs", more=more)


def _open(
    stack: ExitStack, server: Process, count: int, context: ssl.SSLContext | None = None,
    ticket: ssl.SSLSession | None = None,
) -> float:  # fmt: skip
    """Open WebSockets one after the other; the server's CPU for each, in microseconds."""
    cpu = server.cpu()
    for _ in range(count):
        stack.enter_context(_websocket(server.address, context, ticket))
    return (server.cpu() - cpu) / count * 1e6


def _ticket(peer: socket.socket) -> ssl.SSLSession | None:
    assert isinstance(peer, ssl.SSLSocket)
    return peer.session


def _websocket(address: Address, context: ssl.SSLContext | None, ticket: ssl.SSLSession | None = None) -> socket.socket:
    """A blocking WebSocket that has joined a room."""
    peer = connect(address)
    peer.setblocking(True)
    # Without it the second of two small writes, as at the end of a handshake, waits for an ACK delayed by 40 ms.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        peer = context.wrap_socket(peer, server_hostname=NAMES[0], session=ticket)
    heard = b""
    for said, answer in ((upgrade(), b'"hello"'), (wire.join("bench"), b'"joined"')):
        peer.send(said)
        while answer not in heard:
            heard += peer.recv(65_536)
    return peer


def _crowd_of_hellos(server: Process, count: int, settle: float) -> Result:
    """The most that a crowd costs of which only some may be half-way in the handshake."""
    time.sleep(settle)
    before, most = server.memory(), 0
    hello = client_hello()
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(_send(server.address, hello))
            if number % FEW == 0:
                most = max(most, server.memory())
        time.sleep(settle)
        most = max(most, server.memory())
        shaking = held(server.address, State.TLS_HANDSHAKE, tls=trusting())
    details = f"{count:,} sent {len(hello)} B each, {shaking:.0f} are half-way at the end"
    return Result(figure=CROWD, samples=[(most - before) / 1e6], details=details)


def _send(address: Address, data: bytes) -> socket.socket:
    peer = connect(address)
    peer.setblocking(True)
    peer.send(data)
    return peer


def _shake_half(address: Address, hello: bytes) -> socket.socket:
    """Send a ClientHello and wait for the server's answer."""
    peer = _send(address, hello)
    peer.recv(1)
    return peer
