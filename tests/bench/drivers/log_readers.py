"""Pages of the server's SQLite log: by its own reader threads under trio, and by aiosqlite under asyncio.

The same statement over as many connections, and the same records made of its result.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from chatserver.log.interface import Range, Record
from chatserver.log.rows import OFFSET_BITS, record_of
from chatserver.log.sqlite_file import connect_writer, create_private
from chatserver.log.sqlite_readers import READERS, _statement, open_readers, read
from chatserver.log.sqlite_rows import decode_records
from tests.bench.drivers.load import MESSAGES, PAGE, ROOMS, Idle, Plan, by_asyncio, by_trio, measure, some_page


def fill(path: Path) -> None:
    create_private(path)
    connection, _ = connect_writer(path)
    connection.execute("BEGIN")
    rooms = range(1, ROOMS + 1)
    connection.executemany("INSERT INTO rooms (id, name) VALUES (?, ?)", ((room, f"room-{room}") for room in rooms))
    connection.executemany(
        "INSERT INTO messages (place, time, user_id, user_name, text) VALUES (?, ?, 'u_ann', 'Ann', ?)",
        (
            ((room << OFFSET_BITS) + offset, offset, f"message {offset}: the quick brown fox jumps over the dog")
            for room in rooms
            for offset in range(1, MESSAGES + 1)
        ),
    )
    connection.execute("COMMIT")
    connection.close()


def _check(records: list[Record], after: int) -> None:
    if len(records) != PAGE or records[0].offset != after + 1:
        raise RuntimeError(f"another page than was asked for: {records[:1]}")


async def _by_threads(path: str, plan: Plan) -> None:
    readers = open_readers(Path(path))

    async def read_page(chance: random.Random) -> None:
        room, after = some_page(chance)
        query = partial(read, Range(f"room-{room}", PAGE, after, max_bytes=1 << 20))
        _check(await readers.ask(query), after)

    await measure({"read": read_page}, by_trio, plan)
    await readers.close()


async def _by_aiosqlite(path: str, plan: Plan) -> None:
    import aiosqlite

    statement = _statement(False, False)
    connections = [await aiosqlite.connect(path, isolation_level=None) for _ in range(READERS)]
    idle = Idle(connections)

    async def read(chance: random.Random) -> None:
        room, after = some_page(chance)
        connection = await idle.take()
        try:
            parameters = (after + 1, after + PAGE, f"room-{room}", PAGE)
            ((rows,),) = await connection.execute_fetchall(statement, parameters)
        finally:
            idle.give(connection)
        _check([record_of(f"room-{room}", *row) for row in decode_records(rows)], after)

    try:
        await measure({"read": read}, by_asyncio, plan)
    finally:  # its threads would keep the process alive
        for connection in connections:
            await connection.close()


SIDES: dict[str, Callable[[str, Plan], None]] = {
    "threads": lambda path, plan: trio.run(_by_threads, path, plan),
    "aiosqlite": lambda path, plan: asyncio.run(_by_aiosqlite(path, plan)),
}
