"""When the tables of the log are read again: after a hint, those of a shared log also seldom without one."""

from unittest import mock

import pytest
import trio
import trio.testing

from chatserver.chat.moderation import Moderation
from chatserver.chat.reloader import RELOAD_EVERY, RELOAD_PAUSE, Reloader
from chatserver.chat.signed_out import SignedOut
from chatserver.log.interface import SANCTIONS_CHANGED, SIGNOUTS_CHANGED
from chatserver.log.memory import MemoryLog


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("hint", [SANCTIONS_CHANGED, SIGNOUTS_CHANGED])
async def test_at_once_by_a_hint_and_else_from_time_to_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, hint: str, *, shared: bool
) -> None:
    log, faults = MemoryLog(), list[object]()
    log.shared = shared
    loads = mock.AsyncMock(return_value=[])
    log.sanctions.load = loads  # type: ignore[method-assign]
    reloader = Reloader(log, Moderation(b"s" * 16), SignedOut(), faulted=faults.append)
    nursery.start_soon(reloader.run)
    await trio.sleep(3.5 * RELOAD_EVERY)
    unasked = 3 if shared else 0
    assert loads.await_count == unasked
    reloader.heard({"lobby": 1})
    await trio.sleep(RELOAD_PAUSE)
    assert loads.await_count == unasked, "that is about a room"
    reloader.heard({hint: 1})
    await trio.sleep(RELOAD_PAUSE / 2)
    assert loads.await_count == unasked + 1
    for _ in range(10):
        reloader.heard({hint: 1})
    await trio.sleep(2.5 * RELOAD_PAUSE)
    assert loads.await_count == unasked + 2, "one read for all hints that came in a pause"
    assert not faults
