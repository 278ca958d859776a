"""When the tables of a shared log are read again: after a hint, else seldom, and never without end."""

from unittest import mock

import pytest
import trio
import trio.testing

from chatserver.chat.moderation import Moderation
from chatserver.chat.reloader import RELOAD_EVERY, RELOAD_PAUSE, Reloader
from chatserver.chat.signed_out import SignedOut
from chatserver.log.interface import SANCTIONS_CHANGED, SIGNOUTS_CHANGED
from chatserver.log.memory import MemoryLog


@pytest.mark.parametrize("hint", [SANCTIONS_CHANGED, SIGNOUTS_CHANGED])
async def test_at_once_by_a_hint_and_else_from_time_to_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, hint: str
) -> None:
    log, faults = MemoryLog(), list[object]()
    loads = mock.AsyncMock(return_value=[])
    log.sanctions.load = loads  # type: ignore[method-assign]
    reloader = Reloader(log, Moderation(b"s" * 16), SignedOut(), faulted=faults.append)
    nursery.start_soon(reloader.run)
    await trio.sleep(3.5 * RELOAD_EVERY)
    assert loads.await_count == 3
    reloader.heard({"lobby": 1})
    await trio.sleep(RELOAD_PAUSE)
    assert loads.await_count == 3, "that is about a room"
    reloader.heard({hint: 1})
    await trio.sleep(RELOAD_PAUSE / 2)
    assert loads.await_count == 4
    for _ in range(10):
        reloader.heard({hint: 1})
    await trio.sleep(2.5 * RELOAD_PAUSE)
    assert loads.await_count == 5, "one read for all hints that came in a pause"
    assert not faults
