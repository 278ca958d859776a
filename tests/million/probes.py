"""What people would notice while the idle connections are held: a message to all workers, a busy room, newcomers.

Owns: its own few connections, and their times. May not: open the idle ones.

All of it runs in one thread on one epoll, so a message is read only when this program gets to it. On a machine whose
processors are all busy the times include that wait, as a real client's would.
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple, Self

from loadgen.report.latency import Latency
from tests.bench import wire
from tests.bench.clients import HELLO, Client, Crowd, hear, joins
from tests.bench.gauges import Address
from tests.million.holders import Holders

#: Members of the busy room, and messages in it a second.
BUSY_MEMBERS, BUSY_RATE = 100, 20.0
#: Newcomers a second beside it.
NEWCOMER_RATE = 20.0
#: Seconds between two looks at the holders, and for which a message may be on its way to all.
LOOK, PATIENCE = 0.05, 30.0

_BUSY = re.compile(rb'"text":"busy (\d+) ')


class Everywhere(NamedTuple):
    """The members that received a message, and the seconds until the last one did."""

    heard: int
    seconds: float


class Beside(NamedTuple):
    """Latencies of a busy room and of newcomers."""

    deliveries: Latency
    missing: int
    newcomers: Latency


class BusyRoom:
    """Records the latency of each message at each member."""

    def __init__(self) -> None:
        self.deliveries = Latency()
        self._sent: list[float] = []

    def __call__(self, client: Client, data: bytes) -> None:
        now = time.monotonic()
        for payload in hear(client, data):
            if told := _BUSY.search(payload):
                self.deliveries.record(now - self._sent[int(told[1])])

    def next(self) -> bytes:
        """The next message, which must be sent now."""
        self._sent.append(time.monotonic())
        return wire.publish("busy", f"busy {len(self._sent) - 1} {wire.TEXT}")

    @property
    def sent(self) -> int:
        return len(self._sent)


class Probes:
    def __init__(self, address: Address, *, members: int = BUSY_MEMBERS) -> None:
        self._crowd = Crowd(address)
        self._room = BusyRoom()
        [self._publisher] = self._crowd.open(1, [HELLO], hear)
        self._members = members
        self._crowd.open(members, [HELLO, joins("busy")], self._room)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._crowd.__exit__(*error)

    @property
    def connections(self) -> int:
        """Connections of the probes."""
        return len(self._crowd)

    def wait(self, seconds: float) -> None:
        """Serve the probes' connections for a while."""
        self._crowd.run(seconds)

    def wait_until(self, done: Callable[[], bool], seconds: float, *, every: float = LOOK) -> bool:
        """Wait until `done`; False if it took too long."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self.wait(every)
        return True

    def tell_everywhere(self, holders: Holders, room: str, members: int, number: int) -> Everywhere:
        """Send one message to a room of idle connections."""
        mark = f"everywhere {number}."
        holders.listen(f'"text":"{mark}'.encode())
        sent = time.monotonic()
        self._publisher.socket.send(wire.publish(room, mark))
        self.wait_until(lambda: holders.status().heard >= members, PATIENCE)
        status = holders.status()
        holders.listen(b"")
        return Everywhere(status.heard, status.last_heard - sent)

    def beside(self, seconds: float) -> Beside:
        """Publish in the busy room for a while, and let newcomers come."""
        room, newcomers = self._room, Latency()
        room.deliveries, sent = Latency(), room.sent
        coming: dict[Client, float] = {}
        start = time.monotonic()
        talk = newcomer = start
        while coming or (now := time.monotonic()) < start + seconds:
            now = time.monotonic()
            if talk <= now < start + seconds:
                self._publisher.socket.send(room.next())
                talk += 1 / BUSY_RATE
            if newcomer <= now < start + seconds:
                coming[self._crowd.begin([HELLO, joins("newcomers")], hear)] = now
                newcomer += 1 / NEWCOMER_RATE
            self._crowd.turn(min(max(0.0, min(talk, newcomer) - now), LOOK) if now < start + seconds else LOOK)
            arrived = [client for client in coming if not client.steps]
            for client in arrived:
                newcomers.record(time.monotonic() - coming.pop(client))
            self._crowd.hang_up(arrived)
            if now > start + seconds + PATIENCE:
                break
        wanted = (room.sent - sent) * self._members
        self.wait_until(lambda: room.deliveries.count >= wanted, PATIENCE)
        return Beside(room.deliveries, wanted - room.deliveries.count, newcomers)
