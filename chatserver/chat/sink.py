"""Two interfaces that chat needs: what it may do with a connection, and how it schedules work on the loop.

Owns: the interfaces. May not: know what a connection is beyond a value to hand back. Nothing here waits.
"""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from chatserver.chat.member import PollWaiter


class Sink(Protocol):
    """The connections."""

    def offer(self, connection: object, data: bytes) -> int:
        """Write what the peer takes now. Returns the bytes taken, 0 if it is blocked, -1 if it is gone."""

    def offer_each(self, connections: list[object], data: bytes) -> list[tuple[object, int]]:
        """`offer` the same bytes to many. Returns those that did not take all of it, each with `offer`'s result."""

    def keep(self, connection: object, chunk: bytes, position: int) -> None:
        """Keep the rest of a frame that was partly taken; `Hub.writable` is called when the connection is writable."""

    def send(self, connection: object, data: bytes) -> None:
        """Write all of it, now or later."""

    def blocked(self, connection: object) -> bool:
        """Whether unsent bytes wait for it to become writable."""

    def answer(self, waiter: "PollWaiter") -> None:
        """Answer a held poll, for which there is news."""

    def resume(self, connection: object) -> None:
        """Have a connection go on in a step of its own: what it waited for may have come."""

    def step(self, connection: object, act: Callable[..., object], *arguments: object) -> None:
        """Call `act(connection, *arguments)`; if it raises, that connection ends and no other."""


class Schedule(Protocol):
    """Work on the loop."""

    def soon(self, step: Callable[[Any], bool], item: object, network: Hashable = "") -> None:
        """Queue a step of about 0.1 ms ahead of long work. If it returns True, it runs again behind all other work.

        A room takes turns like a network. It stands for itself, since its name may be an address.
        """

    def own(self, step: Callable[[Any], bool], item: object) -> None:
        """Queue a step of the server's own work, which waits for no network; if it returns True, it runs again."""

    def faulted(self, item: object) -> None:
        """Count and log a bug of ours; called inside the `except` block."""
