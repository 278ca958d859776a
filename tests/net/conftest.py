"""Hypothesis as in tests/protocol: the same examples every time; HYPOTHESIS_EXAMPLES=5000 goes looking for others."""

from collections.abc import Iterator

import pytest

from tests.support import examples
from tests.support.house import House
from tests.support.parked import Parked, parked

examples.load()


@pytest.fixture
def door() -> Iterator[Parked]:
    """A listener without a poller, with room for a thousand."""
    made = Parked(listen=True)
    yield made
    made.close()


@pytest.fixture
def it() -> Iterator[Parked]:
    """Connections without a poller."""
    with parked() as made:
        yield made


@pytest.fixture
def house() -> Iterator[House]:
    """Connections of several networks."""
    made = House()
    yield made
    made.close()
