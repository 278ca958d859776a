"""Deadlines of parked connections.

Owns: the ticks, and which descriptor is looked at in which tick. May not: read sockets, know HTTP.

    wheel.due[State.HEAD]            the tick at which a head that starts now is late
    wheel.watch(connection, tick)    set the deadline; an attribute write when an earlier entry stands already

Lazy: an entry is a descriptor number in the slot of its tick. When the slot comes up, its connection is entered again
if the deadline has moved on. So extending a deadline costs nothing, and a closed connection leaves eight bytes behind.
The entry is the number's: a connection that takes over a number takes over its entry. Only the earliest entry of a
number counts, a later one is passed over.

Served time: when the loop was late by L, so is every deadline. A peer that could not be read because *we* stalled is
not to blame; a laptop that was asleep for an hour must not hang up on everybody when it wakes.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence

from chatserver.net.connection import Connection
from chatserver.net.states import ROWS
from chatserver.settings.fields import Settings

#: Seconds between ticks: the precision of every deadline. libuv and nginx keep milliseconds; no limit of ours needs it.
TICK = 0.1
TICK_MICROSECONDS = round(TICK * 1e6)
#: A tick this late (s) moves all deadlines. Below it is scheduling noise that deadlines have room for.
LATE = 2 * TICK
#: Ticks to a multiple of which a long deadline at rest (a column of the table) is put off, and how long (ticks) is
#: long: thousands of pings spread over every tick would wake the loop for each answer; brought together they are sent
#: and answered in batches.
TOGETHER, LONG = 10, 100
#: Ticks that the wheel may sleep when nothing is due: half a second, so that a stall is noticed as lateness.
NAP = 5
#: Ticks by which the division of two floats may fall short of a whole number.
_ROUNDING = 1e-6
#: Deadline of a phase whose limit is 0, "none": about three years of ticks.
NEVER = 1 << 30


class Wheel:
    """Deadlines in ticks since it was made. `table` maps descriptor numbers to connections."""

    def __init__(self, table: Sequence[Connection | None], settings: Settings, *, now: float) -> None:
        self._table = table
        self._spans = spans(settings)
        self._steps = tuple(
            TOGETHER if row.at_rest and span >= LONG else 1 for row, span in zip(ROWS, self._spans, strict=True)
        )
        self._slots: dict[int, array[int]] = {}
        self.entries = array("I")  # for each descriptor number the tick of its earliest entry, 0 when it has none
        self._origin = now  # trio's clock at tick 0; moves on when we were late
        self.current = 0
        self._turned = 0  # the last tick whose slot was emptied
        self._waking = 1
        self.planned = now + TICK  # when `turn` is to be called at the latest
        #: told of an earlier time to call `turn` than was planned; set by the task that sleeps until then
        self.wake: Callable[[float], None] = lambda planned: None
        self.lateness = 0.0  # s, total by which deadlines were moved
        #: for each state, the tick at which it is due if it begins now: one int object for all of a state and a tick.
        #: One tick more than the span, since part of the current one is over: a deadline is never early
        self.due: list[int] = self._dues()

    def _dues(self) -> list[int]:
        earliest = self.current + 1
        return [-(-(earliest + span) // step) * step for span, step in zip(self._spans, self._steps, strict=True)]

    # -- time -------------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Make `current` the tick that it is; to be called before anything else is done at a time."""
        late = now - self.planned
        if late > LATE:
            self._origin += late
            self.lateness += late
            self.planned = now
        current = int((now - self._origin) / TICK + _ROUNDING)
        if current > self.current:
            self.current = current
            self.due = self._dues()

    def plan(self) -> float:
        """When to call `turn` next: when the next slot with entries comes up, or after a short nap.

        An empty server that wakes ten times a second spends more on waking than 9,000 idle peers do on their pings.
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
        if tick >= NEVER:
            return
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

        The caller may close or re-enter each, and may wait between two: what was not yet yielded stays in its slot.
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
    """A span in ticks, at least one; `NEVER` for 0, which means "none" in every limit."""
    return max(1, round(seconds / TICK)) if seconds > 0 else NEVER


def spans(settings: Settings) -> tuple[int, ...]:
    """Ticks that each state lasts, in the order of `State`."""
    seconds = (getattr(settings, row.seconds) if isinstance(row.seconds, str) else row.seconds for row in ROWS)
    return tuple(map(ticks, seconds))
