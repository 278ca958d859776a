"""loadgen's workers are forked where a test is not about their start."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from loadgen.report.schema import Report
from loadgen.run.procfs import Ticks
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
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lateness of the generator, and no other programs, as a quiet machine has it: a busy one excuses timeouts."""
    monkeypatch.setattr("loadgen.clients.messages.Result.lag", lambda *_: 0.0)
    monkeypatch.setattr("loadgen.run.procfs.pressure", lambda: 0.0)
    monkeypatch.setattr("loadgen.run.procfs.ticks", lambda: Ticks(0, 0))
