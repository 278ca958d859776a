"""Two Valkey servers, with long deadlines, and shards on one of them."""

from collections.abc import AsyncIterator

import pytest

from tests.shared.keeping import Keeping, keeping
from tests.support.postgres import cleared_database, postgres_server, postgres_tables
from tests.support.valkeys import Valkey, patient_shards, servers, url_of

__all__ = ["cleared_database", "patient_shards", "postgres_server", "postgres_tables", "servers"]


@pytest.fixture
async def it(servers: list[Valkey]) -> AsyncIterator[Keeping]:
    """Shards on one of the servers, connected."""
    async with keeping(url_of(servers[:1])) as it:
        await it.up()
        yield it
