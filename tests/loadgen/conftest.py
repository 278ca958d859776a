"""loadgen's workers are forked where a test is not about their start."""

import math
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from tests.loadgen import forked


@pytest.fixture(autouse=True, scope="module")
def workers_start() -> Iterator[None]:
    """A module whose workers are started as the program starts them has a fixture of this name that does nothing."""
    with patch("loadgen.workers.start", forked.start):
        yield


@pytest.fixture
def lateness_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted is never answered: a generator that waited a second for a busy machine caused none of it."""
    monkeypatch.setattr("loadgen.findings._STOOD_STILL", math.inf)
