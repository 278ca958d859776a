"""What a probe is: operations that are due by a clock and booked by phase, whether or not anything is connected.

Owns: a fixed schedule, the clock and its lateness, source addresses, and the booking of operations. An operation
belongs to the phase in which it was *due*, whenever it ends, and a failure counts with the whole timeout as its
duration. May not: know any kind of victim.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import groupby
from statistics import median
from typing import Final, NamedTuple

import trio

from loadgen.clients.messages import PhaseResult
from loadgen.net.answers import OTHER_TYPE, UNANSWERED, no_page
from loadgen.net.line import Line, describe, dial
from loadgen.net.sockets import has_sent_again, unread_seconds
from loadgen.net.target import FIRST_VICTIM, USUAL, Endpoint, Target, is_own_fault
from loadgen.net.timers import NEVER, Alarms, WakeUp, now
from loadgen.report.latency import BEFORE, Lag, Recent

#: So many operations in turn that are not answered are no accident.
_MANY: Final = 100

#: More operations than any schedule has.
_NO_END: Final = 1 << 32


class Schedule(NamedTuple):
    first: float  # when the first operation is due
    interval: float  # seconds between two

    def due(self, number: int) -> float:
        return self.first + number * self.interval

    def count_between(self, begin: float, end: float) -> int:
        """Count the operations due from `begin` on and before `end`, by arithmetic alone, to check what was booked."""
        before_begin, before_end = (bisect_left(range(_NO_END), moment, key=self.due) for moment in (begin, end))
        return max(before_end - before_begin, 0)


class Clock:
    """Wakes tasks at times of `timers.now`; `trio.sleep_until` waits in whole milliseconds, rounded up."""

    def __init__(self) -> None:
        self.lag = Lag()
        self._alarms = Alarms()
        self._wake = WakeUp()

    async def run(self) -> None:
        try:
            self.lag.next_look = now()
            self._arm()
            while True:
                await trio.lowlevel.wait_readable(self._wake.fd)
                moment = now()
                for _, ring in self._alarms.pop_due(moment):
                    ring()
                self.lag.look(moment)
                self._arm()
        finally:
            trio.lowlevel.notify_closing(self._wake.fd)
            self._wake.close()

    async def sleep_until(self, when: float) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # the run may have ended, and the timer with it
        reached = trio.Event()
        self._alarms.add(when, reached.set)
        self._arm()
        await reached.wait()

    def _arm(self) -> None:
        self._wake.set(min(self._alarms.next_time, self.lag.next_look))


class Recorder:
    def __init__(self) -> None:
        self.recent = Recent()
        self.timeout_seconds = 0.0  # of an operation
        self.phases: list[tuple[float, str]] = [(now(), BEFORE)]
        self._results: dict[tuple[str, str], PhaseResult] = {}  # by phase and kind
        self._by_victim: dict[tuple[str, str], dict[int, array[float]]] = {}  # the same, durations by victim
        self._answered = array("d")  # when each operation was due that succeeded
        self._unanswered = array("d")  # the same of those without an answer in time

    def begin(self, phase: str) -> None:
        self.phases.append((now(), phase))

    def _phase_at(self, moment: float) -> str:
        return next((name for begun, name in reversed(self.phases) if begun <= moment), BEFORE)

    def _result(self, kind: str, phase: str) -> PhaseResult:
        return self._results.setdefault((phase, kind), PhaseResult(phase=phase, kind=kind))

    def book(self, kind: str, victim: int, due: float, reason: str = "") -> None:
        """Book an operation that ends now; a reason means that it failed."""
        phase = self._phase_at(due)
        result, took = self._result(kind, phase), self.timeout_seconds if reason else now() - due
        if reason:
            result.failed[reason] += 1
            result.first_failure = due if result.first_failure is None else min(due, result.first_failure)
            self.recent.failed.append(due)
        else:
            self.recent.latency.record(took)
            self._answered.append(due)
        if reason == UNANSWERED:
            self._unanswered.append(due)
        result.latency.record(took)
        self._by_victim.setdefault((phase, kind), {}).setdefault(victim, array("d")).append(took)

    def results(self, expected: Counter[tuple[str, str]]) -> list[PhaseResult]:
        """Return all results; `expected` is the number of operations that the schedules have by phase and kind."""
        for (phase, kind), number in expected.items():
            self._result(kind, phase).expected = number
        for key, victims in self._by_victim.items():
            self._results[key].worst_median = max(map(median, victims.values()))
        silent = set(self._silent_phases())
        for result in self._results.values():
            result.outage = result.phase in silent
        return [self._results[key] for key in sorted(self._results)]

    def _silent_phases(self) -> Iterator[str]:
        """The phases of operations that were due, many of them, while nobody was answered for a whole timeout."""
        answered = sorted(self._answered)
        for _, run in groupby(sorted(self._unanswered), key=partial(bisect_left, answered)):
            dues = list(run)
            if len(dues) >= _MANY and dues[-1] - dues[0] >= self.timeout_seconds:
                yield from map(self._phase_at, dues)


CONNECT_TIMEOUT_SECONDS: Final = 10.0


class Context:
    def __init__(self, target: Target, tag: str, endpoint: Endpoint = USUAL) -> None:
        self.target = target
        self.tag = tag  # distinguishes this run's rooms from another's
        self.clock = Clock()
        self.recorder = Recorder()
        self.endpoint = endpoint
        self.connected: set[int] = set()  # the indices of the victims that have been so far
        self.failures = 0
        self.last_failure = ""
        self.own_faults: Counter[str] = Counter()  # what this machine, not the target, refused
        self.sent_again: set[int] = set()  # the indices of those whose packets were, before the second phase
        self.newcomers_said: defaultdict[str, dict[int, int]] = defaultdict(dict)  # acknowledged, by room, with offsets
        self.newcomers_left: defaultdict[str, dict[int, float]] = defaultdict(dict)  # when each left a room, or NEVER
        self._least_page = 0  # bytes of the smallest page before the first phase; an empty one is none
        self._page_types = set[str]()  # of the pages before it

    def fault_in_page(self, status: int, size: int, media_type: str = "") -> str:
        """Say what is wrong with an answer: an overloaded server may send an excuse as a 200, or to another page.

        Another page of about that size is no fault: a page may change by the minute.
        """
        if not 200 <= status < 400:
            return f"answered {status}"
        if status != 200:
            return no_page(status) if self._least_page else ""
        if size and (not self._least_page or len(self.recorder.phases) == 1):  # before the first phase
            self._least_page = min(size, self._least_page or size)
            self._page_types.add(media_type)
        if size and media_type not in self._page_types:
            return OTHER_TYPE
        return "a page of less than half the bytes as before" if 2 * size < self._least_page else ""

    def reason_of(self, failure: BaseException) -> str:
        """Word a failure; if a limit of this machine was the cause, no server is to blame, and the run is invalid."""
        if is_own_fault(failure):
            self.own_faults[describe(failure.__cause__ or failure)] += 1
        return describe(failure)

    def dial(self, index: int) -> AbstractAsyncContextManager[Line]:
        """Connect from a victim's own address: healthy users do not share one greedy address."""

        def watch(fd: int) -> None:
            self.clock.lag.record_read(unread_seconds(fd))
            if len(self.recorder.phases) <= 2 and has_sent_again(fd):  # an overloaded target may drop packets itself
                self.sent_again.add(index)

        source = self.target.source(FIRST_VICTIM + index)
        return dial(self.target, source=source, seconds=CONNECT_TIMEOUT_SECONDS, watch=watch)


