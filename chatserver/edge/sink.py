"""The interfaces of `chat/sink.py`, implemented by `net`: chat's view of the connections and of the scheduler.

Owns: the one place where chat's opaque connection is a `Connection` again. May not: add a call on the hot path; most
methods *are* those of `Connections`.
"""

from functools import partial
from operator import attrgetter
from typing import cast

from chatserver.chat.member import PollWaiter
from chatserver.chat.sink import Sink
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import HELD, Priority


class ConnectionSink:
    def __init__(self, connections: Connections) -> None:
        self.offer = connections.offer
        self.offer_each = connections.offer_each
        self.keep = connections.keep
        self.send = connections.send
        self.step = connections.step
        self.resume = connections.resume
        self.blocked = attrgetter("blocked")
        # The loop's time: chat's `Schedule`.
        self.soon = partial(connections.scheduler.submit, Priority.NORMAL)
        self.own = partial(connections.scheduler.submit, Priority.FIRST)
        self.faulted = connections.faults.caught
        self._connections = connections

    def answer(self, waiter: PollWaiter) -> None:
        """Answer a held poll, for which there is news: as at its deadline, with all messages that there are."""
        connections = self._connections
        connections.step(cast(Connection, waiter.connection), connections.handlers[HELD].expired)

    def as_sink(self) -> Sink:
        """Itself, typed as in chat, where a connection is any object."""
        return cast(Sink, self)
