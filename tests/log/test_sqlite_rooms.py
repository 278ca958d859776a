"""How SQLite's engine lists rooms: by their last write; the order is read from the file once."""

import sqlite3
from pathlib import Path

import pytest

from chatserver.log import connections as connections_module
from chatserver.log import sqlite_readers as readers_module
from chatserver.log.interface import Log, LogUnavailable, RoomSummary
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_writer import SqliteWriter
from tests.log.support import Clock, draft, fill, running
from tests.support.serving import eventually


async def write(log: Log, clock: Clock, rooms: str) -> None:
    for room in rooms:
        clock.ms += 1
        await fill(log, 1, room)


async def listed(log: Log, limit: int = 99) -> str:
    return "".join(summary.room for summary in await log.rooms(limit))


async def test_the_order_outlives_a_restart_and_goes_on(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "chat.db"), Clock()
    async with running(SqliteLog(path, wall_ms=clock)) as log:
        await write(log, clock, "abcdea")
    async with running(SqliteLog(path, wall_ms=clock)) as log:
        assert await listed(log) == "aedcb"
    async with running(SqliteLog(path, wall_ms=clock)) as log:
        await write(log, clock, "cfb")
        assert await listed(log, 2) == "bf"
        assert await listed(log) == "bfcaed"
        await write(log, clock, "e")
        assert await listed(log) == "ebfcad"
        assert await log.rooms(2) == [RoomSummary("e", 2, 2), RoomSummary("b", 2, 2)]


async def test_a_bounded_number_of_rooms_is_kept_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "MAX_READ", 4)
    path, clock = str(tmp_path / "chat.db"), Clock()
    for rooms, expected in (("abcdefg", "gfed"), ("ha", "ahgf"), ("", "ahgf")):
        async with running(SqliteLog(path, wall_ms=clock)) as log:
            await write(log, clock, rooms)
            assert await listed(log) == expected
            assert log._opened is not None
            assert len(log._opened.recent_rooms._written) <= 4


SLOW = """
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000000)
    SELECT name, 0 FROM rooms WHERE id < (SELECT max(n) FROM numbers) ORDER BY id DESC LIMIT ?
"""


async def test_the_order_is_read_once_even_if_it_takes_longer_than_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ten million rooms the query takes longer than ANSWER_DEADLINE."""
    path, clock = str(tmp_path / "chat.db"), Clock()
    async with running(SqliteLog(path, wall_ms=clock)) as log:
        await write(log, clock, "abc")
    async with running(SqliteLog(path, wall_ms=clock)) as log:
        monkeypatch.setattr(readers_module, "NEWEST_REUSE_FACTOR", 0)
        monkeypatch.setattr(readers_module, "_NEWEST", SLOW)
        with monkeypatch.context() as patch:
            patch.setattr(connections_module, "ANSWER_DEADLINE", 0.01)
            with pytest.raises(LogUnavailable, match="took longer than"):
                await log.rooms(9)
        assert log._opened is not None
        recent = log._opened.recent_rooms
        await eventually(lambda: recent._earlier is not None)
        monkeypatch.setattr(readers_module, "_NEWEST", "not asked again")
        assert await listed(log) == "cba"


def test_a_list_is_a_few_queries_however_many_rooms_it_has(connection: sqlite3.Connection) -> None:
    """After each query the thread waits for the interpreter lock."""
    SqliteWriter(connection, lambda: 1).commit([draft(room=f"room-{number}") for number in range(20)])
    connection.execute("DELETE FROM messages WHERE place IN (SELECT place FROM messages LIMIT 8)")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    found = readers_module.RecentRooms(shared=False)._list({"room-0": 2}, 10, connection)
    assert len(found) == 10, "the first requested room keeps nothing"
    assert len(statements) == 3
