"""The tables of the log are read again after a hint; those of a shared log now and then without a hint as well."""

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
async def test_tables_are_read_at_once_after_a_hint_and_else_now_and_then(
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
    reloader.on_hints({"lobby": 1})
    await trio.sleep(RELOAD_PAUSE)
    assert loads.await_count == unasked, "a hint about a room reads no table"
    reloader.on_hints({hint: 1})
    await trio.sleep(RELOAD_PAUSE / 2)
    assert loads.await_count == unasked + 1
    for _ in range(10):
        reloader.on_hints({hint: 1})
    await trio.sleep(2.5 * RELOAD_PAUSE)
    assert loads.await_count == unasked + 2, "one read for all hints of a pause"
    assert not faults
