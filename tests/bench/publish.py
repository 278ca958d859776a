"""Server CPU of one durable publish, against a bare h11 request and response cycle; and of a change, against a publish.

How: 100 publishers, each with one publish under way, on SQLite with `synchronous=FULL`. CPU of the whole server, with
the log's thread and the kernel's part, is divided by acknowledged publishes: over HTTP with keep-alive, and over
WebSocket. In turns, a process in memory parses the same request with h11 and answers; and over WebSocket messages are
edited and reacted to, each time another one.
What would fool it: publishes that are not durable when they are acknowledged; members in the room, whose deliveries
would count as publishing (here it has none).
"""

from collections.abc import Iterator
from statistics import median

from tests.bench import wire
from tests.bench.clients import Crowd, Step
from tests.bench.figures import TIMES, Result, Scale, at_most, compared
from tests.bench.processes import Process, chatserver, peer
from tests.bench.publishers import Changer, Poster, Publisher, measure
from tests.support.peers import upgrade

OVER_HTTP = at_most("durable publish over HTTP: CPU, of a bare h11 cycle's", TIMES, bound=3, aim=2)
OVER_WEBSOCKET = at_most("durable publish over WebSocket: CPU, of a bare h11 cycle's", TIMES, bound=1.8, aim=1.1)
EDIT = at_most("edit over WebSocket: CPU, of a publish's", TIMES, bound=1.5, aim=1)
REACTION = at_most("reaction over WebSocket: CPU, of a publish's", TIMES, bound=1.5, aim=1)
ROUNDS = 5
PUBLISHERS = 100
#: All WebSockets are one guest, so that each may edit any message.
GUEST = {"Cookie": f"chat_session={'b' * 22}"}
#: Messages that are edited and reacted to, in turn. They are the room's oldest, so that retention is off.
CHANGED = 2_000


def run(scale: Scale) -> Iterator[Result]:
    http, websocket, bare = [], [], []
    edits: list[tuple[float, float]] = []
    reactions: list[tuple[float, float]] = []
    seconds, cycles = scale.of(2.0, 0.1), scale.of(20_000, 500)
    with chatserver("--retain-messages", "0") as server, peer("bare_h11") as other, Crowd(server.address) as crowd:
        request = wire.post_message("bench", wire.TEXT)
        poster = Poster(request)
        posters = crowd.open(PUBLISHERS, [], poster)
        publisher = Publisher(wire.publish("bench", wire.TEXT))
        publishers = crowd.open(PUBLISHERS, [Step(upgrade(headers=GUEST), b'"hello"')], publisher)
        changed = scale.of(CHANGED, 10)
        while publisher.acknowledged < changed:
            measure(server, crowd, publisher, publishers, 0.1)
        changers = Changer("edit", changed), Changer("react", changed)
        measure(server, crowd, poster, posters, scale.of(0.3, 0.1))
        for _ in range(scale.of(ROUNDS, 1)):
            http.append(measure(server, crowd, poster, posters, seconds))
            bare.append(_bare(other, cycles, request))
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
        used, rates = zip(*side, strict=True)
        yield compared(figure, used, floors, unit=" µs", more=f"; {median(rates):,.0f} publishes/s")


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
