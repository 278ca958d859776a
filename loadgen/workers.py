"""The conductor's end of its workers: child processes that are told what to play.

Owns: starting and ending them, the pipes, and merging what several tell. May not: know what a scenario is.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
import trio

from loadgen.endpoint import Endpoint
from loadgen.experiment import Group
from loadgen.latency import Latency
from loadgen.messages import (
    COUNTS,
    REASONS,
    AnyAnswer,
    AnyOrder,
    Close,
    GroupStatus,
    Lifetimes,
    MakeClients,
    Open,
    PhaseResult,
    Reread,
    Result,
    Role,
    SendResult,
    StartTraffic,
    Status,
    TrafficResult,
)
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.target import PER_SOURCE
from loadgen.worker import lines

#: How long a worker may take to start, to answer, or to end. Generous: a machine under attack is slow.
ANSWER_SECONDS: Final = 60.0
LEAVE_SECONDS: Final = 10.0

_decoder: Final = msgspec.json.Decoder(AnyAnswer)


class Worker:
    """One child process."""

    def __init__(self, process: trio.Process) -> None:
        self.watched = Process(process.pid)
        self.status: Status | None = None
        self.latency = Latency()  # operations that ended since `take`
        self.failed = 0
        self.ended = False
        self._process = process
        self._sent = 0
        self._told = trio.Event()  # set, and made anew, at each word
        self._results: deque[Result] = deque()

    async def listen(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take in what it says, until it ends."""
        assert self._process.stdout is not None
        async for line in lines(self._process.stdout):
            word = _decoder.decode(line)
            if isinstance(word, Status):
                if self.status is None:
                    task_status.started()
                self.status = word
                if word.recent.latency is not None:
                    self.latency.add(word.recent.latency)
                self.failed += word.recent.failed
            else:
                self._results.append(word)
            self._wake()
        self.ended = True
        self._wake()
        if self.status is None:
            raise InvalidRunError("a process of the generator's own could not start; what it said is above")

    def _wake(self) -> None:
        self._told.set()
        self._told = trio.Event()

    async def order(self, order: AnyOrder) -> None:
        """Send an order; it is acted on after those before it."""
        assert self._process.stdin is not None
        self._sent += 1
        try:
            await self._process.stdin.send_all(msgspec.json.encode(order) + b"\n")
        except trio.BrokenResourceError:
            raise InvalidRunError(_DIED) from None

    async def introduce(self, role: Role) -> None:
        """Say who it is: the first line."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(msgspec.json.encode(role) + b"\n")

    @property
    def current(self) -> Status:
        """How it stands, and has heard every order."""
        if self.ended:
            raise InvalidRunError(_DIED)
        assert self.status is not None, "a worker is spawned when its first status has come"
        return self.status

    @property
    def up_to_date(self) -> bool:
        """Whether its status is from after our last order."""
        return self.current.heard >= self._sent

    async def send_result(self) -> Result:
        """Ask for everything."""
        await self.order(SendResult())
        with trio.move_on_after(ANSWER_SECONDS):
            while not self._results and not self.ended:
                await self._told.wait()
        if not self._results:
            raise InvalidRunError(_DIED if self.ended else "a process of the generator's own does not answer")
        return self._results.popleft()

    async def leave(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            await self._process.stdin.aclose()
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()


_DIED: Final = "a process of the generator's own died; what it said is above"


async def spawn(nursery: trio.Nursery, part: Literal["crowd", "victims"], role: Role) -> Worker:
    """Start a worker and wait for its first word."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "loadgen.worker", part], stdin=-1, stdout=-1
    )  # its complaints go where ours go
    worker = Worker(process)
    await worker.introduce(role)
    with trio.fail_after(ANSWER_SECONDS):
        await nursery.start(worker.listen)
    return worker


