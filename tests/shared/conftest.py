"""Two servers for all tests of a worker that leave them running."""

from collections.abc import Iterator

import pytest

from tests.support.valkeys import Valkey, valkeys


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Valkey]]:
    with valkeys(tmp_path_factory.mktemp("valkey"), 2) as started:
        yield started
