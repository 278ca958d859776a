"""The tables of the log are read again after a hint; those of a shared log now and then without a hint as well."""

from unittest import mock

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from chatserver.chat.catch_up import READ_RETRY
from chatserver.chat.moderation import Moderation
from chatserver.chat.reloader import RELOAD_EVERY, RELOAD_PAUSE, Reloader
from chatserver.chat.signed_out import SignedOut
from chatserver.log.interface import SANCTIONS_CHANGED, SIGNOUTS_CHANGED, LogUnavailable
from chatserver.log.memory import MemoryLog
from chatserver.log.sanctions import Penalty, Sanction
from chatserver.log.signouts import SignOut

BAN = Sanction("lobby", Penalty.BAN, "u_ann", "", 0, "", "u_mod", "Mod", 0, id=1)
OUT = SignOut(7, guest=False, time=1000, until=1 << 50)


class Tables:
    """The tables of a log, and the reloader that reads them."""

    def __init__(self, *, shared: bool = False) -> None:
        log = MemoryLog()
        log.shared = shared
        self.loads = mock.AsyncMock(return_value=[BAN])
        log.sanctions.load = self.loads  # type: ignore[method-assign]
        self.sign_out_loads = mock.AsyncMock(return_value=([OUT], 5))  # its id
        log.signouts.load = self.sign_out_loads  # type: ignore[method-assign]
        self.applied = mock.Mock()
        self.moderation = Moderation(b"s" * 16, apply=self.applied)
        self.signed_out = SignedOut(end=self.applied)
        self.reloader = Reloader(log, self.moderation, self.signed_out)

    @property
    def are_known(self) -> bool:
        return 1 in self.moderation.in_force and not self.signed_out.holds(7)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("hint", [SANCTIONS_CHANGED, SIGNOUTS_CHANGED])
async def test_a_table_is_read_at_once_after_its_hint_and_both_now_and_then(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, hint: str, *, shared: bool
) -> None:
    """A guest who signs out in a loop had every other process read 50,000 sanctions again and again."""
    it = Tables(shared=shared)
    asked, other = it.loads, it.sign_out_loads
    if hint == SIGNOUTS_CHANGED:
        asked, other = other, asked
    nursery.start_soon(it.reloader.run)
    await trio.sleep(3.5 * RELOAD_EVERY)
    unasked = 3 if shared else 0
    assert (asked.await_count, other.await_count) == (unasked, unasked)
    it.reloader.on_hints({"lobby": 1})
    await trio.sleep(RELOAD_PAUSE)
    assert asked.await_count == unasked, "a hint about a room reads no table"
    it.reloader.on_hints({hint: 1})
    await trio.sleep(RELOAD_PAUSE / 2)
    assert asked.await_count == unasked + 1
    assert (1 in it.moderation.in_force) is (shared or hint == SANCTIONS_CHANGED)
    assert it.signed_out.holds(7) is not (shared or hint == SIGNOUTS_CHANGED)
    for _ in range(8):
        it.reloader.on_hints({hint: 1})
        await trio.sleep(RELOAD_PAUSE / 20)
    await trio.sleep(2.5 * RELOAD_PAUSE)
    assert asked.await_count == unasked + 2, "one read for all hints of a pause"
    assert other.await_count == unasked
    it.reloader.on_hints({SANCTIONS_CHANGED: 1, SIGNOUTS_CHANGED: 1})
    await trio.sleep(RELOAD_PAUSE / 2)
    assert other.await_count == unasked + 1
    assert it.are_known
    assert it.applied.call_count == 2, "a ban and a sign-out, once each"
    first, *later = (call.args[1] for call in it.sign_out_loads.await_args_list)
    assert (first, set(later) - {5}) == (0, set()), "only those after the last one read"


async def test_hints_of_one_table_delay_no_lost_hint_of_the_other(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A guest who signs out in a loop would else keep a ban whose hint was lost from the other processes."""
    it = Tables(shared=True)
    nursery.start_soon(it.reloader.run)
    for _ in range(65):
        await trio.sleep(RELOAD_EVERY / 20)
        it.reloader.on_hints({SIGNOUTS_CHANGED: 1})
    assert it.loads.await_count == 3


@pytest.mark.parametrize("shared", [True, False])
async def test_after_a_failure_the_tables_are_read_again_without_another_hint(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, *, shared: bool
) -> None:
    """The disk that stored a sanction late may fail at the read that its hint causes."""
    it = Tables(shared=shared)
    it.loads.side_effect = [LogUnavailable("the disk is full"), LogUnavailable("the disk is full"), [BAN]]
    nursery.start_soon(it.reloader.run)
    with capture_logs() as lines:
        it.reloader.on_hints({SANCTIONS_CHANGED: 1, SIGNOUTS_CHANGED: 1})
        await trio.sleep(0.9 * READ_RETRY)
        assert it.loads.await_count == 1, "not at once"
        await trio.sleep(1.6 * READ_RETRY)
        assert it.are_known
        it.loads.side_effect = [LogUnavailable("the disk is full"), [BAN]]
        it.reloader.on_hints({SANCTIONS_CHANGED: 1})
        await trio.sleep(2.5 * READ_RETRY)
        assert it.loads.await_count == 5
    assert [line["event"] for line in lines] == 2 * ["sanctions_not_reloaded"], "one until a read succeeds"


async def test_after_a_fault_the_tables_are_read_again_without_another_hint(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Else a ban of another process would have no effect here until the next one."""
    it = Tables()
    it.loads.side_effect = [ZeroDivisionError(), [BAN]]
    it.reloader.on_hints({SANCTIONS_CHANGED: 1, SIGNOUTS_CHANGED: 1})
    with pytest.raises(ZeroDivisionError):
        await it.reloader.run()  # the server runs it again
    nursery.start_soon(it.reloader.run)
    await trio.sleep(RELOAD_PAUSE / 2)
    assert it.are_known


async def test_at_the_start_no_connection_is_searched() -> None:
    it = Tables()
    await it.reloader.restore()
    assert (it.are_known, it.applied.call_count) == (True, 0)
