"""A hub at work."""

from collections.abc import AsyncIterator

import pytest

from tests.support.chatting import Chatting, chatting


@pytest.fixture
async def it() -> AsyncIterator[Chatting]:
    async with chatting() as found:
        yield found