class Probe(ABC):
    """The operations of one schedule, which runs whether or not anything is connected."""

    def __init__(self, context: Context, kind: str, index: int, schedule: Schedule) -> None:
        self.context = context
        self.kind = kind  # the name that its operations are booked under
        self.index = index
        self.schedule = schedule
        self.pending: dict[int, float] = {}  # when each outstanding operation was due, by number, oldest first
        self.stopped_at = NEVER
        self._issued = 0

    @abstractmethod
    async def run(self) -> None:
        """Play until cancelled."""

    @abstractmethod
    def begin(self, number: int) -> None:
        """Begin an operation that is due."""

    async def keep_schedule(self) -> None:
        while self.stopped_at == NEVER:
            await self.context.clock.sleep_until(self.schedule.due(self._issued))
            if self.stopped_at == NEVER:
                self.issue(now())

    def stop(self) -> None:
        """Issue the operations that are due by now, and none afterwards."""
        if self.stopped_at == NEVER:
            self.stopped_at = now()
            self.issue(self.stopped_at)

    def issue(self, moment: float) -> None:
        """Begin every operation that is due before `moment`."""
        while (due := self.schedule.due(self._issued)) < moment:
            self.pending[self._issued] = due
            self.begin(self._issued)
            self._issued += 1

    def book(self, number: int, reason: str = "") -> None:
        """Book an operation as done, or as failed for a reason; only the first booking of a number counts."""
        due = self.pending.pop(number, None)
        if due is not None:
            self.context.recorder.book(self.kind, self.index, due, reason)

    def fail_pending(self, *, due_before: float = NEVER) -> None:
        """Book the outstanding operations that were due before `due_before` as failed."""
        for number, due in list(self.pending.items()):
            if due >= due_before:
                return
            self.book(number, self.why_pending(number))

    def why_pending(self, number: int) -> str:
        return UNANSWERED
