"""Publish throughput with nothing beside it and with 15,000 that are held: does being slow-lorised cost anybody else?

How: 100 publishers over HTTP for some seconds, with and without 5,000 idle WebSockets, 5,000 held polls (in another
room) and 5,000 slow heads that send a byte every 10 s (slowhttptest's pace); on one server, in turns, and the ratio is
that of each turn with the mean of the two without that stand around it.
What would fool it: slow heads that were closed meanwhile (their deadline is lifted, and /metrics must show all of
them); a client that is the bottleneck, since it also keeps the crowd: server CPU for a publish is in the details.
"""

import itertools
import time
from collections.abc import Iterator

from tests.bench import wire
from tests.bench.broadcast import TEXT
from tests.bench.clients import Client, Crowd, answer_pings, must_live
from tests.bench.figures import Bench, Better, Figure, Result, Scale, median, spread
from tests.bench.gauges import metrics
from tests.bench.memory import steps
from tests.bench.processes import Process, chatserver
from tests.bench.publish import PUBLISHERS, Poster, measure

KEPT = Figure(
    name="publish throughput beside 15,000 held, of that without", unit="%", bound=97, aim=99, better=Better.HIGHER
)
ROUNDS = 4
#: Seconds between two bytes of a slow head.
DRIP = 10.0
#: Seconds a turn is cut into, to let the slow heads drip.
SLICE = 0.25


def run(scale: Scale) -> Iterator[Result]:
    """Off, on, off, on, … off."""
    each, seconds = scale.of(5_000, 50), scale.of(5.0, 0.5)
    alone, beside = [], []
    with chatserver("--head-deadline", "3600") as server, Crowd(server.address) as crowd:
        poster = Poster(wire.post_message(server.address, "publishing", TEXT))
        posters = crowd.open(PUBLISHERS, [], poster)
        _turn(server, crowd, poster, posters, [], scale.of(2.0, 0.3))
        alone.append(_turn(server, crowd, poster, posters, [], seconds))
        for _ in range(scale.of(ROUNDS, 1)):
            held = crowd.open(each, steps("open", server.address), answer_pings)
            held += crowd.open(each, steps("held", server.address), must_live)
            heads = crowd.open(each, steps("head", server.address), must_live)
            crowd.run(scale.of(2.0, 0.2))
            _check(server, len(held) + len(heads))
            beside.append(_turn(server, crowd, poster, posters, heads, seconds))
            crowd.hang_up(held + heads)
            crowd.run(scale.of(3.0, 0.2))
            alone.append(_turn(server, crowd, poster, posters, [], seconds))
    around = [(before[0] + after[0]) / 2 for before, after in itertools.pairwise(alone)]
    ratios = [rate / without * 100 for (rate, _), without in zip(beside, around, strict=True)]
    details = (
        f"{spread([rate for rate, _ in beside])}/s against {spread([rate for rate, _ in alone])}/s;"
        f" server CPU {median([cpu for _, cpu in beside]):.1f} against {median([cpu for _, cpu in alone]):.1f} µs"
    )
    yield Result(figure=KEPT, samples=ratios, details=details)


def _turn(
    server: Process, crowd: Crowd, poster: Poster, posters: list[Client], heads: list[Client], seconds: float
) -> tuple[float, float]:
    """Publishes a second, µs of the server's CPU for each."""
    rates, costs = [], []
    per_slice = int(len(heads) * SLICE / DRIP)
    dripping = itertools.cycle(heads)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for head in itertools.islice(dripping, per_slice):
            head.socket.send(b"x")
        cost, rate = measure(server, crowd, poster, posters, SLICE)
        rates.append(rate)
        costs.append(cost)
    return sum(rates) / len(rates), sum(costs) / len(costs)


def _check(server: Process, held: int) -> None:
    now = metrics(server.address)
    found = sum(
        value for name, value in now.items() if any(f'phase="{phase}"' in name for phase in ("open", "held", "head"))
    )
    if found < held:
        raise RuntimeError(f"{found:.0f} of {held} are held")


BENCH = Bench(name="beside", run=run)
