"""Publishes counted together with other processes. With real shards: tests/shared/test_cluster_parts.py."""

import trio
import trio.testing

from chatserver.api.services import WriteLimits
from chatserver.api.shared_rates import REPORT_INTERVAL, SharedRates
from chatserver.chat.principal import Principal
from chatserver.settings.fields import Settings
from chatserver.shared.shards import Shards
from chatserver.shared.valkey import ValkeyShard


async def test_while_its_shard_is_away_counts_are_dropped_and_the_rounds_go_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limits = WriteLimits(Settings())
    rates = SharedRates(limits, Shards([ValkeyShard("127.0.0.1", 1)], "chat"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rates.run)
        for _ in range(2):
            assert limits.take(Principal(1, "here")) == 0.0
            assert rates._users.spent
            await trio.sleep(2 * REPORT_INTERVAL)
            assert not rates._users.spent
        nursery.cancel_scope.cancel()
