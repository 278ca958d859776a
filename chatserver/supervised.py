"""What a supervisor provides for a worker, and a single process does for itself.

Owns: the interface. May not: know how supervisor and worker communicate; workers/ does.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from chatserver.listening import Listening
from chatserver.log.neighbours import Neighbours
from chatserver.shared.datagrams import Datagrams


class Supervised(Protocol):
    """A server's supervisor, as the server sees it."""

    @property
    def listening(self) -> Listening:
        """Sockets that are bound already, and outlive this process."""

    @property
    def neighbours(self) -> Neighbours:
        """The other processes that write to the same log."""

    @property
    def bus(self) -> Datagrams:
        """The channel for messages to the other workers."""

    @property
    def stops(self) -> AsyncIterator[int]:
        """Signal numbers: at the first the worker drains, at the second it stops at once."""

    def ready(self) -> None:
        """Report that this worker accepts peers from now on."""

    async def metrics(self) -> bytes:
        """The text of /metrics for all workers. Raises HttpError when it cannot be had."""
