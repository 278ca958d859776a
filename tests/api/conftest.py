"""A server with its defaults, a connection to it, and a chatter on it: what most tests here begin with."""

from collections.abc import AsyncIterator

import pytest

from tests.support.peers import Chatter, Peer, chatter, connect
from tests.support.serving import Serving, serving


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    async with serving() as running:
        yield running


@pytest.fixture
async def peer(server: Serving) -> AsyncIterator[Peer]:
    async with connect(server.address) as connected:
        yield connected


@pytest.fixture
async def friend(server: Serving) -> AsyncIterator[Chatter]:
    async with chatter(server.address) as connected:
        yield connected
