"""Hypothesis as in tests/protocol, a clock that jumps at once since nobody here has a socket, and a hub at work."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import examples
from tests.support.chatting import Chatting, chatting

examples.load()


def run_at_once(
    test: Callable[[], Awaitable[Any]], *, clock: trio.abc.Clock | None, instruments: Sequence[trio.abc.Instrument]
) -> Any:
    """What pytest-trio calls in place of `trio.run`."""
    jumping = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(test, clock=clock or jumping, instruments=instruments)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In front of pytest-trio's own mark, which names `trio.run`."""
    for item in items:
        if Path(__file__).parent in item.path.parents and iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_at_once), append=False)


@pytest.fixture
async def it() -> AsyncIterator[Chatting]:
    async with chatting() as found:
        yield found
