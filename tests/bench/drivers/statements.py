"""The SQL that every driver of PostgreSQL and SQLite is given.

Owns: the statements, with `%s` for a value, as psycopg has it. May not: know a driver or an engine.
"""

from abc import abstractmethod
from typing import Any

from tests.bench.drivers.load import MESSAGES, PAGE, ROOMS, TEXT, Driver, check

READ = """
    SELECT number, time, user_id, user_name, text FROM messages
    WHERE room = %s AND number > %s ORDER BY number LIMIT %s
"""
LAST = "SELECT last FROM rooms WHERE id = %s"
MARKER = "SELECT read FROM markers WHERE user_id = %s AND room = %s"
WRITE = "INSERT INTO written (room, time, user_id, user_name, text) VALUES (%s, %s, %s, %s, %s)"
ALL = (READ, LAST, MARKER, WRITE)


class Statements(Driver):
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


def tables(key: str) -> str:
    """The tables and what they hold; `key` is the type of a number that the engine gives."""
    rooms = f"(WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {ROOMS}) SELECT id FROM n)"
    numbers = rooms.replace(f"id < {ROOMS}", f"id < {MESSAGES}")
    message = "time bigint NOT NULL, user_id text NOT NULL, user_name text NOT NULL, text text NOT NULL"
    return f"""
        CREATE TABLE rooms (id bigint PRIMARY KEY, last bigint NOT NULL);
        CREATE TABLE messages (room bigint, number bigint, {message}, PRIMARY KEY (room, number));
        CREATE TABLE markers (user_id text, room bigint, read bigint NOT NULL, PRIMARY KEY (user_id, room));
        CREATE TABLE written (id {key} PRIMARY KEY, room bigint NOT NULL, {message});
        INSERT INTO rooms SELECT id, {MESSAGES} FROM {rooms} AS room;
        INSERT INTO markers SELECT 'u_ann', id, 7 FROM {rooms} AS room;
        INSERT INTO messages SELECT room.id, number.id, number.id, 'u_ann', 'Ann', '{TEXT}'
            FROM {rooms} AS room CROSS JOIN {numbers} AS number;
    """
