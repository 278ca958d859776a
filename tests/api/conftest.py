"""Fixtures of this folder: a server with default settings, a connection to it, and a chat client."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.peers import Address, Chatter, Peer, chatter, connect
from tests.support.serving import Serving, serving
from tests.support.tokens import secret_file


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


@pytest.fixture
def address(server: Serving) -> Address:
    return server.address


@pytest.fixture
def key(tmp_path: Path) -> str:
    """The path of a file with the secret that verifies tokens."""
    return secret_file(tmp_path)
