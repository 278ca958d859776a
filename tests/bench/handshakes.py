"""Accepts and WebSocket handshakes a second, against trio-websocket's `serve_websocket`.

How: one client process with `WINDOW` handshakes under way opens some thousand connections and then closes them;
ours and theirs take turns. A handshake is done when its 101 is here.
What would fool it: a client slower than the server. Ours is about 45 µs of CPU a handshake and runs on another core;
CPU of the server for each handshake is in the details, and the ratio of that is what the client cannot hide.
Ours also sends `hello` behind the 101.
"""

import time
from collections.abc import Iterator

from tests.bench import wire
from tests.bench.clients import Crowd, Step, ignore
from tests.bench.figures import Bench, Better, Figure, Result, Scale, median, spread
from tests.bench.processes import Process, chatserver, peer

RATE = Figure(name="accept + handshake rate, of trio-websocket's", unit="×", bound=4, aim=8, better=Better.HIGHER)
ROUNDS = 5
#: Seconds between two turns, for what was closed to be gone.
PAUSE = 0.5


def run(scale: Scale) -> Iterator[Result]:
    """Take turns."""
    ours, theirs = [], []
    with chatserver() as server, peer("trio_websocket_server") as other:
        _turn(server, 200)
        _turn(other, 200)
        for _ in range(scale.of(ROUNDS, 1)):
            ours.append(_turn(server, scale.of(4_000, 300)))
            theirs.append(_turn(other, scale.of(1_500, 100)))
    ratios = [one[0] / two[0] for one, two in zip(ours, theirs, strict=True)]
    details = (
        f"{spread([rate for rate, _ in ours])}/s against {spread([rate for rate, _ in theirs])}/s;"
        f" server CPU {median([cpu for _, cpu in ours]):.0f} µs against {median([cpu for _, cpu in theirs]):.0f} µs"
    )
    yield Result(figure=RATE, samples=ratios, details=details)


def _turn(process: Process, count: int) -> tuple[float, float]:
    """Handshakes a second, µs of the server's CPU for each."""
    with Crowd(process.address) as crowd:
        cpu, start = process.cpu(), time.perf_counter()
        crowd.open(count, [Step(wire.upgrade(process.address), b"\r\n\r\n")], ignore)
        taken, used = time.perf_counter() - start, process.cpu() - cpu
    time.sleep(PAUSE)
    return count / taken, used / count * 1e6


BENCH = Bench(name="handshakes", run=run)
