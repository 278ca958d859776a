"""Server CPU of one durable publish, against a bare h11 request and response cycle; and of a change, against a publish.

How: 100 publishers, each with one publish under way, on SQLite with `synchronous=FULL`; CPU of the whole server, the
log's thread and the kernel's part included, by acknowledged publishes: over HTTP with keep-alive, and over WebSocket.
In turns with both, a process that takes the same request bytes through h11 and answers, in memory; and over WebSocket
edits of messages, and reactions to them, each time to another one.
What would fool it: publishes that are not durable when they are acknowledged; a room with members in it, whose
deliveries would be counted as publishing (here it has none).
"""

import time
from collections.abc import Iterator

from tests.bench import wire
from tests.bench.broadcast import TEXT
from tests.bench.clients import Client, ClosedError, Crowd, Step
from tests.bench.figures import TIMES, Better, Figure, Result, Scale, median, spread
from tests.bench.flood import Publisher
from tests.bench.processes import Process, chatserver, peer
from tests.support.peers import say, upgrade

OVER_HTTP = Figure(
    name="durable publish over HTTP: CPU, of a bare h11 cycle's", unit=TIMES, bound=3, aim=2, better=Better.LOWER
)
OVER_WEBSOCKET = Figure(
    name="durable publish over WebSocket: CPU, of a bare h11 cycle's", unit=TIMES, bound=1.8, aim=1.1,
    better=Better.LOWER,
)  # fmt: skip
EDIT = Figure(name="edit over WebSocket: CPU, of a publish's", unit=TIMES, bound=1.5, aim=1, better=Better.LOWER)
REACTION = Figure(
    name="reaction over WebSocket: CPU, of a publish's", unit=TIMES, bound=1.5, aim=1, better=Better.LOWER
)  # fmt: skip
ROUNDS = 5
PUBLISHERS = 100
#: Who all the WebSockets are, so that each may edit what any has published.
GUEST = {"Cookie": f"chat_session={'b' * 22}"}
#: Messages that are changed in turns.
CHANGED = 2_000


class Poster:
    """One publish after the other over HTTP."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.running = False
        self.acknowledged = 0

    def __call__(self, client: Client, data: bytes) -> None:
        """An answer: the next publish."""
        client.inbox += data
        if not client.inbox.endswith(b"}\n"):
            if not data:
                raise ClosedError("hung up on a publisher")
            return
        if not client.inbox.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"a publish was refused: {client.inbox!r}")
        client.inbox = b""
        self.acknowledged += 1
        if self.running:
            client.socket.send(self.request)


class Changer(Publisher):
    """Edits or reactions, each of the next message; in one turn reactions are put on, in the next one taken off."""

    def __init__(self, kind: str, changed: int) -> None:
        super().__init__(b"")
        self._kind = kind
        self._changed = changed
        self._count = 0

    def frames(self, count: int) -> bytes:
        """The next so many."""
        return b"".join([self._next() for _ in range(count)])

    def _next(self) -> bytes:
        turn, target = divmod(self._count, self._changed)
        self._count += 1
        if self._kind == "edit":
            return say(type="edit", id=2, room="bench", offset=target + 1, text=TEXT)
        return say(type="react", id=2, room="bench", offset=target + 1, emoji="👍", on=turn % 2 == 0)


def run(scale: Scale) -> Iterator[Result]:
    """Take turns."""
    http, websocket, bare = [], [], []
    edits: list[tuple[float, float]] = []
    reactions: list[tuple[float, float]] = []
    seconds, cycles = scale.of(2.0, 0.1), scale.of(20_000, 500)
    with chatserver() as server, peer("bare_h11") as other, Crowd(server.address) as crowd:
        poster = Poster(wire.post_message("bench", TEXT))
        posters = crowd.open(PUBLISHERS, [], poster)
        publisher = Publisher(wire.publish("bench", TEXT))
        publishers = crowd.open(PUBLISHERS, [Step(upgrade(headers=GUEST), b'"hello"')], publisher)
        changed = scale.of(CHANGED, 10)
        while publisher.acknowledged < changed:
            measure(server, crowd, publisher, publishers, 0.1)
        changers = Changer("edit", changed), Changer("react", changed)
        measure(server, crowd, poster, posters, scale.of(0.3, 0.1))
        for _ in range(scale.of(ROUNDS, 1)):
            http.append(measure(server, crowd, poster, posters, seconds))
            bare.append(_bare(other, cycles, poster.request))
            websocket.append(measure(server, crowd, publisher, publishers, seconds))
            for side, changer in zip((edits, reactions), changers, strict=True):
                for client in publishers:
                    client.on_data = changer
                side.append(measure(server, crowd, changer, publishers, seconds))
            for client in publishers:
                client.on_data = publisher
    published = [used for used, _ in websocket]
    for figure, side, floors in (
        (OVER_HTTP, http, bare), (OVER_WEBSOCKET, websocket, bare), (EDIT, edits, published),
        (REACTION, reactions, published),
    ):  # fmt: skip
        ratios = [used / floor for (used, _), floor in zip(side, floors, strict=True)]
        details = (
            f"{spread([used for used, _ in side])} µs against {spread(floors)} µs;"
            f" {median([rate for _, rate in side]):,.0f} publishes/s"
        )
        yield Result(figure=figure, samples=ratios, details=details)


def measure(
    server: Process, crowd: Crowd, publisher: Poster | Publisher, clients: list[Client], seconds: float
) -> tuple[float, float]:
    """µs of the server's CPU for a publish, publishes a second."""
    cpu, start, before = server.cpu(), time.perf_counter(), publisher.acknowledged
    publisher.running = True
    for client in clients:
        client.socket.send(publisher.request if isinstance(publisher, Poster) else publisher.frames(1))
    crowd.run(seconds)
    publisher.running = False
    count, taken = publisher.acknowledged - before, time.perf_counter() - start
    while publisher.acknowledged - before < count + len(clients):
        if not crowd.turn(5.0):
            raise TimeoutError("publishes were not acknowledged")
    return (server.cpu() - cpu) / (count + len(clients)) * 1e6, count / taken


def _bare(other: Process, cycles: int, request: bytes) -> float:
    cpu = other.cpu()
    bare_cycles(other, cycles, request)
    return (other.cpu() - cpu) / cycles * 1e6


def bare_cycles(other: Process, cycles: int, request: bytes) -> int:
    """Have `bare_h11` do so many, with an answer like ours."""
    body = b'{"room":"bench","offset":123456,"cursor":"k3f9-123456","time":"2026-11-20T12:00:00.123Z"}'
    other.tell(f"cycles {cycles} {request.hex()} {body.hex()}")
    other.hear()
    return cycles
