"""What a player stores and workers send, made up: for what is computed and judged without a run."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from loadgen.clients.messages import GroupStatus, PhaseResult, Reread, Result, TrafficResult
from loadgen.personas import registry
from loadgen.report.latency import Late, Latency
from loadgen.report.schema import Outcome, Report, verdict
from loadgen.run import experiment
from loadgen.run.experiment import Counts, Experiment
from loadgen.run.measured import Measured
from loadgen.run.procfs import Usage
from loadgen.run.session import Session
from loadgen.run.span import Reading, Span
from tests.loadgen import reports
from tests.loadgen.plays import config, plan

#: Nothing listens there.
NOBODY = "http://127.0.0.1:9"

Change: TypeAlias = Callable[[Measured], None]


def lasted(*millis: float) -> Latency:
    latency = Latency()
    for each in millis:
        latency.record(each / 1000)
    return latency


def read(moment: float, *, memory: int = 0, cpu: float = 0.0, held: int = 0, **more: Any) -> Reading:
    counted = ("own_bytes", "crowd_cpu_seconds", "acknowledged", "deliveries", "sent_bytes", "received_bytes")
    usual: dict[str, Any] = {"server": Usage(memory, cpu)} | dict.fromkeys(counted, 0)
    return Reading(moment=moment, held=held, **(usual | more))


def measured(what: Experiment, totals: Result, *spans: Span, floor: Report | None = None) -> Measured:
    planned = plan(NOBODY)
    session = Session(planned)
    session.totals = totals
    found = Measured(planned, session, what, floor)
    found.spans += spans
    return found


def at_floor(fault: str = "", **figures: float) -> Report:
    """The report of the same attack at the floor."""
    report = reports.interrupted()
    report.verdict = verdict(Outcome.INVALID if fault else Outcome.HELD, [fault] if fault else [])
    report.figures = {**figures}
    return report


def group(persona: str, name: str, **counts: Any) -> GroupStatus:
    return GroupStatus(persona=persona, group=name, **({"wanted": 10} | counts))


def late(*millis: float) -> Late:
    return Late(lasted(*millis), Latency(), lasted(3.0))


def operations(
    phase: str, kind: str, *millis: float, failed: int = 0, how: str = "answered 500", outage: bool = False
) -> PhaseResult:
    reasons = {how: failed} if failed else {}
    due = len(millis)
    return PhaseResult(phase=phase, kind=kind, latency=lasted(*millis), failed=reasons, expected=due, outage=outage)


def attacked() -> Measured:
    """A sound server under attack: each victim is served in 1 ms before, in 2 ms meanwhile."""
    what = config({"slow-head": 100}, neighbours={"sleepy-tab": 2}, operation_timeout=5.0)
    attackers = group("slow-head", "attackers", wanted=100, came=100, opened=100, peak=100, sent_bytes=3000, due=100)
    totals = Result(
        groups=[attackers, group("sleepy-tab", "neighbours", peak=2)],
        phases=[
            operations("baseline", "ws", 1, 1), operations("attack", "ws", 2, 2), operations("recovery", "ws", 1),
            operations("attack", "new-ws", 2),
        ],
        reread=Reread(asked=5, lost=0),
        lags=[("victims", "attack", late(1.0)), ("crowd", "attack", late(1.0))],
    )  # fmt: skip
    spans = (
        Span("baseline", Counts.BASELINE, read(0.0), read(2.0, memory=2**20, cpu=0.1)),
        Span("attack", Counts.LOAD, read(2.0), read(12.0, memory=2**21, cpu=1.0)),
        Span("recovery", Counts.RECOVERY, read(12.0), read(14.0)),
    )
    found = measured(what, totals, *spans)
    found.standing.look([attackers], 10.0)
    return found


def loaded() -> Measured:
    """A sound server under honest load."""
    totals = Result(
        groups=[group("chat", "crowd", held=10)],
        traffic=TrafficResult(acks=lasted(1, 1), echoes=lasted(2, 2), acknowledged_in={"lobby": 2}),
        lags=[("crowd", "steady", late(1.0))],
    )
    steady = Span("steady", Counts.LOAD, read(0.0, held=10), read(10.0))
    load = experiment.honest_load({registry()["chat"]: 10}, rate=1, seconds=10)
    return measured(load, totals, steady)


def total(found: Measured, **changes: object) -> None:
    found.session.totals = msgspec.structs.replace(found.session.totals, **changes)


def more(*results: PhaseResult) -> Change:
    """Give these phases these results alone."""

    def change(found: Measured) -> None:
        kept = [each for each in found.session.totals.phases if all(each.phase != new.phase for new in results)]
        total(found, phases=[*kept, *results])

    return change


def traffic(found: Measured, **changes: object) -> None:
    total(found, traffic=msgspec.structs.replace(found.session.totals.traffic, **changes))
