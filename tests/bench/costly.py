"""What the dearest bytes that a peer can send cost the loop: one request, or one read of frames, each.

How: the inputs of tests/support/costly.py through `protocol`, in this process, as the server takes them. Each sample
is the quickest of some runs, because what others on the machine take is no part of it. The dearest come first.
What would fool it: an input that is missing. What the server does besides (find the user, store, answer) is not in it.
"""

import time
from collections.abc import Callable, Iterator

from tests.bench.figures import Better, Figure, Result, Scale
from tests.support.costly import costs

#: Microseconds. CORE section 2: a step that could take longer is cut, or the input refused before it is looked at.
BOUND, AIM = 500, 250
ROUNDS, RUNS = 20, 5


def run(scale: Scale) -> Iterator[Result]:
    """Each input in turn."""
    results = [_measure(name, cost, scale.of(ROUNDS, 1)) for name, cost in costs().items()]
    yield from sorted(results, key=lambda result: -result.value)


def _measure(name: str, cost: Callable[[], None], rounds: int) -> Result:
    figure = Figure(name=f"loop time: {name}", unit=" µs", bound=BOUND, aim=AIM, better=Better.LOWER)
    return Result(figure=figure, samples=[min(_microseconds(cost) for _ in range(RUNS)) for _ in range(rounds)])


def _microseconds(cost: Callable[[], None]) -> float:
    start = time.perf_counter()
    cost()
    return (time.perf_counter() - start) * 1e6
