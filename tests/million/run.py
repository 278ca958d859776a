"""The steps: open so many, let them come to rest, measure; until all are open or no more fit.

Owns: the order of a run, and when it ends. May not: print a result; progress goes to `Progress`.

What would fool it: lost connections (so the server's count and the clients' are compared at each step); CPU of a time
without pings (so pings are counted, and the last stretch is a whole ping interval); memory of a server that is not yet
at rest (so everything is read after the probes, too).
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from chatserver.net.states import State
from loadgen.net.target import find
from loadgen.report.schema import Sample
from loadgen.run import procfs
from loadgen.run.progress import Progress
from tests.bench.gauges import Address, held, metrics
from tests.bench.processes import Process, chatserver
from tests.million import needs
from tests.million.holder import room_name
from tests.million.holders import Holders
from tests.million.memory import Memory
from tests.million.needs import Plan
from tests.million.opening import Opening
from tests.million.probes import Beside, Everywhere, Probes

#: Seconds before anything is measured at a step, so that arrivals are announced and memory comes to rest.
REST = 5.0
#: Seconds between two checks whether the server's processes have ended.
LOOK = 0.1
#: Idling at least this many seconds is shown as a phase of its own.
LONG_IDLE = 30.0
#: Seconds for which the server's count may differ from the clients'.
COUNT_PATIENCE = 15.0
#: The server's ping interval: long, as Engine.IO's, since a program that holds a million may have to wait for CPU.
PONG_DEADLINE = 20.0
#: Seconds that processes of the server may take to end; then they are killed.
END_PATIENCE = 60.0
_CLOSES = re.compile(r'chatserver_closes_total\{reason="([^"]+)"\}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    room_size: int
    ping_interval: float
    idle_seconds: float  # for which nothing is done at a step but to idle
    beside_seconds: float
    margin: int
    most_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A stretch in which nothing happened but pings."""

    seconds: float
    server_cpu: float  # seconds
    clients_cpu: float
    pings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured at one step."""

    clients: int  # held, as the clients count
    server: int  # as the server counts, without those of the probes
    opened_a_second: float
    memory: Memory  # since before the first of them
    idle: Idle
    everywhere: Everywhere
    members: int  # of that room
    beside: Beside


@dataclass(slots=True)
class Outcome:
    plan: Plan
    options: Options
    empty: Memory | None = None  # of processes without connections
    empty_idle: Idle | None = None
    rows: list[Row] = field(default_factory=list)
    stopped: str = ""  # why fewer fit than were asked for
    interrupted: bool = False
    faults: list[str] = field(default_factory=list)  # connections that were lost, counts that differ
    closes: Counter[str] = field(default_factory=Counter)  # that the server has counted, by its own reason
    seconds: float = 0.0


def run(plan: Plan, options: Options, outcome: Outcome, progress: Progress) -> None:
    """Fill in the outcome, which is valid at any time."""
    began = time.monotonic()
    machine = Memory.read(0, ())
    progress.plan([("starting", plan.workers * needs.WORKER_SECONDS), ("opening", plan.seconds)])
    try:
        with Holders(plan.holders, plan.each) as holders:
            progress.phase("starting")
            with _server(plan, options) as server, Probes(server.address) as probes:
                steps = Steps(plan, options, server, holders, probes, progress, began)
                steps.run(outcome, machine)
                holders.leave()
    finally:
        outcome.seconds = time.monotonic() - began


def server_flags(plan: Plan, options: Options) -> list[str]:
    """What the server is started with."""
    flags = {"workers": plan.workers, "ping-interval": options.ping_interval, "pong-deadline": PONG_DEADLINE}
    return [word for name, value in flags.items() for word in (f"--{name}", f"{value:g}")]


@contextmanager
def _server(plan: Plan, options: Options) -> Iterator[Process]:
    """The server; its workers end with the block."""
    family: list[procfs.Process] = []
    try:
        with chatserver(*server_flags(plan, options)) as server:
            try:
                yield server
            finally:
                family += map(procfs.Process, procfs.Process(server.pid).tree())
    finally:
        end = time.monotonic() + END_PATIENCE
        while (alive := [process for process in family if process.is_alive()]) and time.monotonic() < end:
            time.sleep(LOOK)
        for process in alive:
            os.kill(process.pid, signal.SIGKILL)


class Steps:
    def __init__(
        self, plan: Plan, options: Options, server: Process, holders: Holders, probes: Probes, progress: Progress,
        began: float,
    ) -> None:  # fmt: skip
        self._plan = plan
        self._options = options
        self._server = server
        self._holders = holders
        self._probes = probes
        self._progress = progress
        self._began = began
        self._address: Address = server.address
        self._opening = Opening(
            holders, find("http://{}:{}".format(*server.address)), room_size=options.room_size, margin=options.margin,
            seconds=options.most_seconds, wait=probes.wait,
        )  # fmt: skip

    def run(self, outcome: Outcome, machine: Memory) -> None:
        self._probes.wait(min(REST, self._options.idle_seconds))
        before = self._memory()
        outcome.empty = before - machine
        outcome.empty_idle = self._idle(self._options.idle_seconds)
        self._progress.phase("opening")
        for number, step in enumerate(self._plan.steps):
            start, held = time.monotonic(), self._holders.status().held
            outcome.stopped = self._opening.up_to(step, self._tick)
            rate = (self._holders.status().held - held) / (time.monotonic() - start)
            is_last = bool(outcome.stopped) or step == self._plan.connections
            self._measure(outcome, number, rate, before, is_last=is_last)
            if is_last:
                return

    def _tick(self, held: int) -> None:
        seconds = time.monotonic() - self._began
        self._progress.tick(Sample(seconds=seconds, phase="", held={"idle": held}, ended={}, refused={}))

    def _measure(self, outcome: Outcome, number: int, rate: float, before: Memory, *, is_last: bool) -> None:
        options, holders = self._options, self._holders
        self._probes.wait(min(REST, options.idle_seconds))
        idle = self._idle(max(options.ping_interval, options.idle_seconds) if is_last else options.idle_seconds)
        held = holders.status().held
        members = min(options.room_size, held)
        everywhere = self._probes.tell_everywhere(holders, room_name(0, options.room_size), members, number)
        beside = self._probes.beside(options.beside_seconds)
        row = Row(
            clients=held, server=self._count(held), opened_a_second=rate, memory=self._memory() - before, idle=idle,
            everywhere=everywhere, members=members, beside=beside,
        )  # fmt: skip
        outcome.rows.append(row)
        outcome.faults = self._faults(row)
        outcome.closes = closes(metrics(self._address))
        self._progress.say(f"{held:,} held: {row.memory.taken / 2**30:.2f} GiB, {rate:,.0f} opened a second")

    def _faults(self, row: Row) -> list[str]:
        faults = [f"{count} connections: {why}" for why, count in self._holders.status().lost.items()]
        if row.server != row.clients:
            faults.append(f"the server counts {row.server:,} connections, the clients {row.clients:,}")
        if row.everywhere.heard != row.members:
            faults.append(f"a message to {row.members:,} members was heard by {row.everywhere.heard:,}")
        if row.beside.missing:
            faults.append(f"{row.beside.missing:,} deliveries in the busy room are missing")
        return faults

    def _count(self, expected: int) -> int:
        """The server's count, as soon as it agrees with the clients'; else its last one."""
        found = -1

        def agrees() -> bool:
            nonlocal found
            # Some are always waiting for the answer to a ping.
            found = round(held(self._address, State.OPEN, State.PINGED)) - self._probes.connections
            return found == expected

        self._probes.wait_until(agrees, COUNT_PATIENCE, every=1.0)
        return found

    def _memory(self) -> Memory:
        return Memory.read(self._server.pid, self._holders.pids)

    def _idle(self, seconds: float) -> Idle:
        start, pings = time.monotonic(), self._holders.status().pings
        server, clients = self._server.cpu(), self._clients_cpu()
        if seconds >= LONG_IDLE:
            self._progress.phase("idle")
        while (left := start + seconds - time.monotonic()) > 0:
            self._probes.wait(min(left, 1.0))
            self._tick(self._holders.status().held)
        return Idle(
            seconds=time.monotonic() - start, server_cpu=self._server.cpu() - server,
            clients_cpu=self._clients_cpu() - clients, pings=self._holders.status().pings - pings,
        )  # fmt: skip

    def _clients_cpu(self) -> float:
        return sum(procfs.Process(pid).cpu_seconds() or 0.0 for pid in self._holders.pids)


def closes(samples: Mapping[str, float]) -> Counter[str]:
    """Connections that the server has ended or refused, by reason."""
    found = ((_CLOSES.fullmatch(name), value) for name, value in samples.items())
    return Counter({match[1]: int(value) for match, value in found if match is not None and value})
