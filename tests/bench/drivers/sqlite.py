"""SQLite by the blocking driver in threads under trio, and by aiosqlite on asyncio: two connections read, one writes.

The same statements; each write is a commit that survives loss of power.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

import trio

from chatserver.log.threads import ThreadPool
from tests.bench.drivers.idle import Idle
from tests.bench.drivers.load import Plan, by_asyncio, by_trio, measure
from tests.bench.drivers.statements import ALL, WRITE, Statements, tables

READERS = 2
_MARKED = {statement: statement.replace("%s", "?") for statement in ALL}


def fill(path: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = WAL;" + tables("INTEGER"))
    connection.close()


class _Threads(Statements):
    def __init__(self, path: str) -> None:
        super().__init__(by_trio)
        self._readers, self._writer = ThreadPool(READERS), ThreadPool(1)
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(READERS):
            self._idle.put(_connected(path))
        self._writing = _connected(path)

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        if statement is WRITE:
            work = partial(_fetched, self._writing, statement, values)
            return await self._writer.run(work)
        return await self._readers.run(partial(self._rows, statement, values))

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        connection = self._idle.get()  # there are as many as threads
        try:
            return _fetched(connection, statement, values)
        finally:
            self._idle.put(connection)


def _fetched(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> list[Any]:
    return connection.execute(_MARKED[statement], values).fetchall()


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


class _Aiosqlite(Statements):
    def __init__(self, readers: list[Any], writer: Any) -> None:
        super().__init__(by_asyncio)
        self._idle = Idle(readers)
        self._writing = writer

    async def rows(self, statement: str, *values: object) -> list[Any]:
        if statement is WRITE:
            return list(await self._writing.execute_fetchall(_MARKED[statement], values))
        connection = await self._idle.take()
        try:
            return list(await connection.execute_fetchall(_MARKED[statement], values))
        finally:
            self._idle.give(connection)


async def _by_threads(path: str, plan: Plan) -> None:
    await measure(_Threads(path).operations, by_trio, plan)


async def _by_aiosqlite(path: str, plan: Plan) -> None:
    import aiosqlite

    connections = [await aiosqlite.connect(path, isolation_level=None) for _ in range(READERS + 1)]
    for connection in connections:
        await connection.execute("PRAGMA synchronous = FULL")
    await measure(_Aiosqlite(connections[:-1], connections[-1]).operations, by_asyncio, plan)
    for connection in connections:
        await connection.close()


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "sqlite3 in threads": lambda path, plan: trio.run(_by_threads, path, plan),
    "aiosqlite": lambda path, plan: asyncio.run(_by_aiosqlite(path, plan)),
}
