"""Playing a fingerprint of a planted server, and reading its report."""

import dataclasses
from typing import Final

import pytest

from loadgen.fingerprint.play import Fingerprint, sampled
from loadgen.fingerprint.practice import Result
from loadgen.fingerprint.probes import PROBES
from loadgen.fingerprint.site import Options, Site
from loadgen.fingerprint.survey import survey
from loadgen.report.schema import Report
from loadgen.run.progress import Progress
from tests.loadgen.fingerprint.plant import Plant
from tests.loadgen.fingerprint.planted import Server, planted

#: The error of a deadline in virtual time: the 50 ms between two checks of the prober's own lateness.
SLACK: Final = 0.3

#: No reading at a rate: the kernel's own timers do not follow a clock that jumps (see test_reading).
OPTIONS: Final = Options(
    post_path="/post", poll_path="/poll?wait={wait}", read_path="/large", read_rates=(0,), connections=0
)


#: A server on which every limit is good practice.
GOOD: Final = Plant(
    head_total=10, body_total=12, keepalive=60, poll_max=30, linger=2, send_stall=20,
    max_head=16_384, max_fields=100, max_body=65_536, max_overhead=1_500, per_address=400,
    ping_every=25, pong_within=10, frame_total=15, message_total=20, close_within=3,
    max_message=16_384, max_fragments=64,
)  # fmt: skip


async def find(plant: Plant, figure: str, **changes: object) -> Result:
    [probe] = (each for each in PROBES if each.figure == figure)
    async with planted(plant) as server:
        site = Site(server.target, dataclasses.replace(OPTIONS, **changes))  # type: ignore[arg-type]
        await survey(site)
        site.begin()
        lack = site.lacks.get(probe.need)
        return Result(probe, lack or await sampled(site, probe))


async def fingerprint(server: Server, fields: tuple[str, ...] = (), **changes: object) -> Report:
    options = dataclasses.replace(OPTIONS, **changes)  # type: ignore[arg-type]
    return await Fingerprint(Site(server.target, options, fields), Progress()).play()


class Rows:
    def __init__(self, report: Report) -> None:
        self._rows = {row[0]: dict(zip(report.tables[0].columns, row, strict=True)) for row in report.tables[0].rows}
        self.report = report

    def names(self) -> set[str]:
        return set(self._rows)

    def found(self, name: str) -> str:
        return self._rows[name]["found"]

    def mark(self, name: str) -> str:
        return self._rows[name]["mark"]

    def how(self, name: str) -> str:
        return self._rows[name]["how it ended"]


def assert_near(report: Report, **planted: float) -> None:
    assert {figure: report.figures[figure] for figure in planted} == pytest.approx(planted, abs=SLACK)
