"""Deadlines of parked connections.

Owns: the ticks, and the descriptors to check in each tick. May not: read sockets, know HTTP.

An entry is a descriptor number in the slot of its tick, and is entered again if the deadline has moved on: extending a
deadline costs an attribute write. A connection that gets a used number takes over its entry; only the earliest entry of
a number counts. When the loop was late by L, every deadline moves by L: a peer that could not be read because *we*
stalled is not to blame, and a laptop that was asleep for an hour must not close all connections when it wakes.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence

from chatserver.net.connection import Connection
from chatserver.net.states import ROWS
from chatserver.settings.fields import Settings

#: Seconds between ticks: the precision of every deadline. libuv and nginx keep milliseconds, which no limit here needs.
TICK = 0.1
TICK_MICROSECONDS = round(TICK * 1e6)
#: Lateness (s) beyond which all deadlines are moved. Less is scheduling noise, for which deadlines have room.
MAX_LATENESS = 2 * TICK
#: A deadline `at_rest` (a column of the table) of COARSE_FROM ticks or more is rounded up to a multiple of
#: COARSE_TICKS. Thousands of pings spread over all ticks would wake the loop for each answer; so they go in batches.
COARSE_TICKS, COARSE_FROM = 10, 100
#: Ticks ahead of which no entry is made; a later deadline is entered again by then. So a throttled connection, whose
#: deadline is short and long in turn, leaves at most 150 entries behind. Above the 25 s between pings.
HORIZON = 300
#: Ticks for which the wheel may sleep when nothing is due: a second, so that a longer stall is noticed as lateness.
NAP = 10
#: Rounding error of a float division, in ticks.
_ROUNDING = 1e-6


class Wheel:
    """Deadlines in ticks since it was made. `table` maps descriptor numbers to connections."""

    def __init__(self, table: Sequence[Connection | None], settings: Settings, *, now: float) -> None:
        self._table = table
        self._spans = spans(settings)
        self._steps = tuple(
            COARSE_TICKS if row.at_rest and span >= COARSE_FROM else 1
            for row, span in zip(ROWS, self._spans, strict=True)
        )
        self._slots: dict[int, array[int]] = {}
        self.entries = array("I")  # for each descriptor number the tick of its earliest entry, 0 when it has none
        self._origin = now  # trio's clock at tick 0; moves on when we were late
        self.current = 0
        self._turned = 0  # the last tick whose slot was emptied
        self._waking = 1
        self.planned = now + TICK  # when `turn` is to be called at the latest
        #: called when `turn` must be called earlier than planned; set by the task that sleeps until then
        self.wake: Callable[[float], None] = lambda planned: None
        #: for each state, its deadline (tick) if it begins now; connections of one state and tick share the int object.
        #: One tick more than the span, since part of the current tick is over: a deadline is never early
        self.due: list[int] = self._dues()

    def _dues(self) -> list[int]:
        earliest = self.current + 1
        return [-(-(earliest + span) // step) * step for span, step in zip(self._spans, self._steps, strict=True)]

    @property
    def microseconds(self) -> int:
        """`current` in microseconds: the time of token buckets."""
        return self.current * TICK_MICROSECONDS

    def advance(self, now: float) -> None:
        """Set `current` to the tick of `now`; called first in each pass of the loop."""
        late = now - self.planned
        if late > MAX_LATENESS:
            self._origin += late
            self.planned = now
        current = int((now - self._origin) / TICK + _ROUNDING)
        if current > self.current:
            self.current = current
            self.due = self._dues()

    def plan(self) -> float:
        """The time to call `turn` next: when the next slot with entries comes up, or after NAP ticks.

        Waking ten times a second costs an empty server more than the pings of 9,000 idle peers cost.
        """
        tick, latest = self._turned + 1, self.current + NAP
        while tick < latest and tick not in self._slots:
            tick += 1
        self._waking = tick
        self.planned = self._origin + tick * TICK
        return self.planned

    def watch(self, connection: Connection, tick: int) -> None:
        """Set the deadline of a connection to a tick."""
        connection.deadline = tick
        entries = self.entries
        if len(entries) < len(self._table):
            entries.extend([0] * (len(self._table) - len(entries)))
        entry = entries[connection.descriptor]
        if entry == 0 or tick < entry:
            self._enter(connection.descriptor, tick)

    def _enter(self, descriptor: int, tick: int) -> None:
        tick = min(tick, (self.current + HORIZON) // COARSE_TICKS * COARSE_TICKS)
        if tick < self._waking:
            self._waking = tick
            self.planned = self._origin + tick * TICK
            self.wake(self.planned)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = array("i")
        slot.append(descriptor)
        self.entries[descriptor] = tick

    def turn(self, now: float) -> Iterator[Connection]:
        """Advance to `now` and yield the connections whose deadline has passed.

        The caller may close or re-enter each, and may wait between two: connections not yet yielded stay in their slot.
        """
        self.advance(now)
        table, entries = self._table, self.entries
        while self._turned < self.current:
            tick = self._turned = self._turned + 1
            for descriptor in self._slots.get(tick, ()):
                if entries[descriptor] != tick:
                    continue
                entries[descriptor] = 0
                connection = table[descriptor]
                if connection is None:
                    continue
                if connection.deadline > tick:
                    self._enter(descriptor, connection.deadline)
                else:
                    yield connection
            self._slots.pop(tick, None)
        self.plan()

    def statistics(self) -> dict[str, int]:
        """Entries in the wheel, stale ones included, and the slots that hold them."""
        return {"entries": sum(len(slot) for slot in self._slots.values()), "slots": len(self._slots)}


def ticks(seconds: float) -> int:
    """A span in ticks, at least one."""
    return max(1, round(seconds / TICK))


def spans(settings: Settings) -> tuple[int, ...]:
    """The time limit of each state in ticks, in the order of `State`."""
    seconds = (getattr(settings, row.seconds) if isinstance(row.seconds, str) else row.seconds for row in ROWS)
    return tuple(map(ticks, seconds))
