"""What `run` and `attack` have in common: the nursery, the crowd, the clock, the stop button.

Owns: the life of a run. A scenario's phases are one straight-line function that calls `pause` and `settle`; Ctrl-C
makes the next of those raise `StoppedError`, which the scenario catches to report what it has so far.
"""

import gc
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import trio

from loadgen.client import Client, Cohort, Place
from loadgen.engine import Engine
from loadgen.figures import Condition
from loadgen.latency import milliseconds
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.progress import Progress
from loadgen.report import CohortRow, Sample, cohort_row
from loadgen.target import Target
from loadgen.timers import now

SAMPLE_SECONDS: Final = 1.0

#: After the last client is established, before anything is measured: servers finish what they put off.
SETTLE_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every scenario is told."""

    target: Target
    connect_rate: float  # a second; 0 = as fast as the target takes them
    seed: int
    server: Process | None
    conditions: tuple[Condition, ...]
    progress: Progress
    settle_seconds: float = SETTLE_SECONDS


class StoppedError(Exception):
    """Somebody pressed Ctrl-C."""


class Session:
    """The surroundings of one scenario."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)  # noqa: S311  replayable on purpose
        self.engine = Engine(plan.target, connect_rate=plan.connect_rate)
        self.own = Process.ourselves()
        self.cohorts: list[Cohort] = []
        self.timeline: list[Sample] = []
        self.rows: list[CohortRow] = []
        self.phase = "start"
        self.stopped = False
        self._stop = trio.Event()
        self._begun = now()
        self._share_at_start = {process: process.share() for process in self._watched}

    def cast(self, counts: Mapping[type[Client], int], place: Place) -> list[Client]:
        """Make cohorts of these sizes and return all their clients, evenly mixed."""
        cohorts = {
            persona: Cohort(persona=persona, engine=self.engine, place=place, wanted=wanted)
            for persona, wanted in counts.items()
        }
        self.cohorts += cohorts.values()
        return [cohorts[persona].member(index) for index, persona in enumerate(_mixed(counts))]

    def describe_cohorts(self) -> None:
        """Note how the cohorts stand, once: closing them ourselves is no part of what became of them."""
        self.rows = self.rows or [cohort_row(cohort) for cohort in self.cohorts]

    @property
    def held(self) -> int:
        """Clients established now, over all cohorts."""
        return sum(cohort.held for cohort in self.cohorts)

    @property
    def _watched(self) -> list[Process]:
        return [self.own, self.plan.server] if self.plan.server else [self.own]

    def _spent(self, process: Process | None, what: Literal["running", "waiting"]) -> float | None:
        """Percentage of the run that a process spent on a CPU, or waiting for one."""
        if process is None:
            return None
        before, after = self._share_at_start[process], process.share()
        if before is None or after is None:
            return None
        return per(100 * (getattr(after, what) - getattr(before, what)), now() - self._begun)

    def own_figures(self, own_bytes: float | None, crowd: float) -> dict[str, float | None]:
        """What the generator itself cost, and how well it kept its schedule."""
        lag = self.engine.lag
        return {
            "lag_p99_ms": milliseconds(lag.at(99)),
            "lag_max_ms": milliseconds(lag.longest),
            "own_bytes_per_client": per(own_bytes, crowd),
            "own_cpu_percent": self._spent(self.own, "running"),
            "own_cpu_wait_percent": self._spent(self.own, "waiting"),
            "server_cpu_wait_percent": self._spent(self.plan.server, "waiting"),
        }

    async def pause(self, seconds: float) -> None:
        """Let the run go on for a while."""
        with trio.move_on_after(seconds):
            await self._stop.wait()
            raise StoppedError

    async def until(self, ready: Callable[[], bool], limit: float) -> bool:
        """Wait for something to be so, and say whether it was within the limit."""
        deadline = now() + limit
        while not ready():
            if now() > deadline:
                return False
            await self.pause(0.02)
        return True

    async def play(self, act: Callable[[trio.Nursery], Awaitable[None]]) -> None:
        """Run the engine, the timeline and the stop button around `act`."""
        invalid: InvalidRunError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.engine.run)
            nursery.start_soon(self._watch_signals)
            nursery.start_soon(self._sample)
            try:
                with _collector_at_rest():
                    await act(nursery)
            except StoppedError:
                self.stopped = True
            except InvalidRunError as error:
                invalid = error  # raised outside: the nursery would wrap it in a group
            self.timeline.append(self._now())
            self.describe_cohorts()
            nursery.cancel_scope.cancel()
        self.plan.progress.done()
        if invalid is not None:
            raise invalid

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.plan.progress.say("stopping; press again to leave at once")
                self._stop.set()
                break
        # outside the receiver the default handlers are back: a second Ctrl-C ends the program
        await trio.sleep_forever()

    async def _sample(self) -> None:
        while True:
            self.timeline.append(self._now())
            self.plan.progress.tick(self._line())
            await trio.sleep(SAMPLE_SECONDS)

    def _now(self) -> Sample:
        return Sample(
            seconds=round(now() - self._begun, 2),
            phase=self.phase,
            held={cohort.persona.name: cohort.held for cohort in self.cohorts},
            ended={cohort.persona.name: cohort.ended.total() for cohort in self.cohorts},
            server_rss_bytes=self.plan.server.resident_bytes() if self.plan.server else None,
        )

    def _line(self) -> str:
        crowd = "  ".join(f"{c.persona.name} {c.held:,}/{c.wanted:,}" for c in self.cohorts)
        return f"{self.phase}: {crowd}" if crowd else self.phase


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep the collector from walking the crowd: a full pass over 18,000 clients would be in the latencies.

    The crowd lives as long as the run, so a full pass could free nothing of it; the little that trio-websocket leaves
    in cycles is collected young.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(before[0], before[1], 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _mixed(counts: Mapping[type[Client], int]) -> Iterable[type[Client]]:
    """Interleave, so that each stretch of the sequence has the proportions of the whole."""
    places = [
        ((number + 0.5) / wanted, persona.name, persona)
        for persona, wanted in counts.items()
        for number in range(wanted)
    ]
    return [persona for _, _, persona in sorted(places, key=lambda place: place[:2])]


def per(amount: float | None, number: float) -> float | None:
    """Divide, where there is something to divide; to four significant digits."""
    return None if amount is None or number <= 0 else float(f"{amount / number:.4g}")


def ratio(value: float | None, base: float | None) -> float | None:
    """Compare, where both were measured."""
    return None if value is None or base is None else per(value, base)
