"""The life of an experiment: its workers, the clock, the timeline, Ctrl-C.

Owns: how a run starts and ends. Ctrl-C cancels the player, and the results so far are reported.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Final

import msgspec
import trio

from loadgen import stopping
from loadgen.clients.messages import GroupStatus, Result, Role, merged_groups
from loadgen.net import target
from loadgen.net.target import USUAL, Endpoint, Page, Target, fetch
from loadgen.net.timers import now
from loadgen.report.conditions import Condition
from loadgen.report.latency import Recent
from loadgen.report.schema import Sample, Started
from loadgen.run.experiment import START
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Process, Share
from loadgen.run.progress import Progress
from loadgen.run.span import per
from loadgen.run.worker import Part
from loadgen.run.workers import ANSWER_SECONDS, PartName, Worker, WorkerError, Workers, merge, spawn

SAMPLE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.2
_POLL_SECONDS: Final = 0.02

#: Pause after the last client is established, in which servers finish deferred work, before anything is measured.
SETTLE_SECONDS: Final = 1.0

#: Fetches of the page, the shortest of which counts.
LOOKS: Final = 3

#: A page that takes longer is said to be waited for.
SAID_AFTER_SECONDS: Final = 1.0

#: Time for the workers to send their results.
RESULT_SECONDS: Final = 30.0

#: Attempts to connect before a target counts as dead, and the pause between them: a full backlog refuses for a moment.
DEATH_TRIES: Final = 3
DEATH_TRY_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    target: Target
    connect_rate: float  # connections a second; 0 = as fast as the target accepts them
    seed: int
    server: Process | None
    conditions: tuple[Condition, ...]  # in addition to the bar
    progress: Progress
    processes: int = 1
    endpoint: Endpoint = USUAL
    personas: tuple[str, ...] = ()  # files with further personas
    no_bar: bool = False
    settle_seconds: float = SETTLE_SECONDS


async def cause_of_death(plan: Plan) -> str:
    """Return the evidence that the target is gone, or an empty text.

    It is gone if its process is, or if its port refuses every connection. A server that is merely slow, even to accept
    one, shows in the victims' operations.
    """
    if plan.server is not None and not plan.server.is_alive():
        return f"process {plan.server.pid} is gone"
    return await why_closed(plan.target)


async def why_closed(where: Target) -> str:
    for attempt in range(DEATH_TRIES):
        await trio.sleep(DEATH_TRY_SECONDS if attempt else 0)
        if not await trio.to_thread.run_sync(target.is_closed, where):
            return ""
    return f"nothing listens at {where.address} port {where.port} any more"


class Session:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timeline: list[Sample] = []
        self.totals = merge(())
        self.stopped = False
        self.started = Started()
        self.seconds = 0.0
        self.phase = START
        self._page_type: str | None = None  # of the target's page, once that was looked at
        self._mark = f"lg{token_hex(4)}"  # not by the seed: two runs may have the same one, at the same time
        self._lost_worker = ""  # why the results of a process of our own are missing
        self._workers: list[Worker] = []
        self._heard: list[Worker] | None = None  # workers whose operations make the timeline; None = all
        self._nursery: trio.Nursery | None = None
        self._recent = Recent()  # since the last entry of the timeline
        self._cpu: tuple[float, float] | None = None  # the server's CPU seconds, and when they were read
        self._shares: dict[Process, tuple[float, Share | None]] = {}  # when each was started, and its share then
        #: How busy our processes were at worst, once the run is over.
        self.spent: dict[str, float | None] = dict.fromkeys(("own_cpu_percent", "own_cpu_wait_percent"))

    # What a player uses

    async def spawn_crowd(self, *, niceness: int = 0) -> Workers:
        plan = self.plan
        rate = plan.connect_rate / plan.processes
        return Workers([await self._spawn("crowd", rate, niceness) for _ in range(plan.processes)])

    async def spawn_victims(self) -> Worker:
        """Start the process of the victims, whose operations make the timeline from then on."""
        victims = await self._spawn("victims", 0.0)
        self._heard = [victims]
        return victims

    async def _spawn(self, part: PartName, connect_rate: float, niceness: int = 0) -> Worker:
        assert self._nursery is not None, "workers are spawned within `play`"
        # each worker makes different choices, and the same ones in a replay
        seed = self.plan.seed * 1000 + len(self._workers)
        role = Role(
            target=self.plan.target,
            seed=seed,
            connect_rate=connect_rate,
            endpoint=msgspec.structs.replace(self.plan.endpoint, page_type=self._page_type),
            personas=list(self.plan.personas),
            niceness=niceness,
            mark=self._mark,
        )
        worker = await spawn(self._nursery, part, role)
        self._workers.append(worker)
        self._shares[worker.watched] = now(), worker.watched.share()
        return worker

    def begin(self, phase: str) -> None:
        """Begin a phase, with an entry of the timeline that ends exactly here."""
        self._sample()
        self.phase = phase
        self.plan.progress.phase(phase)

    async def enter(self, phase: str) -> None:
        """Begin a measured phase; when this returns, all workers book under its name."""
        self.begin(phase)
        await self.refresh()

    async def refresh(self) -> None:
        """Have all workers book under the phase's name, and report how they stand now."""
        for worker in self._workers:
            await worker.call(Part.begin, self.phase)
        if not await self.until(lambda: all(worker.up_to_date for worker in self._workers), ANSWER_SECONDS):
            raise WorkerError(f"a process of the generator's own does not answer in the {self.phase}")

    async def until(self, ready: Callable[[], bool], limit: float) -> bool:
        """Wait until `ready`, and return whether that came within the limit."""
        deadline = now() + limit
        while not ready():
            if now() > deadline:
                return False
            await trio.sleep(_POLL_SECONDS)
        return True

    async def missed(self, crowd: Workers) -> int:
        """Count the acknowledged messages that members have not got so far."""
        return merge(await self._results(crowd.workers)).missed()

    def own_bytes(self) -> int:
        usages = [worker.watched.usage() for worker in self._workers]
        return sum(usage.pss_bytes for usage in usages if usage is not None)

    def groups(self) -> list[GroupStatus]:
        statuses = (worker.status for worker in self._workers if worker.status is not None)
        return merged_groups(group for status in statuses for group in status.groups)

    async def look(self) -> list[Page]:
        """Fetch the target's page a few times before anything else, to measure its time and the distance."""
        pages: list[Page] = []
        endpoint = self.plan.endpoint
        get = partial(fetch, self.plan.target, endpoint.path, endpoint.fields)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say_what_is_waited_for, endpoint.path)
            for _ in range(LOOKS):
                pages.append(await trio.to_thread.run_sync(get, abandon_on_cancel=True))
                if pages[-1].status is None:
                    break  # each further one would take as long
            nursery.cancel_scope.cancel()
        if endpoint.request_path == endpoint.path:
            self._page_type = next((page.media_type for page in pages if page.media_type is not None), None)
        return pages

    async def _say_what_is_waited_for(self, path: str) -> None:
        await trio.sleep(SAID_AFTER_SECONDS)
        self.plan.progress.say(f"GET {path} is not answered yet; without an answer the run begins after a few seconds")

    # The life of it

    async def play(self, act: Callable[[], Awaitable[None]]) -> None:
        """Run `act` beside the timeline and the signal handler; afterwards `totals` has the results.

        If a process of the generator's own was lost, these are the results of the others, and `faults` says so.
        """
        invalid = ""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._watch)
                try:
                    invalid = await self._act_and_collect(nursery, act)
                finally:
                    async with trio.open_nursery() as leaving:
                        for worker in self._workers:
                            leaving.start_soon(worker.leave)  # shielded, with a time limit
                nursery.cancel_scope.cancel()
        finally:
            self.plan.progress.done()
        self.seconds = self.started.seconds
        if invalid:  # raised here, because the nursery would wrap it
            raise InvalidRunError(invalid)

    async def _act_and_collect(self, nursery: trio.Nursery, act: Callable[[], Awaitable[None]]) -> str:
        """Return why the run is invalid, or an empty text."""
        invalid, stop = "", trio.Event()
        nursery.start_soon(stopping.watch_signals, stop, self.plan.progress.say)
        try:
            with trio.CancelScope() as acting:
                nursery.start_soon(stopping.cancel_after, stop, acting)
                await act()
        except* WorkerError as errors:  # perhaps in an exception group, from a nursery in `act`
            self._lost_worker = str(stopping.first(errors))
        except* InvalidRunError as errors:
            invalid = str(stopping.first(errors))
        self.stopped = acting.cancelled_caught
        self._sample()
        self._note_shares()
        self.totals = merge(await self._results(self._workers))
        if self._heard is None:  # else the timeline is about other operations
            self._recent.failed += self.totals.traffic.unanswered
            self._date_failures()
        return invalid

    async def _results(self, workers: Iterable[Worker]) -> list[Result]:
        found = []
        with trio.move_on_after(RESULT_SECONDS) as limit:
            for worker in workers:
                try:
                    found.append(await worker.send_result())
                except WorkerError as error:
                    self._lost_worker = str(error)
        if limit.cancelled_caught:
            self._lost_worker = "the generator's own processes do not answer"
        return found

    async def _watch(self) -> None:
        next_sample = now() + SAMPLE_SECONDS
        while True:
            await trio.sleep(LOOK_SECONDS)
            is_due = now() >= next_sample
            next_sample += SAMPLE_SECONDS * is_due
            sample = self._sample() if is_due else self._look()
            self.plan.progress.tick(sample, self.failed)

    @property
    def failed(self) -> int:
        return sum(sample.failed for sample in self.timeline) + len(self._recent.failed)

    def _look(self) -> Sample:
        """The state of the run, with the operations since the last entry of the timeline."""
        for worker in self._heard or self._workers:
            self._recent.merge(worker.recent.take())
        self._date_failures()
        spread, held, ended, refused = self._recent.latency.spread(), Counter[str](), Counter[str](), Counter[str]()
        for group in self.groups():  # several may have the same persona
            held[group.persona] += group.held
            ended[group.persona] += sum(group.ended.values())
            refused[group.persona] += sum(group.refused.values())
        return Sample(
            seconds=self.started.seconds,
            phase=self.phase,
            held=held,
            ended=ended,
            refused=refused,
            succeeded=spread.count,
            failed=len(self._recent.failed),
            p50_ms=spread.p50_ms,
            p99_ms=spread.p99_ms,
            max_ms=spread.max_ms,
        )

    def _date_failures(self) -> None:
        """Count each failure in the entry in which its operation was due: it may be known a timeout later."""
        failed, self._recent.failed = self._recent.failed, []
        for due in failed:
            at = bisect_left(self.timeline, self.started.until(due), key=lambda entry: entry.seconds)
            if at == len(self.timeline):
                self._recent.failed.append(due)
            else:
                entry = self.timeline[at]
                self.timeline[at] = msgspec.structs.replace(entry, failed=entry.failed + 1)

    def _sample(self) -> Sample:
        sample, server = self._look(), self.plan.server
        self._recent = Recent()
        if server is not None:
            sample = msgspec.structs.replace(
                sample,
                server_rss_bytes=server.resident_bytes(),
                server_descriptors=server.descriptors(),
                server_cpu_percent=self._cpu_percent(server),
            )
        self.timeline.append(sample)
        return sample

    def _cpu_percent(self, server: Process) -> float | None:
        spent, moment = server.cpu_seconds(), now()
        before, self._cpu = self._cpu, None if spent is None else (spent, moment)
        if before is None or self._cpu is None:
            return None
        return per(100 * (self._cpu[0] - before[0]), self._cpu[1] - before[1])

    # What the generator itself cost

    def _note_shares(self) -> None:
        """Record how our processes spent their time, while all of them are still alive."""
        for figure, what in (("own_cpu_percent", "running"), ("own_cpu_wait_percent", "waiting")):
            shares = [self._share(worker.watched, what) for worker in self._heard or self._workers]
            self.spent[figure] = max((share for share in shares if share is not None), default=None)

    def _share(self, process: Process, what: str) -> float | None:
        (since, before), after = self._shares[process], process.share()
        if before is None or after is None:
            return None
        return per(100 * (getattr(after, what) - getattr(before, what)), now() - since)

    def faults(self) -> list[str]:
        """What the generator or its machine failed at, as reasons for an invalid run."""
        limits = self.totals.own_faults.items()
        met = [f"{what}: a limit here, for {number:,} connections" for what, number in limits]
        return [self._lost_worker, *met] if self._lost_worker else met
