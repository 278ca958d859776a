"""loadgen's workers are forked where a test is not about their start."""

import math
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from loadgen.report.schema import Report
from tests.loadgen import forked, reports


@pytest.fixture(autouse=True, scope="module")
def workers_start() -> Iterator[None]:
    """A module whose workers are started as the program starts them has a fixture of this name that does nothing."""
    with patch("loadgen.run.workers.start", forked.start):
        yield


@pytest.fixture(autouse=True, scope="module")
def the_dead_are_found_at_once() -> Iterator[None]:
    """No planted server refuses connections for a moment only."""
    with patch("loadgen.run.session.DEATH_TRY_SECONDS", 0.02):
        yield


@pytest.fixture(params=sorted(reports.KINDS))
def report(request: pytest.FixtureRequest) -> Report:
    """A report of each kind."""
    made: Report = reports.KINDS[request.param]()
    return made


@pytest.fixture
def lateness_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted is never answered: a generator that waited a second for a busy machine caused none of it.

    Nor did the machine, if it was as busy before.
    """
    monkeypatch.setattr("loadgen.run.findings._STOOD_STILL", math.inf)
    monkeypatch.setattr("loadgen.run.findings.NOTICED_MS", math.inf)
