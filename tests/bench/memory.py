"""Memory of the server for each kind of peer that it holds.

How: a fresh server for each kind. Some hundreds of peers come and go first, so that modules are imported and pools
filled: of users with tokens as many as the server remembers, which is 2 MB in all. Then the growth of Pss while the
crowd comes is divided by its number.
What would fool it: a server that has closed some of them, so /metrics must count all of them in their phase; growth in
steps, as of lists and arenas, which a crowd of thousands averages out. Kernel memory is not included. The deadlines of
attackers are lifted.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path

from chatserver.api.tokens import CACHED_TOKENS
from chatserver.net.states import State
from tests.bench import wire
from tests.bench.clients import HELLO, Crowd, OnData, Step, hear, joins, must_live
from tests.bench.figures import Figure, Result, Scale, at_most
from tests.bench.gauges import metrics, require_held
from tests.bench.processes import Process, chatserver
from tests.support.peers import request, upgrade
from tests.support.tokens import bearer, secret_file, token

#: Seconds for the server to come to rest, with a full collection and an announcement of presence.
SETTLE = 4.0
_PATIENT = ("--head-deadline", "3600", "--body-deadline", "3600", "--body-deadline-max", "3600")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of peer, and the state in which /metrics counts it."""

    figure: Figure
    state: State
    on_data: OnData
    steps: Callable[[], Sequence[Step]] | None = None  # makes those of each peer, if they differ
    first: int = 600  # how many come and go before


_users = numbers()


def _signs_in() -> Sequence[Step]:
    """A user of its own for each WebSocket."""
    number = next(_users)
    opening = upgrade(headers=bearer(token(sub=f"u_{number}", name=f"User {number}")))
    return [Step(opening, b'"hello"'), joins("bench")]


def bytes_of(name: str, bound: float, aim: float) -> Figure:
    return at_most(f"memory: {name}", " B", bound=bound, aim=aim)


KINDS = (
    Kind(bytes_of("idle WebSocket, joined", 800, 450), State.OPEN, hear),
    Kind(bytes_of("idle WebSocket, signed in", 550, 500), State.OPEN, hear, _signs_in, CACHED_TOKENS),
    Kind(bytes_of("held long-poll", 800, 450), State.HELD, must_live),
    Kind(bytes_of("idle SSE stream", 800, 450), State.STREAM, must_live),
    Kind(bytes_of("slow-head attacker", 1200, 500), State.HEAD, must_live),
    Kind(bytes_of("slow-body attacker", 2000, 800), State.BODY, must_live),
)

#: What a peer sends to be in a state and stay there.
STEPS: dict[State, Sequence[Step]] = {
    State.OPEN: [HELLO, joins("bench")],
    State.HELD: [Step(request("GET", "/rooms/bench/messages?after=0&wait=60"), b"")],
    State.STREAM: [Step(request("GET", "/rooms/bench/events"), b"retry")],
    State.HEAD: [Step(request("GET", "/")[:-2] + b"X-a: b\r\n", b"")],
    State.BODY: [Step(wire.post_message("bench", "x" * 2000)[:-1990], b"")],
}


def run(scale: Scale) -> Iterator[Result]:
    count = scale.of(9_500, 300)
    with tempfile.TemporaryDirectory() as folder:
        flags = (*_PATIENT, "--token-key", secret_file(Path(folder)))
        for kind in KINDS:
            with chatserver(*flags) as server, Crowd(server.address) as crowd:
                yield measure(kind, server, crowd, count, settle=scale.of(SETTLE, 0.3))


def measure(kind: Kind, server: Process, crowd: Crowd, count: int, *, settle: float) -> Result:
    """Measure one kind, on a fresh server."""
    script = kind.steps or STEPS[kind.state]
    crowd.hang_up(crowd.open(min(count, kind.first), script, kind.on_data))
    metrics(server.address)
    crowd.run(settle)
    before = server.memory()
    crowd.open(count, script, kind.on_data)
    crowd.run(settle)
    after = server.memory()
    require_held(server.address, count, kind.state)
    return grown(kind.figure, before, after, count)


def grown(figure: Figure, before: int, after: int, count: int) -> Result:
    """The bytes of each of `count` peers that came meanwhile."""
    details = f"{count:,} held; Pss {before / 2**20:.1f} to {after / 2**20:.1f} MiB"
    return Result(figure=figure, samples=[(after - before) / count], details=details)
