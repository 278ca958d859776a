"""Server CPU of a message that arrives nearly alone, against `websockets` with a log that is as durable.

How: 600 WebSockets, each in a room of its own, publish 1,800 messages a second on a schedule, so the process sleeps
between two messages. Each is acknowledged when it is on disk, and comes back to its author. In turns, the same load on
`websockets` with SQLite (peers/websockets_durable.py), and on `websockets` that stores nothing, for the details.
What would fool it: another pace, since the CPU of a message falls as more of them share a commit and a wake-up; a
generator that is late, which sends in bursts. Every message must have come back before a turn counts.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench import wire
from tests.bench.clients import HELLO, Client, Crowd, hear, joins
from tests.bench.figures import TIMES, Result, Scale, at_most, compared, spread
from tests.bench.processes import Process, chatserver, peer

MESSAGE = at_most("message of a mixed load: CPU, of websockets' with a durable log", TIMES, bound=1.4, aim=1)
ROUNDS, CLIENTS, SECONDS = 5, 600, 3.0
#: Messages a second, as in `loadgen compare`.
PACE = 1_800.0
#: Seconds without any message after which those that are missing are given up, and seconds of work after the last one.
PATIENCE, TAIL = 10.0, 0.5


class Side:
    """A server, its clients, and the frame that each of them sends."""

    def __init__(self, server: Process, crowd: Crowd, count: int) -> None:
        self.samples: list[float] = []  # us a message
        self._server = server
        self._crowd = crowd
        self._came_back = 0
        self._speakers: list[tuple[Client, bytes]] = []
        for number in range(count):
            room = f"room-{number}"
            [client] = crowd.open(1, [HELLO, joins(room)], self._hear)
            self._speakers.append((client, wire.publish(room, wire.TEXT)))

    def _hear(self, client: Client, data: bytes) -> None:
        self._came_back += sum(b'"message"' in payload[:24] for payload in hear(client, data))

    def turn(self, seconds: float, tail: float) -> None:
        count, before = int(seconds * PACE), self._came_back
        cpu, start = self._server.cpu(), time.perf_counter()
        for index in range(count):
            self._crowd.run_until(start + index / PACE)
            client, frame = self._speakers[index % len(self._speakers)]
            client.socket.send(frame)
        while self._came_back < before + count:
            if not self._crowd.turn(PATIENCE):
                raise RuntimeError(f"{self._came_back - before} of {count} messages came back")
        self._crowd.run(tail)
        self.samples.append((self._server.cpu() - cpu) / count * 1e6)


def run(scale: Scale) -> Iterator[Result]:
    count, tail = scale.of(CLIENTS, 20), scale.of(TAIL, 0.05)
    with (
        chatserver() as server, peer("websockets_durable") as other, peer("websockets_durable", "nothing") as third,
        ExitStack() as stack,
    ):  # fmt: skip
        sides = [Side(each, stack.enter_context(Crowd(each.address)), count) for each in (server, other, third)]
        for side in sides:  # rooms get their first message, and caches fill
            side.turn(scale.of(SECONDS, 0.1), tail)
            side.samples.clear()
        for _ in range(scale.of(ROUNDS, 1)):
            for side in sides:
                side.turn(scale.of(SECONDS, 0.2), tail)
    ours, durable, nothing = (side.samples for side in sides)
    more = (
        f", and {spread(nothing)} where nothing is stored, of which ours is"
        f" {spread(compared(MESSAGE, ours, nothing, unit='').samples)}{TIMES}; {PACE:,.0f} messages/s"
    )
    yield compared(MESSAGE, ours, durable, unit=" µs", more=more)
