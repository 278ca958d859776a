"""What 9,000 silent WebSockets cost, with the default pings.

How: all have joined one room and answer every ping. CPU of the whole server over three whole ping periods, divided by
connections and seconds; it includes the timer wheel, the collector and housekeeping.
What would fool it: a window that is no multiple of the ping period; clients that do not answer pings, which the server
then closes, and the bench fails.
"""

from collections.abc import Iterator

from chatserver.net.states import State
from tests.bench.clients import Crowd, hear
from tests.bench.figures import Result, Scale, at_most
from tests.bench.memory import STEPS
from tests.bench.processes import chatserver

COST = at_most("idle WebSocket: CPU a connection-second", " µs", bound=2, aim=0.8)
#: Seconds between two pings: the server's default.
PERIOD = 25.0


def run(scale: Scale) -> Iterator[Result]:
    count = scale.of(9_000, 100)
    with chatserver() as server, Crowd(server.address) as crowd:
        idle = server.cpu()
        crowd.run(scale.of(5.0, 0.2))
        floor = (server.cpu() - idle) / scale.of(5.0, 0.2)
        crowd.open(count, STEPS[State.OPEN], hear)
        crowd.run(scale.of(10.0, 0.2))
        samples = []
        for _ in range(scale.of(3, 1)):
            cpu = server.cpu()
            crowd.run(scale.of(PERIOD, 0.5))
            samples.append((server.cpu() - cpu) / scale.of(PERIOD, 0.5) / count * 1e6)
    details = f"{count:,} connections, windows of {PERIOD:g} s; {floor * 1e3:.2f} ms/s without any"
    yield Result(figure=COST, samples=samples, details=details)
