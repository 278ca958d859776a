"""Fixtures of the client's tests: no identity from an earlier start, and a scripted server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.fake import FakeServer


@pytest.fixture(autouse=True)
def _nobody_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    async with server.running():
        yield server