@dataclass(kw_only=True)
class Totals:
    """The results of several workers, merged."""

    groups: list[GroupStatus]
    lifetimes: dict[tuple[str, str], Latency]  # by group and persona
    connects: dict[str, Latency] = field(default_factory=dict)  # by group
    handshakes: dict[str, Latency] = field(default_factory=dict)
    acks: Latency = field(default_factory=Latency)
    echoes: Latency = field(default_factory=Latency)
    errors: Counter[str] = field(default_factory=Counter)
    unacknowledged: int = 0
    unreturned: int = 0
    unsent: int = 0
    acknowledged_in: Counter[str] = field(default_factory=Counter)  # by room
    listeners: dict[str, Counter[str]] = field(default_factory=dict)  # by persona and room
    phases: list[PhaseResult] = field(default_factory=list)
    lags: list[tuple[str, str, Latency]] = field(default_factory=list)  # role, phase and lateness of each process
    oldest: float | None = None
    reread: Reread | None = None
    own_faults: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Merge one more, groups apart."""
        for lifetimes in result.lifetimes:
            self._age(lifetimes)
        if result.traffic is not None:
            self._hear(result.traffic)
        self.phases += result.phases
        for persona, rooms in result.listeners.items():
            self.listeners.setdefault(persona, Counter()).update(rooms)
        for each in result.lags:
            lag = Latency()
            lag.add(each.lag)
            self.lags.append((result.role, each.phase, lag))
        self.reread = self.reread or result.reread
        self.own_faults.update(result.own_faults)
        self.oldest = max((age for age in (self.oldest, result.oldest) if age is not None), default=None)

    def lag(self, role: str, percentile: float, phases: Container[str]) -> float | None:
        """How late the latest process of a role was in the worst of these phases, in seconds."""
        found = (lag.at(percentile) for each, phase, lag in self.lags if each == role and phase in phases)
        return max((seconds for seconds in found if seconds is not None), default=None)

    def _age(self, lifetimes: Lifetimes) -> None:
        self.lifetimes.setdefault((lifetimes.group, lifetimes.persona), Latency()).add(lifetimes.ages)
        for found, recording in ((self.connects, lifetimes.connects), (self.handshakes, lifetimes.handshakes)):
            if recording is not None:
                found.setdefault(lifetimes.group, Latency()).add(recording)

    def _hear(self, traffic: TrafficResult) -> None:
        self.acks.add(traffic.acks)
        self.echoes.add(traffic.echoes)
        self.errors.update(traffic.errors)
        self.unacknowledged += traffic.unacknowledged
        self.unreturned += traffic.unreturned
        self.unsent += traffic.unsent
        self.acknowledged_in.update(traffic.acknowledged_in)

    def missed(self) -> int:
        """Messages that were acknowledged and that somebody in their room was not given."""
        delivered: Counter[str] = Counter()
        for group in self.groups:
            delivered[group.persona] += group.deliveries
        return sum(
            max(sum(number * self.acknowledged_in[room] for room, number in rooms.items()) - delivered[persona], 0)
            for persona, rooms in self.listeners.items()
        )


def merge(results: Iterable[Result]) -> Totals:
    """One result out of many."""
    results = list(results)
    totals = Totals(groups=merge_groups(result.groups for result in results), lifetimes={})
    for result in results:
        totals.add(result)
    return totals


def merge_groups(many: Iterable[Iterable[GroupStatus]]) -> list[GroupStatus]:
    """Add the same persona's parts in several processes; their peaks may not have been at one moment."""
    merged: dict[tuple[str, str], GroupStatus] = {}
    for group in (group for groups in many for group in groups):
        known = merged.get((group.group, group.persona))
        if known is None:
            merged[group.group, group.persona] = msgspec.structs.replace(group)
            continue
        for name in (*COUNTS, "starved"):
            setattr(known, name, getattr(known, name) + getattr(group, name))
        for name in REASONS:
            setattr(known, name, dict(Counter(getattr(known, name)) + Counter(getattr(group, name))))
    return list(merged.values())


def take_recent(workers: Iterable[Worker]) -> tuple[Latency, int]:
    """Operations of all these workers that ended since this was last asked, and how many failed."""
    latency, failed = Latency(), 0
    for worker in workers:
        latency.merge(worker.latency)
        failed += worker.failed
        worker.latency, worker.failed = Latency(), 0
    return latency, failed


class Workers:
    """The crowd, in however many processes."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._next_index = 0

    async def make(self, group: Group, endpoint: Endpoint) -> None:
        """Make a group's clients, spread evenly over the processes."""
        number = len(self.workers)
        for place, worker in enumerate(self.workers):
            # the remainder of one persona goes to other workers than that of the next
            share = {
                persona.name: count // number + ((place + offset) % number < count % number)
                for offset, (persona, count) in enumerate(group.counts.items())
            }
            await worker.order(
                MakeClients(
                    group=group.name,
                    counts={name: count for name, count in share.items() if count},
                    rooms=list(group.rooms),
                    poll_wait_seconds=group.poll_wait_seconds,
                    endpoint=endpoint,
                    first_index=self._next_index,
                )
            )
            # whole source addresses, so that no two processes share one
            self._next_index += -(-sum(share.values()) // PER_SOURCE) * PER_SOURCE

    async def open(self, group: str, share: float) -> None:
        """Open the group's clients up to this share of them."""
        for worker in self.workers:
            await worker.order(Open(group=group, share=share))

    async def speak(self, rate: float, *, text_bytes: int = 0, over_seconds: float = 0.0) -> None:
        """Set the schedule; each process has the share of the rate that it has of the speakers."""
        speakers = [worker.current.speakers for worker in self.workers]
        for worker, number in zip(self.workers, speakers, strict=True):
            if number:
                each = rate * number / sum(speakers)
                await worker.order(StartTraffic(rate=each, text_bytes=text_bytes, over_seconds=over_seconds))

    async def order(self, order: AnyOrder) -> None:
        """Give everybody the same order."""
        for worker in self.workers:
            await worker.order(order)

    async def close(self, group: str) -> None:
        """Close a group's clients for good."""
        await self.order(Close(group=group))

    @property
    def has_opened(self) -> bool:
        """Whether every client that was to be opened is held or has failed."""
        return all(worker.up_to_date and worker.current.has_opened for worker in self.workers)

    @property
    def quiet(self) -> bool:
        """Whether every message that was sent is accounted for."""
        return all(worker.up_to_date and not worker.current.outstanding for worker in self.workers)

    def groups(self) -> list[GroupStatus]:
        """How all groups stand."""
        return merge_groups(worker.current.groups for worker in self.workers)

    def held(self, group: str) -> int:
        """Clients of a group established now."""
        return sum(each.held for worker in self.workers for each in worker.current.groups if each.group == group)

    @property
    def last_held(self) -> float:
        """When a client last came to be held."""
        return max(worker.current.last_held for worker in self.workers)
