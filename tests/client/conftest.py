"""Fixtures of the client's tests: no identity from an earlier start, and a scripted server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.fake import FakeServer
from tests.client.scripted_session import Peer


@pytest.fixture(autouse=True)
def _nobody_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    async with server.running():
        yield server


@pytest.fixture
def newcomer() -> Peer:
    return Peer()


@pytest.fixture
def peer(newcomer: Peer) -> Peer:
    """A session that has read message 1."""
    newcomer.answer("joined", 1)
    return newcomer
