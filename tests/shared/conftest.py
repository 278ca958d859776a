"""Fixtures: two Valkey servers for all tests of a worker that leave them running, with long deadlines."""

from collections.abc import AsyncIterator, Iterator

import pytest

from chatserver.shared import valkey
from tests.shared.keeping import PATIENCE, Keeping, keeping
from tests.support.valkeys import Valkey, url_of, valkeys


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Valkey]]:
    with valkeys(tmp_path_factory.mktemp("valkey"), 2) as started:
        yield started


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long deadlines, since a busy machine is slow; a test of a deadline sets its own."""
    for deadline in ("CONNECT_DEADLINE", "CALL_DEADLINE", "CHECK_DEADLINE"):
        monkeypatch.setattr(valkey, deadline, PATIENCE)


@pytest.fixture
async def it(servers: list[Valkey]) -> AsyncIterator[Keeping]:
    """Shards on one of the servers, connected."""
    async with keeping(url_of(servers[:1])) as it:
        await it.up()
        yield it
