"""A poller at work under a test: real epoll, real sockets, a recording attendant.

async with attended() as it:
    connection, peer = await it.connect()
    peer.send(b"x")
    await it.until(lambda: it.attendant.of("received"))
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.eviction import Eviction
from chatserver.net.listener import Gate, Listener, bind
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.poller import Poller
from chatserver.net.readiness import open_readiness
from chatserver.reasons import Reason
from tests.support.parked import RecordingAttendant, pair

#: Seconds, on the test's own clock, until something that must happen is given up.
PATIENCE = 60.0

#: Seconds; below it nobody alone has to go.
EVICT_AFTER = 2.0
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"


class Attended:
    """What runs, and how to wait for what it does."""

    def __init__(self, limits: PhaseLimits, *, listening: socket.socket | None, admission: Admission) -> None:
        self.readiness = open_readiness()
        self.attendant = RecordingAttendant()
        self.connections = Connections(self.readiness, limits, now=trio.current_time())
        self.refused: list[Reason] = []
        self.admission = admission
        self.eviction = Eviction(self.connections, limits, after=EVICT_AFTER, farewells=[REFUSAL])
        gate = Gate(self.admission.admit, self.eviction.make_room, [REFUSAL], self.refused.append)
        self.listeners = [Listener(listening, self.connections, gate)] if listening is not None else []
        self.poller = Poller(self.connections, self.readiness, self.attendant, self.listeners)
        self.address: tuple[str, int] = listening.getsockname() if listening is not None else ("", 0)
        self.ticks: list[float] = []
        self.on_tick: Callable[[float], None] = self.ticks.append
        self._peers: list[socket.socket] = []

    def connect(self, *, small: bool = True) -> tuple[Connection, socket.socket]:
        """A newcomer that was not accepted but given, and the peer's end."""
        ours, peer = pair(small=small)
        self._peers.append(peer)
        return self.connections.adopt(ours.detach(), "192.0.2.1"), peer

    def settle(self) -> tuple[Connection, socket.socket]:
        """One who is in: it has had an answer."""
        connection, peer = self.connect()
        self.connections.enter(connection, Phase.KEEPALIVE)
        return connection, peer

    def knock(self) -> socket.socket:
        """A client of the listener; non-blocking, and connected at once since the kernel does that."""
        peer = socket.create_connection(self.address)
        peer.setblocking(False)
        self._peers.append(peer)
        return peer

    async def until(self, condition: Callable[[], object]) -> None:
        """Let everything run until something is so."""
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110  any condition, and some of them are the kernel's
                await trio.sleep(0.01)

    async def run(self) -> None:
        def tick(late: float) -> None:
            self.on_tick(late)  # a test may set another meanwhile

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.poller.run)
            nursery.start_soon(lambda: self.poller.run_wheel(on_tick=tick))

    def close(self) -> None:
        """What a server gives back besides the poller's own."""
        self.readiness.close()
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def attended(
    limits: PhaseLimits | None = None, *, listen: bool = False, total: int = 1000, per_address: int = 0
) -> AsyncIterator[Attended]:
    """Runs until the end of the block; then everything is given back."""
    listening = bind("127.0.0.1", 0, send_buffer=0) if listen else None
    it = Attended(
        limits or PhaseLimits(), listening=listening, admission=Admission(total=total, per_address=per_address)
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.run)
            await trio.testing.wait_all_tasks_blocked()
            yield it
            nursery.cancel_scope.cancel()
    finally:
        it.close()


def received(it: Attended) -> list[bytes]:
    """What was received of anybody, in order."""
    return [data for data in it.attendant.details("received") if isinstance(data, bytes)]


def sizes(it: Attended) -> list[int]:
    """Of what was received, each."""
    return [len(data) for data in received(it)]
