"""PostgreSQL by psycopg in threads under trio, by psycopg's asynchronous connections, and by asyncpg, both on asyncio.

The same statements on the same tables over as many connections, each in autocommit; a free connection is waited for.
Rows are what each driver makes of them by default. asyncpg's own pool is not used, since it resets a connection in a
request of its own after each use.
"""

import asyncio
import re
from collections.abc import Callable
from functools import cache, partial
from queue import SimpleQueue
from typing import Any

import psycopg
import trio

from chatserver.log.threads import ThreadPool
from tests.bench.drivers.idle import Idle
from tests.bench.drivers.load import POOL, Plan, by_asyncio, by_trio, measure
from tests.bench.drivers.statements import Statements, tables


def fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(tables("bigint GENERATED ALWAYS AS IDENTITY"))
        connection.execute("VACUUM ANALYZE messages, rooms, markers")


class _Threads(Statements):
    def __init__(self, url: str) -> None:
        super().__init__(by_trio)
        self._threads = ThreadPool(POOL)
        self._idle: SimpleQueue[psycopg.Connection] = SimpleQueue()
        for _ in range(POOL):
            self._idle.put(psycopg.connect(url, autocommit=True))

    async def rows(self, statement: str, *values: object) -> list[Any]:
        return await self._threads.run(partial(self._rows, statement, values))

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        connection = self._idle.get()  # there are as many as threads
        try:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
        finally:
            self._idle.put(connection)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()


class _Psycopg(Statements):
    def __init__(self, connections: list[psycopg.AsyncConnection]) -> None:
        super().__init__(by_asyncio)
        self._idle = Idle(connections)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        connection = await self._idle.take()
        try:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []
        finally:
            self._idle.give(connection)


class _Asyncpg(Statements):
    def __init__(self, connections: list[Any]) -> None:
        super().__init__(by_asyncio)
        self._idle = Idle(connections)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        connection = await self._idle.take()
        try:
            return list(await connection.fetch(_numbered(statement), *values))
        finally:
            self._idle.give(connection)


@cache
def _numbered(statement: str) -> str:
    """With $1, $2 for its %s."""
    numbers = iter(range(1, 9))
    return re.sub("%s", lambda _: f"${next(numbers)}", statement)


async def _by_threads(url: str, plan: Plan) -> None:
    driver = _Threads(url)
    await measure(driver.operations, by_trio, plan)
    driver.close()


async def _by_psycopg(url: str, plan: Plan) -> None:
    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(POOL)]
    await measure(_Psycopg(connections).operations, by_asyncio, plan)
    for connection in connections:
        await connection.close()


async def _by_asyncpg(url: str, plan: Plan) -> None:
    import asyncpg

    connections = [await asyncpg.connect(url) for _ in range(POOL)]
    await measure(_Asyncpg(connections).operations, by_asyncio, plan)
    for connection in connections:
        await connection.close()


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "psycopg in threads": lambda url, plan: trio.run(_by_threads, url, plan),
    "psycopg, asynchronous": lambda url, plan: asyncio.run(_by_psycopg(url, plan)),
    "asyncpg": lambda url, plan: asyncio.run(_by_asyncpg(url, plan)),
}
