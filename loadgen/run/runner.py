"""The probe runner: the worker that runs the victims.

Owns: the victims and newcomers, in a process of their own, so that neither crowd nor live view adds to their latencies.
"""

from collections import Counter
from secrets import token_hex

import trio

from loadgen import protocols
from loadgen.clients.messages import Reread, Result, Role, Status
from loadgen.net.timers import now
from loadgen.protocols import history
from loadgen.run.experiment import Probes
from loadgen.victims.probe import Context, Probe, Schedule
from loadgen.victims.victim import ADDRESSES, Newcomers, Victim


class ProbeRunner:
    def __init__(self, role: Role) -> None:
        # not by the seed: two runs may have the same one, at the same time
        self._context = Context(role.target, f"v{token_hex(4)}", role.endpoint)
        self._probes: list[Probe] = []
        self._reread = Reread()
        self._made = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._context.clock.run)
            await self._made.wait()
            for probe in self._probes:
                nursery.start_soon(probe.run)

    # What the main process calls

    def make(self, asked: Probes, *, interval_seconds: float) -> None:
        """Make the victims, connect them, and start their schedules: an operation of each every interval."""
        context = self._context
        context.recorder.timeout_seconds = asked.timeout_seconds
        kinds = [protocols.VICTIMS[kind] for kind, number in asked.victims.items() for _ in range(number)]
        begun = now()
        for index, kind in enumerate(kinds):
            schedule = Schedule(begun + interval_seconds * index / len(kinds), interval_seconds)
            self._probes.append(kind(context, index, schedule))
        # of each kind, as new clients of one transport may be served alone
        coming = [protocols.VICTIMS[kind] for kind in sorted(asked.victims)] if asked.newcomers_per_s else []
        for number, kind in enumerate(coming):
            interval = len(coming) / asked.newcomers_per_s
            schedule = Schedule(begun + interval * number / len(coming), interval)
            self._probes.append(Newcomers(context, kind, schedule, len(kinds) + number * ADDRESSES))
        self._made.set()

    def begin(self, phase: str) -> None:
        self._context.recorder.begin(phase)
        self._context.clock.lag.begin(phase)

    def stop_newcomers(self) -> None:
        for probe in self._probes:
            if isinstance(probe, Newcomers):
                probe.stop()

    def stop(self) -> None:
        """Issue the operations that are due by now, and none afterwards."""
        for probe in self._probes:
            probe.stop()

    async def end(self, *, reread: bool) -> None:
        """Book every outstanding operation as failed; `reread` every acknowledged message, if the target keeps them."""
        for probe in self._probes:
            probe.fail_pending()
        if reread:
            victims = [probe for probe in self._probes if isinstance(probe, Victim) and probe.acknowledged]
            self._reread = await history.reread(self._context, victims)

    def _expected(self) -> Counter[tuple[str, str]]:
        """Count the operations that the schedules have, by phase and kind."""
        expected: Counter[tuple[str, str]] = Counter()
        ends = [begin for begin, _ in self._context.recorder.phases[1:]] + [now()]
        for (begin, phase), end in zip(self._context.recorder.phases, ends, strict=True):
            for probe in self._probes:
                expected[phase, probe.kind] += probe.schedule.count_between(begin, min(end, probe.stopped_at))
        return expected

    def status(self, calls: int) -> Status:
        return Status(
            calls=calls,
            outstanding=sum(len(probe.pending) for probe in self._probes),
            connected=len(self._context.connected),
            failures=self._context.failures,
            last_failure=self._context.last_failure,
            recent=self._context.recorder.recent.take(),
        )

    def result(self) -> Result:
        return Result(
            phases=self._context.recorder.results(self._expected()),
            reread=self._reread,
            lags=[("victims", phase, late) for phase, late in self._context.clock.lag.phases.items()],
            own_faults=dict(self._context.own_faults),
            sent_again=len(self._context.sent_again),
        )
