"""Fixtures: a running hub, and two processes of one chat."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.chat.processes import SAID, Air, Process
from tests.support.chatting import Chatting, chatting


@pytest.fixture
async def it() -> AsyncIterator[Chatting]:
    async with chatting() as found:
        yield found


@pytest.fixture
async def shared() -> AsyncIterator[Chatting]:
    """The same on a log that other processes write to as well."""
    async with chatting(shared=True) as found:
        yield found


@pytest.fixture
def air() -> Air:
    return Air()


@pytest.fixture
async def pair(air: Air) -> AsyncIterator[tuple[Process, Process]]:
    async with air.process() as ours, air.process() as other:
        await trio.sleep(SAID)
        yield ours, other
