"""What chat may do with a connection, and with the loop's time: two interfaces.

Owns: the shapes. May not: know what a connection is beyond a value to hand back. Nothing here waits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from chatserver.chat.member import PollWaiter


class Sink(Protocol):
    """The connections."""

    def offer(self, connection: object, data: bytes) -> int:
        """Write what the peer takes now: bytes taken, 0 when it is behind, -1 when it is gone."""

    def offer_each(self, connections: list[object], data: bytes) -> list[tuple[int, int]]:
        """Offer the same to many; index and result, as of `offer`, for those that did not take all of it."""

    def keep(self, connection: object, chunk: bytes, position: int) -> None:
        """See to the rest of a frame that was partly taken; its members are offered more when there is room."""

    def send(self, connection: object, data: bytes) -> None:
        """Write all of it, now or later."""

    def blocked(self, connection: object) -> bool:
        """Whether it is behind."""

    def answer(self, waiter: "PollWaiter") -> None:
        """There is news for a held poll."""

    def resume(self, connection: object) -> None:
        """A publisher that was paused may go on."""

    def network(self, connection: object) -> str:
        """Where it comes from: the key under which networks take turns."""

    def guarded(self, connection: object, act: Callable[..., object], *arguments: object) -> None:
        """Call `act(connection, *arguments)`, so that a fault in it is that connection's end and nobody else's."""


class Schedule(Protocol):
    """The loop's time."""

    def soon(self, step: Callable[[Any], bool], item: object, network: str = "") -> None:
        """Run a step of about 0.1 ms before anything long; True: there is more to do, behind everything else."""

    def later(self, step: Callable[[Any], bool], item: object, network: str = "") -> None:
        """The same, behind everything else."""

    def faulted(self, item: object) -> None:
        """A fault of ours is being handled: count it, and write it down once."""
