"""`loadgen fingerprint` from its command line to the report.

Owns: what is checked before a connection is opened; the order (survey, the crowd, then everything at once), each
probe's time limit, and that a failing probe becomes a row of the table. May not: know what a probe does, or judge what
it found. An ordinary client asks once a second beside the probes. A dying server ends all connections at once, which
looks like as many deadlines, so the results of probes that ended after its last sign of life are discarded.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Final

import trio

from loadgen import flags
from loadgen.common import COMMON, SENDING, Common, Sending, Url, announce, find, finish
from loadgen.fingerprint.found import Failed, Finding, Found, NotApplicable, describe, merge, remark
from loadgen.fingerprint.practice import Mark, Probe, Result, advice_on, found_of, judge, mark, values_of
from loadgen.fingerprint.probes import ALONGSIDE, FIGURES, FIRST, MEANWHILE, PROBES
from loadgen.fingerprint.probes.served import BESIDE_CROWD
from loadgen.fingerprint.site import (
    ANSWER_SECONDS,
    LAG_EVERY_SECONDS,
    TROUBLE,
    WAIT,
    Need,
    Options,
    Site,
    exchange,
    side_by_side,
)
from loadgen.fingerprint.survey import survey
from loadgen.net.target import UsageError
from loadgen.output.exports import require
from loadgen.report.conditions import Condition, parse
from loadgen.report.figures import meanings
from loadgen.report.schema import Report, Sample, Started
from loadgen.run import preflight, procfs
from loadgen.run.progress import Progress
from loadgen.stopping import cancel_after, stoppable

#: After this many refused connections in a row, the server has died.
_REFUSALS: Final = 2
_AGAIN_SECONDS: Final = 0.2

#: After this many requests in a row that are not answered in time, the slow probes have stopped the server.
_UNANSWERED: Final = 2


class OrdinaryClient:
    def __init__(self, site: Site) -> None:
        self.last_alive = site.begun
        self.died = trio.Event()
        self.stopped_at = math.inf  # when nobody was served any more
        self.longest_silence = 0.0  # seconds in which no request was answered in time
        self._unanswered: list[float] = []  # when the last requests were sent, if they were not answered in time
        self._site = site
        self._asked = 0
        self._answered = 0

    async def run(self) -> None:
        """Send one request each pace, on a new connection, until the server is dead."""
        while not self.died.is_set():
            await self.look()
            await trio.sleep(self._site.options.pace)

    async def look(self) -> None:
        """Send a request, and another if the connection is refused; if that is refused too, the server is dead."""
        for _ in range(_REFUSALS):
            begun = trio.current_time()
            unanswered: list[float] = []
            try:
                answered = await self._ask()
            except ConnectionRefusedError:
                await trio.sleep(_AGAIN_SECONDS)
                continue
            except TROUBLE as error:
                answered = False
                if isinstance(error, trio.TooSlowError):
                    unanswered = [*self._unanswered, begun]
            self._unanswered = unanswered
            if len(unanswered) >= _UNANSWERED:
                self.stopped_at = min(self.stopped_at, unanswered[0])
                self.longest_silence = max(self.longest_silence, trio.current_time() - unanswered[0])
            self._asked += 1
            self._answered += answered
            return
        self.died.set()

    async def _ask(self) -> bool:
        begun = trio.current_time()
        with trio.fail_after(ANSWER_SECONDS):
            async with self._site.dial() as line:
                self.last_alive = begun
                answer = await exchange(line, [self._site.plain_request()])
        return answer.status == self._site.plain_status

    def finding(self) -> Finding:
        lack = self._site.lacks.get(Need.HTTP)
        if lack is not None:
            return lack if isinstance(lack, Failed) else Found(value=0, how=remark(lack))
        if not self._asked:
            return NotApplicable(why="there was no time to ask")
        return Found(value=100 * self._answered / self._asked, how=f"{self._answered} of {self._asked}")


async def watch_lag(site: Site) -> None:
    """Record how late our own schedule runs: no measured time is more exact than that."""
    while True:
        due = trio.current_time() + LAG_EVERY_SECONDS
        await trio.sleep_until(due)
        site.worst_lag = max(site.worst_lag, trio.current_time() - due)


#: A probe should end when its patience does; this much later it is cancelled.
GRACE_SECONDS: Final = 2.0

#: Between two samples, in paces, so that they meet a server that checks its deadlines every 1, 5 or 10 s at different
#: moments. With a short --within it is this part of that.
_SAMPLE_PACES: Final = 10 / 3
_SAMPLE_PART: Final = 1 / 30

#: Between the starts of two probes, so that their connections fit the smallest listen backlogs (5).
_STAGGER_SECONDS: Final = 0.01

_TICK_SECONDS: Final = 0.5
_PHASE: Final = "probing"

_STOPPED: Final = "the slow probes stop the server for all others: beside each other they would measure its queue"

#: Share of the run in which a program waited for a processor, above which that may be why nobody was served.
_BUSY_SHARE: Final = 0.5

#: A server that answers nobody for so long is not kept from it by other programs.
_SILENCE_SECONDS: Final = 30.0
_BUSY: Final = "for a while requests were not answered in time, and other programs had the processors"


async def sampled(site: Site, probe: Probe) -> Finding:
    """Play a probe as often as it needs samples, at different moments."""
    # a server that serves one connection at a time keeps the second sample waiting until the first has ended
    number_of_samples = 1 if Need.HTTP in site.lacks else probe.samples
    apart = min(_SAMPLE_PACES * site.options.pace, _SAMPLE_PART * site.options.within)

    async def sample(number: int) -> Finding:
        await trio.sleep(number * apart)
        return await probe.play(site)

    samples = await side_by_side(
        {at: partial(sample, at) for at in range(number_of_samples)}, site.until + GRACE_SECONDS
    )
    return merge(list(samples.values()), probe.unit, kept_is_good=probe.absent is Mark.GOOD)


class Fingerprint:
    def __init__(self, site: Site, progress: Progress) -> None:
        self._site = site
        self._progress = progress
        self._decided: dict[str, tuple[Finding, float]] = {}  # by figure, with the time of the decision
        self._ordinary = OrdinaryClient(site)

    async def play(self, conditions: tuple[Condition, ...] = (), *, no_bar: bool = False) -> Report:
        started, site, waited = Started(), self._site, procfs.pressure() or 0.0
        async with stoppable(self._progress.say) as stop, trio.open_nursery() as nursery:
            nursery.start_soon(watch_lag, site)
            nursery.start_soon(cancel_after, self._ordinary.died, nursery.cancel_scope)
            await self._act(nursery)
            nursery.cancel_scope.cancel()
        self._progress.done()
        waited = (procfs.pressure() or 0.0) - waited
        busy = waited > _BUSY_SHARE * (trio.current_time() - site.begun)
        results = self._results(busy=busy and self._ordinary.longest_silence < _SILENCE_SECONDS)
        died, stopped = self._death(), stop.is_set()
        return Report(
            command="fingerprint",
            target=site.target.url,
            started=started.at,
            seconds=started.seconds,
            verdict=judge(results, conditions, no_bar=no_bar, lag=site.worst_lag, died=died, stopped=stopped),
            figures=values_of(results),
            meanings=meanings(FIGURES),
            tables=[found_of(results, site.notes), advice_on(results)],
        )

    async def _act(self, nursery: trio.Nursery) -> None:
        await survey(self._site)
        for note in self._site.notes:
            self._progress.say(note)
        for probe in self._applicable(FIRST):
            await self._decide(probe)
        self._site.begin()
        self._progress.plan([(_PHASE, self._site.options.within)])
        self._progress.phase(_PHASE)
        nursery.start_soon(self._tick)
        async with trio.open_nursery() as beside:
            beside.start_soon(self._ordinary.run)
            async with trio.open_nursery() as probing:
                for probe in self._applicable(ALONGSIDE):
                    probing.start_soon(self._decide, probe)
                    await trio.sleep(_STAGGER_SECONDS)
            beside.cancel_scope.cancel()
        await self._ordinary.look()  # the last findings may all come from the server's death

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
            words = f"{_PHASE}, {len(PROBES) - len(self._decided)} undecided"
            self._progress.tick(Sample(seconds=round(seconds, 2), phase=words, held={}, ended={}, refused={}))
            await trio.sleep(_TICK_SECONDS)

    def _results(self, *, busy: bool) -> list[Result]:
        results = [Result(probe, self._believed(probe, busy=busy)) for probe in PROBES]
        others = self._site.lacks.get(Need.CROWD, self._site.beside_crowd)
        asked = [Result(MEANWHILE, self._ordinary.finding()), Result(BESIDE_CROWD, others)]
        if busy and asked[0].mark is Mark.MISSING and Need.HTTP not in self._site.lacks:
            asked = [each._replace(finding=Failed(why=_BUSY)) if each.mark is Mark.MISSING else each for each in asked]
        return [*results, *asked]

    def _believed(self, probe: Probe, *, busy: bool) -> Finding:
        finding, decided_at = self._decided.get(probe.figure, (None, 0.0))
        death = self._death()
        if finding is None or (death and decided_at > self._ordinary.last_alive):
            return Failed(why=death or "stopped before it was decided")
        if decided_at > self._ordinary.stopped_at and Need.HTTP not in self._site.lacks:
            return Failed(why=_BUSY) if busy else NotApplicable(why=_STOPPED)
        return finding

    def _death(self) -> str:
        if not self._ordinary.died.is_set():
            return ""
        return f"the server died {self._ordinary.last_alive - self._site.begun:.0f} s into the run"


OPTIONS: Final = Options()


def fingerprint(url: Url, /, *, options: Options = OPTIONS, sending: Sending = SENDING, common: Common = COMMON) -> int:
    """Find a server's deadlines and size limits from outside, and compare them with good practice.

    Any HTTP or WebSocket server will do. Some thirty probes run side by side: clients that stall, drip, send too much
    or do not read, and honest slow ones. Probes of what the server does not offer are skipped and listed. The default
    bar: no limit is missing, and none hurts honest slow users.
    """
    conditions = parse(common.fail_if, FIGURES, server_pid=False)
    if options.poll_path.count(WAIT) != 1:
        raise UsageError(f"--poll-path: {options.poll_path!r} must have {WAIT} in it once: the seconds to be held")
    flags.require("--poll-path", flags.is_path, options.poll_path.replace(WAIT, "1"))
    fields = sending.fields
    require(common.report)
    target = find(url, common)
    most = max(options.connections, 300)  # of all probes, with room to spare
    notes = preflight.check(target, most, flags=("", ""))
    progress = announce(target, f"{len(PROBES)} probes for {options.within:g} s", notes)

    async def play() -> Report:
        return await Fingerprint(Site(target, options, fields), progress).play(conditions, no_bar=common.no_bar)

    return finish(trio.run(play), common)
