"""Playing a fingerprint of a planted server, and reading its report."""

from __future__ import annotations

import dataclasses
from typing import Final

from loadgen.figures import Condition
from loadgen.fingerprint import Options, play
from loadgen.progress import Progress
from loadgen.report import Report
from tests.loadgen.fingerprint.planted import Server

#: Deadlines are found by virtual time; what is left is the prober's 50 ms between two looks at its own lateness.
SLACK: Final = 0.3

#: No reading at a rate: the kernel's own timers do not follow a clock that jumps (see test_reading).
OPTIONS: Final = Options(post_path="/post", poll_path="/poll?wait={wait}", read_rates=(0,), connections=0)


async def fingerprint(server: Server, *conditions: Condition, **changes: object) -> Report:
    return await play(server.target, dataclasses.replace(OPTIONS, **changes), Progress(), conditions)  # type: ignore[arg-type]


class Rows:
    """The table of probes by name, and the figures."""

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
    found = {figure: report.figures[figure] for figure in planted}
    wrong = {
        figure: f"found {value}, planted {planted[figure]}"
        for figure, value in found.items()
        if value is None or abs(value - planted[figure]) > SLACK
    }
    assert not wrong
