"""Newcomers: healthy clients that connect, do one operation and leave, at a fixed rate.

Owns: the schedule of one kind and its tasks. A newcomer is begun when it is due, however many before it still wait, so
that a server that lets no client in is met as often as any.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import trio

from loadgen.timers import now
from loadgen.victims.clock import Schedule
from loadgen.victims.context import Context, Probe, Stream
from loadgen.victims.victim import describe, failure_in

#: Addresses, and rooms, that newcomers take in turns: more than one, so that no cap by address is what they meet.
ADDRESSES: Final = 64


class Newcomer(NamedTuple):
    """A kind of newcomer."""

    kind: str
    words: str  # what reports call it
    #: What it does on its connection: it is given its number, and what to call when the operation is done.
    operation: Callable[[Context, Stream, int, Callable[[], None]], Awaitable[None]]


class Newcomers(Probe):
    """Those of one kind."""

    def __init__(self, context: Context, newcomer: Newcomer, schedule: Schedule, first_index: int) -> None:
        super().__init__(context, newcomer.kind, 0, schedule)
        self._operation = newcomer.operation
        self._first_index = first_index  # of the source addresses
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Let a newcomer come whenever one is due."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self.keep_schedule()

    def issue(self, moment: float) -> None:
        """Begin all that are due by now, as soon as they can."""
        if self._nursery is not None:
            super().issue(moment)

    def begin(self, number: int) -> None:
        """Let a newcomer come, however many before it still wait."""
        assert self._nursery is not None, "nothing is issued before"
        self._nursery.start_soon(self._come, number, self.pending[number])

    async def _come(self, number: int, due: float) -> None:
        index = self._first_index + number % ADDRESSES
        try:
            with trio.fail_after(max(due + self.context.timeout_seconds - now(), 0)):
                stream = await self.context.dial(index)
                async with stream:
                    await self._operation(self.context, stream, number, partial(self.book, number))
        except BaseException as error:  # noqa: BLE001  everything but the server's failures is raised again
            self.book(number, describe(failure_in(error)))  # how the goodbye went does not count
