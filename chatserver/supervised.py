"""What a worker is given by its supervisor, in place of what a single process does by itself.

Owns: the interface. May not: know how supervisor and worker speak to each other; workers/ does.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from chatserver.listening import Listening
from chatserver.log.neighbours import Neighbours


class Supervised(Protocol):
    """A server's supervisor, as the server sees it."""

    @property
    def listening(self) -> Listening:
        """Sockets that are bound already, and outlive this process."""

    @property
    def neighbours(self) -> Neighbours | None:
        """The other processes that write to the same log."""

    @property
    def stops(self) -> AsyncIterator[int]:
        """The numbers of signals: the first says to drain, the second to stop at once."""

    def ready(self) -> None:
        """Peers are accepted from now on."""

    async def metrics(self) -> bytes:
        """The text of /metrics for all workers. Raises HttpError when it cannot be had."""
