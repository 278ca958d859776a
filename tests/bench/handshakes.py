"""Accepts and WebSocket handshakes a second, against trio-websocket's `serve_websocket`.

How: one client process with `WINDOW` handshakes under way opens connections to both in turns, until each holds 9,000.
A handshake is done when its 101 has come. All connections stay open: the more trio-websocket holds, the longer each of
its garbage collections takes. The details also have the rates of the first turn.
What would fool it: a client slower than the server. A handshake costs the client about half of what it costs our
server; the details have the ratio of the servers' CPU. To close its connections keeps trio-websocket busy for seconds,
so both servers come to rest before each round. Ours also sends `hello` behind the 101.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from tests.bench.clients import Crowd, Step, ignore
from tests.bench.figures import TIMES, Result, Scale, at_least, compared, spread
from tests.bench.processes import Process, chatserver, peer
from tests.support.peers import upgrade

RATE = at_least("accept + handshake rate, of trio-websocket's", TIMES, bound=4, aim=8)
ROUNDS = 3
#: Turns in a round, and handshakes in a turn.
TURNS, HANDSHAKES = 12, 750
#: A process is at rest when it used less than this share of a core for so many seconds.
RESTING, LOOK = 0.05, 0.3


@dataclass(slots=True)
class Side:
    """A server, with the seconds and the CPU of its turns in one round."""

    process: Process
    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def turn(self, crowd: Crowd, count: int) -> None:
        cpu, start = self.process.cpu(), time.perf_counter()
        crowd.open(count, [Step(upgrade(), b"\r\n\r\n")], ignore)
        self.seconds.append(time.perf_counter() - start)
        self.cpu += self.process.cpu() - cpu


def rest(process: Process) -> None:
    """Wait until it uses hardly any CPU."""
    used = LOOK
    while used > RESTING * LOOK:
        before = process.cpu()
        time.sleep(LOOK)
        used = process.cpu() - before


def run(scale: Scale) -> Iterator[Result]:
    turns, count = scale.of(TURNS, 1), scale.of(HANDSHAKES, 100)
    with chatserver() as server, peer("echo", "trio") as other:
        _round(server, other, 1, 200)
        rounds = [_round(server, other, turns, count) for _ in range(scale.of(ROUNDS, 1))]
    everything = turns * count
    ours, theirs = ([pair[side] for pair in rounds] for side in (0, 1))
    rates = [[everything / sum(side.seconds) for side in sides] for sides in (ours, theirs)]
    more = (
        f"; server CPU {spread([side.cpu / everything * 1e6 for side in ours])} against"
        f" {spread([side.cpu / everything * 1e6 for side in theirs])} µs; the first {count}:"
        f" {count / median([side.seconds[0] for side in ours]):,.0f}/s against"
        f" {count / median([side.seconds[0] for side in theirs]):,.0f}/s"
    )
    yield compared(RATE, *rates, unit="/s", more=more)


def _round(server: Process, other: Process, turns: int, count: int) -> tuple[Side, Side]:
    ours, theirs = Side(server), Side(other)
    for side in (ours, theirs):
        rest(side.process)
    with Crowd(server.address) as crowd, Crowd(other.address) as their_crowd:
        for _ in range(turns):
            ours.turn(crowd, count)
            theirs.turn(their_crowd, count)
    return ours, theirs
