"""Accepts and WebSocket handshakes a second, against trio-websocket's `serve_websocket`.

How: one client process with `WINDOW` handshakes under way opens 9,000 connections and then closes them; ours and
theirs take turns. A handshake is done when its 101 is here. All stay open until the last is, because that is what a
server for so many has to do: the more trio-websocket holds, the longer each of its garbage collections takes. The
details tell the rate over the first `FIRST` as well, where it holds few.
What would fool it: a client slower than the server. Ours is about 45 µs of CPU a handshake and runs on another core;
CPU of the server for each handshake is in the details, and the ratio of that is what the client cannot hide.
Ours also sends `hello` behind the 101.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench import wire
from tests.bench.clients import Crowd, Step, ignore
from tests.bench.figures import TIMES, Bench, Better, Figure, Result, Scale, median, spread
from tests.bench.processes import Process, chatserver, peer

RATE = Figure(name="accept + handshake rate, of trio-websocket's", unit=TIMES, bound=4, aim=8, better=Better.HIGHER)
ROUNDS = 3
FIRST = 1_000
#: Seconds between two turns, for what was closed to be gone.
PAUSE = 0.5


def run(scale: Scale) -> Iterator[Result]:
    """Take turns."""
    ours, theirs = [], []
    with chatserver() as server, peer("trio_websocket_server") as other:
        _turn(server, 200)
        _turn(other, 200)
        for _ in range(scale.of(ROUNDS, 1)):
            ours.append(_turn(server, scale.of(9_000, 300)))
            theirs.append(_turn(other, scale.of(9_000, 300)))
    ratios = [one.rate / two.rate for one, two in zip(ours, theirs, strict=True)]
    details = (
        f"{spread([turn.rate for turn in ours])}/s against {spread([turn.rate for turn in theirs])}/s;"
        f" server CPU {spread([turn.cpu for turn in ours])} against {spread([turn.cpu for turn in theirs])} µs;"
        f" the first {FIRST:,}: {median([turn.first for turn in ours]):,.0f}/s"
        f" against {median([turn.first for turn in theirs]):,.0f}/s"
    )
    yield Result(figure=RATE, samples=ratios, details=details)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn showed."""

    rate: float  # handshakes a second
    first: float  # the same, over the first thousand
    cpu: float  # µs of the server's for each


def _turn(process: Process, count: int) -> Turn:
    handshake = [Step(wire.upgrade(process.address), b"\r\n\r\n")]
    first = min(FIRST, count // 2)
    with Crowd(process.address) as crowd:
        cpu, start = process.cpu(), time.perf_counter()
        crowd.open(first, handshake, ignore)
        between = time.perf_counter()
        crowd.open(count - first, handshake, ignore)
        end, used = time.perf_counter(), process.cpu() - cpu
    time.sleep(PAUSE)
    return Turn(count / (end - start), first / (between - start), used / count * 1e6)


BENCH = Bench(name="handshakes", run=run)
