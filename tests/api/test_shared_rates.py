"""Publishes counted together with other processes. With real shards: tests/shared/test_cluster_parts.py."""

import pytest
import trio
import trio.testing

from chatserver.api.shared_rates import REPORT_INTERVAL, SharedWriteLimits
from chatserver.chat.principal import Principal
from chatserver.settings.fields import Settings
from chatserver.shared.shards import Shards
from chatserver.shared.valkey import ValkeyShard
from tests.support.steps import FEW, StepCounts, few_in_a_step


async def test_while_its_shard_is_away_counts_are_dropped_and_the_rounds_go_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limits = SharedWriteLimits(Settings(), Shards([ValkeyShard("127.0.0.1", 1)], "chat"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limits.run)
        for _ in range(2):
            allowed = [limits.take(Principal(1, "here")) for _ in range(1000)].count(0.0)
            assert limits._of_users.spent == {1: allowed}, "without what was refused"
            await trio.sleep(2 * REPORT_INTERVAL)
            assert not limits._of_users.spent
        nursery.cancel_scope.cancel()


async def test_the_counts_of_many_users_are_taken_in_steps(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand users who wrote within a second held up the loop for 7 ms."""
    few_in_a_step(monkeypatch)
    shards = Shards([ValkeyShard("127.0.0.1", 1)], "chat")
    limits = SharedWriteLimits(Settings(), shards)
    for number in range(40):
        limits.take(Principal(number, f"192.0.2.{number}"))
    with StepCounts() as steps:
        monkeypatch.setattr(shards, "index", steps.counted(shards.index))
        nursery.start_soon(limits.run)
        await trio.sleep(1.5 * REPORT_INTERVAL)
    assert (sum(steps.counts), max(steps.counts)) == (2 * 40, FEW)
    nursery.cancel_scope.cancel()
