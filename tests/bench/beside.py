"""Publish throughput beside 15,000 held connections and without them: do slow peers cost other clients anything?

How: two servers. One holds 5,000 idle WebSockets, 5,000 polls in another room and 5,000 slow heads that send a byte
every 10 s (slowhttptest's pace); the other holds none. 100 publishers of each publish over HTTP, in turns of a quarter
of a second, so that other work of the machine affects both. Then the crowd moves to the other server and everything is
repeated; a sample is the geometric mean of one ratio from before and one from after, which cancels chance in the layout
of a process.
What would fool it: slow heads that were closed meanwhile, so their deadline is lifted and /metrics must count all of
them; a client that is the bottleneck, because it also serves the crowd. The crowd's pings continue during the turns
without it: half a per cent in its favour at most. On a busy machine throughput says little; the ratio of the servers'
CPU for a publish, in the details, has a third of its spread.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from chatserver.net.states import State
from tests.bench import wire
from tests.bench.clients import Client, Crowd, hear, must_live
from tests.bench.figures import Result, Scale, at_least, spread
from tests.bench.gauges import require_held
from tests.bench.memory import STEPS
from tests.bench.processes import Process, chatserver
from tests.bench.publish import PUBLISHERS
from tests.bench.publishers import Poster, measure

KEPT = at_least("publish throughput beside 15,000 held, of that without", "%", bound=97, aim=99)
PAIRS = 60
#: Seconds of a turn.
TURN = 0.25
#: Seconds between two bytes of a slow head.
DRIP = 10.0


class Side:
    """A server with its publishers."""

    def __init__(self, server: Process, crowd: Crowd) -> None:
        self.server = server
        self.crowd = crowd
        self.poster = Poster(wire.post_message("publishing", wire.TEXT))
        self.posters = crowd.open(PUBLISHERS, [], self.poster)

    def turn(self) -> tuple[float, float]:
        """See `measure`."""
        return measure(self.server, self.crowd, self.poster, self.posters, TURN)


@dataclass(frozen=True, slots=True)
class Pair:
    """A turn beside the crowd and one without it: CPU of a publish in µs, publishes a second."""

    beside: tuple[float, float]
    alone: tuple[float, float]

    @property
    def kept(self) -> float:
        """The ratio of the throughputs."""
        return self.beside[1] / self.alone[1]

    @property
    def dearer(self) -> float:
        """The ratio of the CPU of a publish."""
        return self.beside[0] / self.alone[0]


def run(scale: Scale) -> Iterator[Result]:
    with (
        chatserver("--head-deadline", "3600") as one, chatserver("--head-deadline", "3600") as two,
        Crowd(one.address) as first_crowd, Crowd(two.address) as second_crowd,
    ):  # fmt: skip
        first, second = Side(one, first_crowd), Side(two, second_crowd)
        first.turn()
        second.turn()
        before = _pairs(first, second, scale)
        after = _pairs(second, first, scale)
    kept = [math.sqrt(a.kept * b.kept) * 100 for a, b in zip(before, after, strict=True)]
    dearer = [math.sqrt(a.dearer * b.dearer) * 100 for a, b in zip(before, after, strict=True)]
    everything = before + after
    details = (
        f"{spread([pair.beside[1] for pair in everything])}/s against {spread([p.alone[1] for p in everything])}/s;"
        f" server CPU a publish {spread(dearer)}% of {median([pair.alone[0] for pair in everything]):.1f} µs"
    )
    yield Result(figure=KEPT, samples=kept, details=details)


def _pairs(beside: Side, alone: Side, scale: Scale) -> list[Pair]:
    crowd, each = beside.crowd, scale.of(5_000, 50)
    held = crowd.open(each, STEPS[State.OPEN], hear)
    held += crowd.open(each, STEPS[State.HELD], must_live)
    heads = crowd.open(each, STEPS[State.HEAD], must_live)
    crowd.run(scale.of(3.0, 0.2))
    require_held(beside.server.address, len(held) + len(heads), State.OPEN, State.HELD, State.HEAD)
    dripping = itertools.cycle(heads)
    pairs = []
    for _ in range(scale.of(PAIRS, 2)):
        _drip(dripping, len(heads))
        without = alone.turn()
        _drip(dripping, len(heads))
        pairs.append(Pair(beside.turn(), without))
    require_held(beside.server.address, len(held) + len(heads), State.OPEN, State.HELD, State.HEAD)
    crowd.hang_up(held + heads)
    crowd.run(scale.of(3.0, 0.2))
    return pairs


def _drip(heads: Iterator[Client], count: int) -> None:
    for head in itertools.islice(heads, int(count * TURN / DRIP)):
        head.socket.send(b"x")
