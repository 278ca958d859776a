"""loadgen's workers are forked where a test is not about their start."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from tests.loadgen import forked


@pytest.fixture(autouse=True, scope="module")
def workers_start() -> Iterator[None]:
    """A module whose workers are started as the program starts them has a fixture of this name that does nothing."""
    with patch("loadgen.workers.start", forked.start):
        yield
