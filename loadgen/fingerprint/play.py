"""A fingerprint from beginning to end.

Owns: the order (survey, the crowd, then everything at once), each probe's time limit, and that a probe which fails is a
row of the table and never the end of the others. May not: know what a probe does, or judge what it found.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import trio

from loadgen.figures import Condition
from loadgen.fingerprint import neighbour
from loadgen.fingerprint.findings import Failed, Finding, NotApplicable, describe, remark
from loadgen.fingerprint.member import NotServedError
from loadgen.fingerprint.neighbour import Neighbour
from loadgen.fingerprint.practice import LIMITS, mark
from loadgen.fingerprint.probes import ALONGSIDE, FIRST, Probe
from loadgen.fingerprint.results import Result, make_report
from loadgen.fingerprint.site import Options, Site
from loadgen.fingerprint.survey import TROUBLE, survey, word
from loadgen.progress import Progress
from loadgen.report import Report, Sample
from loadgen.stopping import watch_signals
from loadgen.target import Target

#: A probe ends by itself when patience does; this much later it is ended.
GRACE_SECONDS: Final = 5.0

#: Between two probes, so that the smallest listen backlogs (5) hold those that come at once.
_STAGGER_SECONDS: Final = 0.01

_TICK_SECONDS: Final = 0.5
_PHASE: Final = "probing"
_UNDECIDED: Final = "undecided probes"


async def play(target: Target, options: Options, progress: Progress, conditions: tuple[Condition, ...] = ()) -> Report:
    """Find the limits of a server and compare them with good practice."""
    return await Fingerprint(Site(target, options), progress).play(conditions)


class Fingerprint:
    """One fingerprint."""

    def __init__(self, site: Site, progress: Progress) -> None:
        self._site = site
        self._progress = progress
        self._probes = (*FIRST, *ALONGSIDE)
        self._decided: dict[str, tuple[Finding, float]] = {}  # by figure, with the moment
        self._neighbour = Neighbour(site)
        self._stop = trio.Event()

    async def play(self, conditions: tuple[Condition, ...]) -> Report:
        """Play all probes, as many as there is time for, and report."""
        started = datetime.now(UTC)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_signals, self._stop, self._progress.say)
            nursery.start_soon(neighbour.watch_lag, self._site)
            with trio.CancelScope() as acting:
                nursery.start_soon(_cancel_after, self._stop, acting)
                nursery.start_soon(_cancel_after, self._neighbour.died, acting)
                await self._act(nursery)
            nursery.cancel_scope.cancel()
        self._progress.done()
        return make_report(
            self._site, self._results(), conditions=conditions, started=started, stopped=self._stop.is_set()
        )

    async def _act(self, nursery: trio.Nursery) -> None:
        self._site.survey = await survey(self._site)
        for note in self._site.survey.notes:
            self._progress.say(note)
        for probe in self._applicable(FIRST):
            await self._decide(probe)
        self._site.begin()
        self._progress.plan([(_PHASE, self._site.options.within)], attackers={_UNDECIDED})
        self._progress.phase(_PHASE)
        nursery.start_soon(self._tick)
        async with trio.open_nursery() as beside:
            beside.start_soon(self._neighbour.run)
            async with trio.open_nursery() as probing:
                for probe in self._applicable(ALONGSIDE):
                    probing.start_soon(self._decide, probe)
                    await trio.sleep(_STAGGER_SECONDS)
            beside.cancel_scope.cancel()
        await self._neighbour.look()  # all may have been decided by the server's death

    def _applicable(self, probes: Iterable[Probe]) -> list[Probe]:
        """Those of the probes for which the server has what they need; the others are decided."""
        lacks = self._site.survey.lacks
        for probe in probes:
            if probe.need in lacks:
                self._decided[probe.figure] = NotApplicable(why=lacks[probe.need]), self._site.begun
        return [probe for probe in probes if probe.need not in lacks]

    async def _decide(self, probe: Probe) -> None:
        finding = await self._try(probe)
        self._decided[probe.figure] = finding, trio.current_time()
        limit = LIMITS[probe.figure]
        self._progress.say(
            f"{len(self._decided)}/{len(self._probes)}  {probe.name}: {describe(finding, limit.unit)}"
            + "".join(f", {text}" for text in (remark(finding), mark(limit, finding)) if text)
        )

    async def _try(self, probe: Probe) -> Finding:
        finding: Finding = Failed(why="it did not end in time")
        with trio.move_on_at(self._site.until + GRACE_SECONDS):
            try:
                finding = await probe.play(self._site)
            except (*TROUBLE, NotServedError) as error:
                finding = Failed(why=word(error))
        return finding

    async def _tick(self) -> None:
        while True:
            seconds = trio.current_time() - self._site.begun
            left = len(self._probes) - len(self._decided)
            held = {_UNDECIDED: left}
            self._progress.tick(Sample(seconds=round(seconds, 2), phase=_PHASE, held=held, ended={}, refused={}))
            await trio.sleep(_TICK_SECONDS)

    def _results(self) -> list[Result]:
        results = [Result(probe.name, probe.figure, self._believed(probe)) for probe in self._probes]
        return [*results, Result(neighbour.NAME, neighbour.FIGURE, self._neighbour.finding())]

    def _believed(self, probe: Probe) -> Finding:
        finding, decided_at = self._decided.get(probe.figure, (None, 0.0))
        if self._neighbour.died.is_set() and decided_at > self._neighbour.last_alive:
            finding = None
        if finding is not None:
            return finding
        if self._neighbour.died.is_set():
            return Failed(why=f"the server died {self._neighbour.last_alive - self._site.begun:.0f} s into the run")
        return Failed(why="stopped before it was decided")


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
