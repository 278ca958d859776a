"""One server for all benches that tests run."""

from collections.abc import Iterator

import pytest

from tests.bench import curve
from tests.bench.processes import Process


@pytest.fixture(scope="package")
def server() -> Iterator[Process]:
    """It echoes, as the curve wants it; one is enough, since no figure is looked at."""
    [ours] = [each for each in curve.SUBJECTS if each.name == curve.OURS]
    with ours.start() as running:
        yield running
