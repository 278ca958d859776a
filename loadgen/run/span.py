"""One phase of an experiment: its length, and what the server, the crowd and the machine did meanwhile.

Owns: the arithmetic on the readings at both ends, and how much memory attackers cost a server. A server that keeps
messages grows while its victims chat, so the baseline's growth is extrapolated and subtracted. May not: take readings.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf
from statistics import median
from types import MappingProxyType
from typing import Final, NamedTuple

from loadgen.run.experiment import Counts
from loadgen.run.procfs import Ticks, Usage, busy_seconds, stolen_percent


class Reading(NamedTuple):
    moment: float
    server: Usage | None
    held: int  # clients of honest load
    own_bytes: int  # memory of the generator's own processes
    crowd_cpu_seconds: float  # CPU that the crowd's processes have used
    acknowledged: int  # messages of the schedule
    deliveries: int  # messages that reached a client
    sent_bytes: int  # by honest load
    received_bytes: int
    ticks: Ticks = Ticks(0, 0)
    pressure: float | None = None
    server_waits: Mapping[int, float] = MappingProxyType({})  # seconds that its threads waited for a processor


_NOTHING: Final = Reading(0.0, None, 0, 0, 0.0, 0, 0, 0, 0)


class Span(NamedTuple):
    name: str
    counts_as: Counts
    before: Reading
    after: Reading
    opening_seconds: float = 0.0  # until the last client that had not come before was established

    @property
    def seconds(self) -> float:
        return self.after.moment - self.before.moment

    @property
    def connection_seconds(self) -> float:
        """Of honest load, as clients that come evenly have them."""
        return (self.before.held + self.after.held) / 2 * self.seconds

    @property
    def cpu_seconds(self) -> float | None:
        before, after = self.before.server, self.after.server
        return None if before is None or after is None else after.cpu_seconds - before.cpu_seconds

    @property
    def cpu_share(self) -> float | None:
        return per(self.cpu_seconds, self.seconds)

    @property
    def cpu_percent(self) -> float | None:
        return None if self.cpu_share is None else round(100 * self.cpu_share, 1)

    def rate(self, amount: str) -> float | None:
        return per(getattr(self.after, amount) - getattr(self.before, amount), self.seconds)

    @property
    def server_bytes(self) -> int | None:
        return None if self.after.server is None else self.after.server.pss_bytes

    @property
    def steal_percent(self) -> float | None:
        return stolen_percent(self.before.ticks, self.after.ticks)

    @property
    def pressure_percent(self) -> float | None:
        """The share of its time in which a program waited for a processor that others than the server had."""
        if self.before.pressure is None or self.after.pressure is None:
            return None
        return self._percent_by_others(self.after.pressure - self.before.pressure)

    @property
    def wait_percent(self) -> float | None:
        """The share of its time in which the worst of the server's threads waited for what others had."""
        before, after = self.before.server_waits, self.after.server_waits
        if not before or not after:
            return None
        return self._percent_by_others(max(waited - before.get(thread, 0.0) for thread, waited in after.items()))

    def _percent_by_others(self, waited: float) -> float | None:
        """Others kept nobody waiting for longer than they ran: threads of a busy server wait for each other."""
        busy = busy_seconds(self.before.ticks, self.after.ticks)
        others = inf if busy is None or self.cpu_seconds is None else max(busy - self.cpu_seconds, 0.0)
        return per(100 * min(waited, others, self.seconds), self.seconds)  # read a moment later than the clock


def bytes_each(earlier: Span, later: Span) -> float | None:
    """The server's growth between the ends of two phases, for each client that came in between."""
    if earlier.server_bytes is None or later.server_bytes is None:
        return None
    return per(later.server_bytes - earlier.server_bytes, later.after.held - earlier.after.held)


def joined(spans: Sequence[Span], *counts_as: Counts) -> Span:
    """Join all phases that count as one of these; if there are none, return an empty span without readings."""
    found = [span for span in spans if span.counts_as in counts_as]
    if not found:
        return Span("", counts_as[0], _NOTHING, _NOTHING)
    name = found[0].name if len(found) == 1 else f"{found[0].name} to {found[-1].name}"
    return found[0]._replace(name=name, after=found[-1].after)


def per(amount: float | None, number: float | None) -> float | None:
    """Divide, to four significant digits; `None` if an operand is missing."""
    return None if amount is None or number is None or number <= 0 else float(f"{amount / number:.4g}")


#: Steps that are needed for a rate; with fewer, one-time growth of a process would be taken for one.
_ENOUGH: Final = 3


class Size(NamedTuple):
    moment: float  # s, of any clock
    resident: int  # bytes


def grown(baseline: Sequence[Size], later: Sequence[Size]) -> int | None:
    """The most by which later sizes exceed what the baseline's growth explains; `None` without one of them."""
    if not baseline or not later:
        return None
    last, rate = baseline[-1], _rate(baseline)
    return max(each.resident - last.resident - round(rate * (each.moment - last.moment)) for each in later)


def _rate(baseline: Sequence[Size]) -> float:
    """Bytes a second, as the median of the steps, so that one jump does not count; never negative."""
    steps = [
        (later.resident - earlier.resident) / (later.moment - earlier.moment) for earlier, later in pairwise(baseline)
    ]
    return max(median(steps), 0.0) if len(steps) >= _ENOUGH else 0.0
