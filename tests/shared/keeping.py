"""Shards that are kept connected, without a server around them."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from structlog.testing import capture_logs

from chatserver.shared import open_shards, valkey
from chatserver.shared.shards import Shards
from tests.support.serving import LogLine, eventually

#: Seconds for something that takes milliseconds, on a machine that is busy.
PATIENCE = 30.0


class Keeping:
    """Shards that are kept connected, with the received messages and the log lines."""

    def __init__(self, shards: Shards, logs: list[LogLine]) -> None:
        self.shards = shards
        self.heard: list[bytes] = []
        self._logs = logs

    @property
    def shard(self) -> valkey.ValkeyShard:
        [shard] = self.shards.all
        assert isinstance(shard, valkey.ValkeyShard)
        return shard

    async def up(self, count: int = 1) -> None:
        await eventually(lambda: self.shards.reachable == count)

    def events(self) -> list[str]:
        return [line["event"] for line in self._logs]

    def reasons(self) -> list[str]:
        return [line["reason"] for line in self._logs if line["event"] == "shard_lost"]


@asynccontextmanager
async def keeping(url: str, chat: str = "") -> AsyncIterator[Keeping]:
    with capture_logs() as logs, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            it = Keeping(open_shards(url, chat or secrets.token_hex(6)), logs)
            nursery.start_soon(it.shards.run, it.heard.append)
            yield it
            nursery.cancel_scope.cancel()
