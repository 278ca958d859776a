"""What chat sees of the connections and of the scheduler: `chat.sink` over `net`.

Owns: the one place where chat's opaque connection is a `Connection` again. May not: add a call on the hot path; most
methods *are* those of `Connections`.
"""

from collections.abc import Callable
from typing import Any, cast

from chatserver.chat.member import PollWaiter
from chatserver.chat.sink import Schedule, Sink
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import Priority


class ConnectionSink:
    """Made before the edge; `answer_with` is set once the edge exists."""

    def __init__(self, connections: Connections) -> None:
        self.offer = connections.offer
        self.offer_each = connections.offer_each
        self.keep = connections.keep
        self.send = connections.send
        self.guarded = connections.step
        self.resume = connections.resume
        self._connections = connections
        self.answer_with: Callable[[Connection, PollWaiter], object] | None = None

    def blocked(self, connection: Connection) -> bool:
        """Whether it is behind."""
        return connection.blocked

    def network(self, connection: Connection) -> str:
        """Where it comes from."""
        return connection.network

    def answer(self, waiter: PollWaiter) -> None:
        """There is news for a held poll."""
        assert self.answer_with is not None, "a poll was answered before the edge was built"
        connection = cast(Connection, waiter.connection)
        if self._connections.step(connection, self.answer_with, waiter):
            self._connections.resume(connection, later=True)

    def as_sink(self) -> Sink:
        """The same as chat types it: a connection is any object there, always one of ours here."""
        return cast(Sink, self)


class LoopSchedule:
    """`chat.sink.Schedule` over the scheduler."""

    def __init__(self, connections: Connections) -> None:
        self._submit = connections.scheduler.submit
        self.faulted = connections.faults.caught

    def soon(self, step: Callable[[Any], bool], item: object, network: str = "") -> None:
        """Before anything long."""
        self._submit(Priority.ESTABLISHED, step, item, network)

    def later(self, step: Callable[[Any], bool], item: object, network: str = "") -> None:
        """Behind everything else."""
        self._submit(Priority.BULK, step, item, network)


_: type[Schedule] = LoopSchedule
