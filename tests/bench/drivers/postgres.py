"""PostgreSQL by psycopg in threads under trio, by psycopg's asynchronous connections, and by asyncpg, both on asyncio.

The same statements on the same tables over as many connections, each in autocommit; a free connection is waited for.
Rows are what each driver makes of them by default. asyncpg's own pool is not used, since it resets a connection in a
request of its own after each use.
"""

import asyncio
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from queue import SimpleQueue
from typing import Any, TypeVar

import psycopg
import trio

from chatserver.log.threads import ThreadPool
from tests.bench.drivers.load import (
    MESSAGES,
    PAGE,
    POOL,
    ROOMS,
    TEXT,
    Driver,
    Idle,
    Plan,
    by_asyncio,
    by_trio,
    check,
    measure,
)

READ = """
    SELECT number, time, user_id, user_name, text FROM messages
    WHERE room = %s AND number > %s ORDER BY number LIMIT %s
"""
LAST = "SELECT last FROM rooms WHERE id = %s"
MARKER = "SELECT read FROM markers WHERE user_id = %s AND room = %s"
WRITE = "INSERT INTO written (room, time, user_id, user_name, text) VALUES (%s, %s, %s, %s, %s)"


T = TypeVar("T")


class _Statements(Driver):
    """A driver with one method that asks a statement."""

    @abstractmethod
    async def rows(self, statement: str, *values: object) -> list[Any]:
        """The rows of an answer; none of a statement that writes."""

    async def page(self, room: int, after: int) -> int:
        return len(await self.rows(READ, room, after, PAGE))

    async def last(self, room: int) -> int:
        ((last,),) = await self.rows(LAST, room)
        return int(last)

    async def marker(self, room: int) -> int:
        ((read,),) = await self.rows(MARKER, "u_ann", room)
        return int(read)

    async def insert(self, room: int) -> None:
        check(len(await self.rows(WRITE, room, 1_795_000_000_000, "u_ann", "Ann", TEXT)), 0)


@contextmanager
def start() -> Iterator[str]:
    """With the settings of an installation, except for where it listens."""
    from tests.support.postgres import find_programs, private_server  # not in a driver's process

    import_module("asyncpg")
    if find_programs() is None:
        raise ImportError("PostgreSQL is not installed; on Debian: apt install postgresql")
    with private_server() as server:
        server.start(fsync="on", full_page_writes="on", autovacuum="on", shared_buffers="128MB")
        fill(server.url())
        yield server.url()


def fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_tables())
        connection.execute("VACUUM ANALYZE messages, rooms, markers")


def _tables() -> str:
    rooms = f"(WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {ROOMS}) SELECT id FROM n)"
    numbers = rooms.replace(f"id < {ROOMS}", f"id < {MESSAGES}")
    message = "time bigint NOT NULL, user_id text NOT NULL, user_name text NOT NULL, text text NOT NULL"
    return f"""
        CREATE TABLE rooms (id bigint PRIMARY KEY, last bigint NOT NULL);
        CREATE TABLE messages (room bigint, number bigint, {message}, PRIMARY KEY (room, number));
        CREATE TABLE markers (user_id text, room bigint, read bigint NOT NULL, PRIMARY KEY (user_id, room));
        CREATE TABLE written (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room bigint NOT NULL, {message});
        INSERT INTO rooms SELECT id, {MESSAGES} FROM {rooms} AS room;
        INSERT INTO markers SELECT 'u_ann', id, 7 FROM {rooms} AS room;
        INSERT INTO messages SELECT room.id, number.id, number.id, 'u_ann', 'Ann', '{TEXT}'
            FROM {rooms} AS room CROSS JOIN {numbers} AS number;
    """


class _Threads(_Statements):
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


class _Asynchronous(_Statements):
    def __init__(self, connections: list[T], ask: Callable[[T, str, Sequence[object]], Awaitable[list[Any]]]) -> None:
        super().__init__(by_asyncio)
        self._idle = Idle(connections)
        self._ask = ask

    async def rows(self, statement: str, *values: object) -> list[Any]:
        connection = await self._idle.take()
        try:
            return await self._ask(connection, statement, values)
        finally:
            self._idle.give(connection)


async def _ask_psycopg(connection: psycopg.AsyncConnection, statement: str, values: Sequence[object]) -> list[Any]:
    cursor = await connection.execute(statement, values)
    return await cursor.fetchall() if cursor.description else []


async def _ask_asyncpg(connection: Any, statement: str, values: Sequence[object]) -> list[Any]:
    return list(await connection.fetch(_numbered(statement), *values))


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
    await measure(_Asynchronous(connections, _ask_psycopg).operations, by_asyncio, plan)
    for connection in connections:
        await connection.close()


async def _by_asyncpg(url: str, plan: Plan) -> None:
    import asyncpg

    connections = [await asyncpg.connect(url) for _ in range(POOL)]
    await measure(_Asynchronous(connections, _ask_asyncpg).operations, by_asyncio, plan)
    for connection in connections:
        await connection.close()


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "psycopg in threads": lambda url, plan: trio.run(_by_threads, url, plan),
    "psycopg, asynchronous": lambda url, plan: asyncio.run(_by_psycopg(url, plan)),
    "asyncpg": lambda url, plan: asyncio.run(_by_asyncpg(url, plan)),
}
