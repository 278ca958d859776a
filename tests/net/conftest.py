"""Fixtures of this folder: connections without a poller, with TLS and without."""

from collections.abc import Iterator

import pytest

from tests.net.sealed import KINDS, Either, Sealed, either, sealed
from tests.support.parked import Parked, parked


@pytest.fixture
def it() -> Iterator[Parked]:
    """Connections and a listener, without a running poller."""
    with parked(listen=True) as made:
        yield made


@pytest.fixture
def tls() -> Iterator[Sealed]:
    """Connections under TLS, without a poller."""
    with sealed() as made:
        yield made


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest) -> Iterator[Either]:
    """Connections with TLS, and without."""
    with either(request.param) as made:
        yield made
