"""What a peer under TLS costs: bytes at rest, bytes while it is slow in its handshake, CPU for a handshake.

How: as in `memory`, Pss before and after a crowd that the server shows in its phase; a fresh server for each kind. The
certificate is ECDSA P-256, the usual one today. CPU is the server's own, for connect, handshake, upgrade and join,
beside what the least that could answer spends on the same (peers/bare_tls.py), some at a time in turns.
What would fool it: OpenSSL takes its memory in small pieces from the C library's heap, so a heap with holes from
earlier peers makes the next ones look cheaper. So few are let in first (`WARM`), and one crowd in a server's life.
"""

import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPSConnection
from pathlib import Path

from tests.bench import wire
from tests.bench.clients import connect
from tests.bench.figures import TIMES, Better, Figure, Result, Scale, spread
from tests.bench.gauges import Address
from tests.bench.processes import Process, chatserver, peer
from tests.support.certificates import NAMES, certificate, client_hello, trusting
from tests.support.peers import upgrade

#: Peers let in and out before the first reading.
WARM = 100
#: Rounds in which the CPU is measured, and joins in each of its turns.
ROUNDS, JOINS = 5, 200
#: Seconds for the server to come to rest.
SETTLE = 4.0
#: Fewer than may be half-way through their handshake at a time.
FEW = 200
_PATIENT = ("--tls-deadline", "3600", "--head-deadline", "3600", "--ping-interval", "3600")
_VERSIONS = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}


def _memory(name: str, bound: float, aim: float) -> Figure:
    return Figure(name=f"memory: {name}", unit=" B", bound=bound, aim=aim, better=Better.LOWER)


IDLE = {
    "1.3": _memory("idle WebSocket under TLS 1.3", 17_000, 14_000),
    "1.2": _memory("idle WebSocket under TLS 1.2", 14_000, 13_500),
}
SLOW_HELLO = _memory("half a ClientHello", 2_000, 1_200)
HALF_SHAKEN = _memory("a handshake left half-way", 60_000, 45_000)
CROWD = Figure(name="memory: 2,000 of these", unit=" MB", bound=16, aim=12, better=Better.LOWER)
FIRST, AGAIN = (
    Figure(name=name, unit=TIMES, bound=3, aim=2, better=Better.LOWER)
    for name in ("connect and join under TLS 1.3: CPU, of bare OpenSSL's", "the same with a ticket")
)


def run(scale: Scale) -> Iterator[Result]:
    """Each kind in turn."""
    count = scale.of(2_000, 50)
    settle = scale.of(SETTLE, 0.3)
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        files = certificate(Path(folder))
        flags = ("--tls-cert", files[0], "--tls-key", files[1], *_PATIENT)
        for version in _VERSIONS:
            with chatserver(*flags) as server:
                yield _idle(server, version, count, settle)
        for figure, take, held in ((SLOW_HELLO, 0.5, count), (HALF_SHAKEN, 1.0, scale.of(FEW, 50))):
            with chatserver(*flags) as server:
                yield _hellos(server, figure, take, held, settle)
        with chatserver(*flags) as server:
            yield _crowd_of_hellos(server, count, settle)
        with chatserver(*flags) as server, peer("bare_tls", *files) as bare, chatserver(*_PATIENT) as plain:
            yield from _joins(server, bare, plain, scale)


def _idle(server: Process, version: str, count: int, settle: float) -> Result:
    context = trusting(_VERSIONS[version])
    with ExitStack() as first:
        _open(first, server, WARM, context)
    time.sleep(settle)
    before = server.memory()
    with ExitStack() as stack:
        _open(stack, server, count, context)
        time.sleep(settle)
        after = server.memory()
        held = _held(server.address, "open")
        if held < count:
            raise RuntimeError(f"{held:.0f} of {count} are open")
    details = f"{count:,} held; Pss {before / 2**20:.1f} to {after / 2**20:.1f} MiB"
    return Result(figure=IDLE[version], samples=[(after - before) / count], details=details)


def _joins(server: Process, bare: Process, plain: Process, scale: Scale) -> Iterator[Result]:
    """CPU for a join, in turns: at the server and at the floor, first without and then with a ticket."""
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
        ours, theirs = samples[kind, server.pid], samples[kind, bare.pid]
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        details = f"{spread(ours)} µs against {spread(theirs)} µs; {spread(without)} µs without TLS; ECDSA P-256"
        yield Result(figure=figure, samples=ratios, details=details)


def _open(
    stack: ExitStack, server: Process, count: int, context: ssl.SSLContext | None = None,
    ticket: ssl.SSLSession | None = None,
) -> float:  # fmt: skip
    """Open some, one after the other; the server's CPU for each, in microseconds."""
    cpu = server.cpu()
    for _ in range(count):
        stack.enter_context(_websocket(server.address, context, ticket))
    return (server.cpu() - cpu) / count * 1e6


def _ticket(peer: socket.socket) -> ssl.SSLSession | None:
    assert isinstance(peer, ssl.SSLSocket)
    return peer.session


def _websocket(address: Address, context: ssl.SSLContext | None, ticket: ssl.SSLSession | None = None) -> socket.socket:
    """One that has joined; it blocks, since each waits for its turn."""
    peer = connect(address)
    peer.setblocking(True)
    # Two small writes in a row, as at the end of a handshake, would wait for an ACK that is put off for 40 ms.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        peer = context.wrap_socket(peer, server_hostname=NAMES[0], session=ticket)
    heard = b""
    for said, answer in ((upgrade(), b'"hello"'), (wire.join("bench"), b'"joined"')):
        peer.send(said)
        while answer not in heard:
            heard += peer.recv(65_536)
    return peer


def _hellos(server: Process, figure: Figure, take: float, count: int, settle: float) -> Result:
    hello = client_hello()
    part = hello[: int(len(hello) * take)]
    with ExitStack() as first:
        for _ in range(WARM):
            first.enter_context(_send(server.address, part))
    time.sleep(settle)
    before = server.memory()
    with ExitStack() as stack:
        for _ in range(count):
            peer = stack.enter_context(_send(server.address, part))
            if take == 1.0:
                peer.recv(1)
        time.sleep(settle)
        after = server.memory()
        held = _held(server.address, "tls")
        if held < count:
            raise RuntimeError(f"{held:.0f} of {count} are in their handshake")
    details = f"{count:,} held, each sent {len(part)} B; Pss {before / 2**20:.1f} to {after / 2**20:.1f} MiB"
    return Result(figure=figure, samples=[(after - before) / count], details=details)


def _crowd_of_hellos(server: Process, count: int, settle: float) -> Result:
    """More than may be half-way: what they cost at most is what those cost who are."""
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
        held = _held(server.address, "tls")
    details = f"{count:,} sent {len(hello)} B each, {held:.0f} are half-way at the end"
    return Result(figure=CROWD, samples=[(most - before) / 1e6], details=details)


def _send(address: Address, data: bytes) -> socket.socket:
    peer = connect(address)
    peer.setblocking(True)
    peer.send(data)
    return peer


def _held(address: Address, phase: str) -> float:
    connection = HTTPSConnection(*address, timeout=30, context=trusting())
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = (line for line in text.splitlines() if line.startswith("chatserver_connections{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'phase="{phase}"' in line)
