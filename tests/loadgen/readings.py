"""What a player stores and workers send, made up: for what is computed and judged without a run."""

from __future__ import annotations

from typing import Any

from loadgen.experiment import Experiment
from loadgen.latency import Late, Latency
from loadgen.measured import Floor, Measured
from loadgen.messages import GroupStatus, Result
from loadgen.procfs import Usage
from loadgen.session import Session
from loadgen.span import Reading, Span
from tests.loadgen.plays import plan

#: Nothing listens there.
NOBODY = "http://127.0.0.1:9"


def lasted(*millis: float) -> Latency:
    latency = Latency()
    for each in millis:
        latency.record(each / 1000)
    return latency


def read(moment: float, *, memory: int = 0, cpu: float = 0.0, held: int = 0, **more: Any) -> Reading:
    counted = ("own_bytes", "crowd_cpu_seconds", "deliveries", "sent_bytes", "received_bytes")
    usual: dict[str, Any] = {"server": Usage(memory, cpu)} | dict.fromkeys(counted, 0)
    return Reading(moment=moment, held=held, **(usual | more))


def measured(what: Experiment, totals: Result, *spans: Span, floor: Floor | None = None) -> Measured:
    planned = plan(NOBODY)
    session = Session(planned)
    session.totals = totals
    found = Measured(planned, session, what, floor)
    found.spans += spans
    return found


def group(persona: str, name: str, **counts: Any) -> GroupStatus:
    return GroupStatus(persona=persona, group=name, **({"wanted": 10} | counts))


def late(*millis: float) -> Late:
    return Late(lasted(*millis), Latency(), lasted(3.0))
