"""Newcomers: healthy clients that connect, do one operation and leave, at a fixed rate.

Owns: the schedule of one kind and its tasks. A newcomer is begun when it is due, however many before it still wait, so
that a server which lets nobody in is met as often as one that does.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import trio

from loadgen.timers import now
from loadgen.victims.context import Context, Stream
from loadgen.victims.schedule import Schedule
from loadgen.victims.victim import describe, failure_in

#: Addresses, and rooms, that newcomers take in turns: more than one, so that no cap by address is what they meet.
ADDRESSES: Final = 64


class Newcomer(NamedTuple):
    """A kind of newcomer."""

    kind: str
    words: str  # what reports call it
    #: What it does on its connection: it is given its number, and what to call when the operation is done.
    operation: Callable[[Context, Stream, int, Callable[[], None]], Awaitable[None]]


class Newcomers:
    """Those of one kind."""

    def __init__(self, context: Context, newcomer: Newcomer, schedule: Schedule, first_index: int) -> None:
        self.kind = newcomer.kind
        self.schedule = schedule
        self.pending: dict[int, float] = {}
        self._context = context
        self._operation = newcomer.operation
        self._first_index = first_index  # of the source addresses
        self._issued = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Let one come whenever one is due."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while not self._context.stopped:
                await self._context.clock.sleep_until(self.schedule.due(self._issued))
                if not self._context.stopped:
                    self.issue(now())

    def issue(self, moment: float) -> None:
        """Begin all that are due by now."""
        while self._nursery is not None and (due := self.schedule.due(self._issued)) < moment:
            self.pending[self._issued] = due
            self._nursery.start_soon(self._come, self._issued, due)
            self._issued += 1

    async def _come(self, number: int, due: float) -> None:
        index = self._first_index + number % ADDRESSES
        try:
            with trio.fail_after(max(due + self._context.timeout_seconds - now(), 0)):
                stream = await self._context.dial(index)
                async with stream:
                    await self._operation(self._context, stream, number, partial(self._book, number, ""))
        except BaseException as error:  # noqa: BLE001  everything but the server's failures is raised again
            self._book(number, describe(failure_in(error)))

    def _book(self, number: int, reason: str) -> None:
        due = self.pending.pop(number, None)
        if due is None:
            return  # how the goodbye went is nobody's operation
        if reason:
            self._context.recorder.failed(self.kind, 0, due, reason)
        else:
            self._context.recorder.succeeded(self.kind, 0, due)

    def fail_pending(self, reason: str) -> None:
        """Book the outstanding ones as failed."""
        for number in list(self.pending):
            self._book(number, reason)
