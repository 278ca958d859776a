"""Hypothesis as in tests/protocol: the same examples every time; HYPOTHESIS_EXAMPLES=5000 goes looking for others."""

from collections.abc import Iterator

import pytest

from tests.support import examples
from tests.support.door import Door

examples.load()


@pytest.fixture
def door() -> Iterator[Door]:
    """A listener without a poller, with room for a thousand."""
    made = Door()
    yield made
    made.close()
