"""The loop's time for the most expensive bytes that a peer can send: one request, or one read of frames.

How: the inputs of tests/support/costly.py go through `protocol` in this process. Each sample is the fastest of some
runs, to leave out other work of the machine. The most expensive come first.
What would fool it: an input that is missing. The rest of the server's work (authentication, storage) is not included.
"""

import time
from collections.abc import Callable, Iterator

from tests.bench.figures import Result, Scale, at_most
from tests.support.costly import costs

#: Microseconds. A step that could take longer must be divided, or its input refused.
BOUND, AIM = 500, 250
ROUNDS, RUNS = 20, 5


def run(scale: Scale) -> Iterator[Result]:
    results = [_measure(name, cost, scale.of(ROUNDS, 1)) for name, cost in costs().items()]
    yield from sorted(results, key=lambda result: -result.value)


def _measure(name: str, cost: Callable[[], None], rounds: int) -> Result:
    figure = at_most(f"loop time: {name}", " µs", bound=BOUND, aim=AIM)
    return Result(figure=figure, samples=[min(_microseconds(cost) for _ in range(RUNS)) for _ in range(rounds)])


def _microseconds(cost: Callable[[], None]) -> float:
    start = time.perf_counter()
    cost()
    return (time.perf_counter() - start) * 1e6
