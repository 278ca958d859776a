"""Valkey by its blocking client in threads and by coredis, both under trio, over as many connections.

A room is a list of 1,000 texts and a hash with its end; the same commands in the same order from both. A write is as
durable as Valkey's defaults have it, so not at once.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import coredis
import trio
import valkey

from chatserver.log.threads import ThreadPool
from tests.bench.drivers.load import (
    MESSAGES,
    PAGE,
    POOL,
    ROOMS,
    TEXT,
    Plan,
    by_trio,
    check,
    measure,
    some_place,
    some_room,
)


def fill(url: str) -> None:
    """Make the rooms."""
    with valkey.Valkey.from_url(url) as client:
        for room in range(1, ROOMS + 1):
            client.rpush(f"room:{room}", *[TEXT] * MESSAGES)
            client.hset(f"end:{room}", "last", str(MESSAGES))
            client.hset("markers:u_ann", str(room), "7")


class _Commands(ABC):
    """A `Driver` made of three commands."""

    @abstractmethod
    async def range(self, name: str, low: int, high: int) -> Any:
        """LRANGE."""

    @abstractmethod
    async def field(self, name: str, field: str) -> Any:
        """HGET."""

    @abstractmethod
    async def push(self, name: str, text: str) -> Any:
        """RPUSH."""

    async def read(self, chance: random.Random) -> None:
        """See `Driver`."""
        await self._page(some_room(chance), some_place(chance))

    async def write(self, chance: random.Random) -> None:
        """See `Driver`."""
        await self.push(f"written:{some_room(chance)}", TEXT)

    async def pipeline(self, chance: random.Random) -> None:
        """See `Driver`."""
        room = some_room(chance)
        last = int(await self.field(f"end:{room}", "last"))
        await by_trio([partial(self._page, room, last - PAGE), partial(self._marker, room)])

    async def _page(self, room: int, after: int) -> None:
        check(len(await self.range(f"room:{room}", after, after + PAGE - 1)))

    async def _marker(self, room: int) -> None:
        check(int(await self.field("markers:u_ann", str(room))), 7)


class _Threads(_Commands):
    """The client's own pool gives each thread a connection."""

    def __init__(self, url: str) -> None:
        self._threads = ThreadPool(POOL)
        self._client = valkey.Valkey.from_url(url, max_connections=POOL)

    async def range(self, name: str, low: int, high: int) -> Any:
        return await self._threads.run(partial(self._client.lrange, name, low, high))

    async def field(self, name: str, field: str) -> Any:
        return await self._threads.run(partial(self._client.hget, name, field))

    async def push(self, name: str, text: str) -> Any:
        return await self._threads.run(partial(self._client.rpush, name, text))


class _Coredis(_Commands):
    def __init__(self, client: "coredis.Redis[bytes]") -> None:
        self._client = client

    async def range(self, name: str, low: int, high: int) -> Any:
        return await self._client.lrange(name, low, high)

    async def field(self, name: str, field: str) -> Any:
        return await self._client.hget(name, field)

    async def push(self, name: str, text: str) -> Any:
        return await self._client.rpush(name, [text])


async def _by_threads(url: str, plan: Plan) -> None:
    await measure(_Threads(url), by_trio, plan)


async def _by_coredis(url: str, plan: Plan) -> None:
    pool = coredis.ConnectionPool.from_url(url.replace("valkey:", "redis:"), max_connections=POOL)
    async with coredis.Redis(connection_pool=pool) as client:
        await measure(_Coredis(client), by_trio, plan)


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "valkey-py in threads": lambda url, plan: trio.run(_by_threads, url, plan),
    "coredis": lambda url, plan: trio.run(_by_coredis, url, plan),
}
