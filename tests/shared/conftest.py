"""Two Valkey servers, with long deadlines, and shards on one of them."""

from collections.abc import AsyncIterator

import pytest

from chatserver.shared import valkey
from tests.shared.keeping import PATIENCE, Keeping, keeping
from tests.support.postgres import cleared_database, postgres_server, postgres_tables
from tests.support.valkeys import Valkey, servers, url_of

__all__ = ["cleared_database", "postgres_server", "postgres_tables", "servers"]


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
