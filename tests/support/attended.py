"""A poller at work under a test: real epoll, real sockets, a recording handler.

async with attended() as it:
    connection, peer = it.connect()
    peer.send(b"x")
    await it.until(lambda: it.of("received"))
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from chatserver.net import closing
from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.listener import Listener, bind
from chatserver.net.poller import Poller
from chatserver.net.readiness import open_readiness
from chatserver.net.states import State
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings
from tests.support.parked import Recorder, RecordingHandler, pair

#: Seconds, on the test's own clock, until something that must happen is given up.
PATIENCE = 60.0

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
_ENDING = (State.CLOSING, State.LINGERING)


class Attended:
    """What runs, and how to wait for what it does."""

    def __init__(self, settings: Settings, *, listening: socket.socket | None, total: int) -> None:
        self.readiness = open_readiness()
        self.recorder = Recorder()
        self.connections = Connections(self.readiness, settings, now=trio.current_time(), closed=self._closed)
        self.handler = RecordingHandler(self.connections, self.recorder)
        closing.bind(self.connections)
        for state in State:
            if state not in _ENDING:
                self.connections.bind(state, self.handler, object)
        self.refused: list[Reason] = []
        self.admission = Admission(self.connections, settings, total=total, farewells=[REFUSAL])
        self.listeners: list[Listener] = []
        if listening is not None:
            refused = self.refused.append
            self.listeners.append(
                Listener(listening, self.connections, self.admission, refusals=[REFUSAL], refused=refused)
            )
        self.poller = Poller(self.connections, self.readiness, self.listeners)
        self.address: tuple[str, int] = listening.getsockname() if listening is not None else ("", 0)
        self.ticks: list[float] = []
        self.on_tick: Callable[[float], None] = self.ticks.append
        self._peers: list[socket.socket] = []

    def _closed(self, connection: Connection, reason: Reason) -> None:
        self.admission.release(connection.network)
        self.recorder.note("closed", connection, reason)

    def of(self, event: str) -> list[Connection]:
        """The connections to which something happened, in order."""
        return self.recorder.of(event)

    def details(self, event: str) -> list[object]:
        """What came with it."""
        return self.recorder.details(event)

    def connect(self, *, small: bool = True, address: str = "192.0.2.1") -> tuple[Connection, socket.socket]:
        """A newcomer that was not accepted but given, and the peer's end."""
        ours, peer = pair(small=small)
        self._peers.append(peer)
        assert self.admission.admit(address) is None
        return self.connections.adopt(ours.detach(), address), peer

    def establish(self, **options: Any) -> tuple[Connection, socket.socket]:
        """One that has had an answer."""
        connection, peer = self.connect(**options)
        self.connections.enter(connection, State.KEEPALIVE)
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
async def attended(*, listen: bool = False, total: int = 1000, **settings: Any) -> AsyncIterator[Attended]:
    """Runs until the end of the block; then everything is given back. No cap of a network unless the test sets it."""
    listening = bind("127.0.0.1", 0, send_buffer=0) if listen else None
    it = Attended(Settings(**{"per_ip": 0, **settings}), listening=listening, total=total)
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
    return [data for data in it.details("received") if isinstance(data, bytes)]


def sizes(it: Attended) -> list[int]:
    """Of what was received, each."""
    return [len(data) for data in received(it)]
