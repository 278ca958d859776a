"""A fingerprint from beginning to end.

Owns: the order (survey, the crowd, then everything at once), each probe's time limit, and that a failing probe becomes
a row of the table and does not end the others. May not: know what a probe does, or judge what it found.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

import trio

from loadgen.common import arguments
from loadgen.figures import Condition
from loadgen.fingerprint import neighbour
from loadgen.fingerprint.exchange import tried
from loadgen.fingerprint.findings import Failed, Finding, describe, merge, remark
from loadgen.fingerprint.neighbour import MEANWHILE, Neighbour
from loadgen.fingerprint.practice import Mark, Probe, mark
from loadgen.fingerprint.probes import ALONGSIDE, FIGURES, FIRST, PROBES
from loadgen.fingerprint.results import Result, advice_on, figures, found_of, judge
from loadgen.fingerprint.site import Site
from loadgen.fingerprint.survey import survey
from loadgen.progress import Progress
from loadgen.report import Report, Sample, Started
from loadgen.stopping import cancel_after, stoppable

#: A probe should end when its patience does; this much later it is cancelled.
GRACE_SECONDS: Final = 5.0

#: Between two samples, in paces, so that they meet a server that checks its deadlines every 1, 5 or 10 s at different
#: moments. With a short --within it is this part of that.
_SAMPLE_PACES: Final = 10 / 3
_SAMPLE_PART: Final = 1 / 30

#: Between the starts of two probes, so that their connections fit the smallest listen backlogs (5).
_STAGGER_SECONDS: Final = 0.01

_TICK_SECONDS: Final = 0.5
_PHASE: Final = "probing"
_UNDECIDED: Final = "undecided probes"


async def sampled(site: Site, probe: Probe) -> Finding:
    """Play a probe as often as it needs samples, at different moments."""
    samples: list[Finding] = [Failed(why="it did not end in time")] * probe.samples
    apart = min(_SAMPLE_PACES * site.options.pace, _SAMPLE_PART * site.options.within)

    async def sample(number: int) -> None:
        await trio.sleep(number * apart)
        samples[number] = await tried(partial(probe.play, site))

    with trio.move_on_at(site.until + GRACE_SECONDS):
        async with trio.open_nursery() as nursery:
            for number in range(probe.samples):
                nursery.start_soon(sample, number)
    return merge(samples, kept_is_good=probe.absent is Mark.GOOD)


class Fingerprint:
    def __init__(self, site: Site, progress: Progress) -> None:
        self._site = site
        self._progress = progress
        self._decided: dict[str, tuple[Finding, float]] = {}  # by figure, with the time of the decision
        self._neighbour = Neighbour(site)

    async def play(self, conditions: tuple[Condition, ...] = (), *, no_bar: bool = False) -> Report:
        started, site = Started(), self._site
        async with stoppable(self._progress.say) as stop, trio.open_nursery() as nursery:
            nursery.start_soon(neighbour.watch_lag, site)
            nursery.start_soon(cancel_after, self._neighbour.died, nursery.cancel_scope)
            await self._act(nursery)
            nursery.cancel_scope.cancel()
        self._progress.done()
        results, died, stopped = self._results(), self._death(), stop.is_set()
        return Report(
            command="fingerprint",
            arguments=arguments(),
            target=site.target.url,
            seed=0,  # nothing is random
            started=started.at,
            seconds=started.seconds,
            verdict=judge(results, conditions, no_bar=no_bar, lag=site.worst_lag, died=died, stopped=stopped),
            figures=figures(results),
            meanings=dict(FIGURES),
            tables=[found_of(results, site.notes), advice_on(results)],
        )

    async def _act(self, nursery: trio.Nursery) -> None:
        await survey(self._site)
        for note in self._site.notes:
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
        await self._neighbour.look()  # the last findings may all come from the server's death

    def _applicable(self, probes: Iterable[Probe]) -> list[Probe]:
        """Return the probes whose needs the server meets, and decide the others."""
        lacks = self._site.lacks
        for probe in probes:
            if probe.need in lacks:
                self._decided[probe.figure] = lacks[probe.need], self._site.begun
        return [probe for probe in probes if probe.need not in lacks]

    async def _decide(self, probe: Probe) -> None:
        finding = await sampled(self._site, probe)
        self._decided[probe.figure] = finding, trio.current_time()
        self._progress.say(
            f"{len(self._decided)}/{len(PROBES)}  {probe.name}: {describe(finding, probe.unit)}"
            + "".join(f", {text}" for text in (remark(finding), mark(probe, finding)) if text)
        )

    async def _tick(self) -> None:
        while True:
            seconds = trio.current_time() - self._site.begun
            left = len(PROBES) - len(self._decided)
            held = {_UNDECIDED: left}
            self._progress.tick(Sample(seconds=round(seconds, 2), phase=_PHASE, held=held, ended={}, refused={}))
            await trio.sleep(_TICK_SECONDS)

    def _results(self) -> list[Result]:
        results = [Result(probe, self._believed(probe)) for probe in PROBES]
        return [*results, Result(MEANWHILE, self._neighbour.finding())]

    def _believed(self, probe: Probe) -> Finding:
        finding, decided_at = self._decided.get(probe.figure, (None, 0.0))
        death = self._death()
        if finding is not None and not (death and decided_at > self._neighbour.last_alive):
            return finding
        return Failed(why=death or "stopped before it was decided")

    def _death(self) -> str:
        if not self._neighbour.died.is_set():
            return ""
        return f"the server died {self._neighbour.last_alive - self._site.begun:.0f} s into the run"
