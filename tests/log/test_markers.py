"""Read markers: one suite for all engines."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from unittest.mock import Mock

import pytest
import trio
from msgspec.structs import replace

from chatserver import fair
from chatserver.log import database_markers, memory, sqlite_markers
from chatserver.log import markers as markers_module
from chatserver.log.database import DatabaseLog
from chatserver.log.database_markers import Counts, count_spans
from chatserver.log.interface import Draft, Kind, Log
from chatserver.log.markers import Marker, Span, Unread
from chatserver.log.memory import MemoryLog
from chatserver.log.sqlite_rows import SqliteTables
from tests.log.support import Clock, draft, fill, running, steps_of
from tests.support.groups import append
from tests.support.steps import StepCounts


async def moved(log: Log, user: str = "u_ann", /, **places: int) -> None:
    await log.markers.move([Marker(user, room, offset) for room, offset in places.items()])


def limit(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    for name, value in limits.items():
        for module in (markers_module, database_markers, memory):
            monkeypatch.setattr(module, name, value, raising=False)


async def test_a_marker_is_of_one_user_in_one_room(log: Log) -> None:
    await fill(log, 5, "lobby")
    await fill(log, 3, "ops")
    await moved(log, lobby=2, ops=3)
    await moved(log, "u_bob", lobby=4)
    assert await log.markers.of_user("u_ann") == {"lobby": 2, "ops": 3}
    assert await log.markers.of_user("u_bob") == {"lobby": 4}
    assert await log.markers.of_user("u_eve") == {}


async def test_a_marker_never_moves_backwards_nor_beyond_the_last_message(log: Log) -> None:
    await fill(log, 5)
    for offset, expected in ((0, 0), (3, 3), (2, 3), (1 << 50, 5), (4, 5)):
        await moved(log, lobby=offset)
        assert await log.markers.of_user("u_ann") == {"lobby": expected}
    await log.markers.move([Marker("u_bob", "lobby", 4), Marker("u_bob", "lobby", 2)])
    assert await log.markers.of_user("u_bob") == {"lobby": 4}


async def test_a_room_never_written_has_none(log: Log) -> None:
    await fill(log, 1)
    await moved(log, nowhere=7, lobby=1)
    assert await log.markers.of_user("u_ann") == {"lobby": 1}
    assert await log.markers.unread("u_eve", {"nowhere": 7, "lobby": 0}) == {"lobby": Unread(0, 1, 0)}


async def test_unread_is_counted_by_offsets_despite_retention(log: Log, clock: Clock) -> None:
    await fill(log, 9, "lobby")
    await fill(log, 4, "ops")
    await fill(log, 2, "den")
    places = {"lobby": 2, "ops": 4, "den": 99}
    expected = {"lobby": Unread(2, 7, 0), "ops": Unread(4, 0, 0), "den": Unread(2, 0, 0)}
    assert await log.markers.unread("u_eve", places) == expected
    await log.retain(lambda _: (3, 0))
    assert await log.markers.unread("u_eve", places) == expected
    clock.ms += 99
    await log.retain(lambda _: (0, 1))
    assert (await log.head("lobby")).first == 10
    assert await log.markers.unread("u_eve", places) == expected
    assert await log.markers.unread("u_eve", {}) == {}


async def test_unread_are_existing_messages_of_others(log: Log) -> None:
    bob = draft("hello", user="u_bob")
    await append(log, bob)
    await append(log, draft("mine", user="u_ann"))
    await append(log, replace(bob, mentions=("u_eve", "u_ann")))
    await append(log, replace(bob, kind=Kind.EDIT, target=1, window_ms=1000))
    await append(log, Draft("lobby", "u_ann", "Ann", "", kind=Kind.REACTION, target=1, emoji="👍"))
    await append(log, replace(bob, mentions=("u_ann",)))
    await append(log, replace(bob, kind=Kind.DELETE, target=6, window_ms=1000, text=""))
    await append(log, draft("more", room="ops", user="u_bob"))
    places = {"lobby": 0, "ops": 0}
    for user, lobby in (("u_ann", Unread(0, 2, 1)), ("u_bob", Unread(0, 1, 0)), ("u_eve", Unread(0, 3, 1))):
        ops = Unread(0, user != "u_bob", 0)
        assert await log.markers.unread(user, places) == {"lobby": lobby, "ops": ops}, user
    assert await log.markers.unread("u_ann", {"lobby": 2}) == {"lobby": Unread(2, 1, 1)}
    assert await log.markers.unread("u_ann", {"lobby": 3}) == {"lobby": Unread(3, 0, 0)}


async def test_a_mention_of_any_id(log: Log) -> None:
    for number, user in enumerate(('"', 'u","deleted":true', '"],"state":{"deleted":true}', "u_%", "\\", "u_é")):
        room = f"room-{number}"
        await append(log, replace(draft(room=room, user="u_bob"), mentions=(user,)))
        await append(log, replace(draft(room=room, user="u_bob"), mentions=("u_a" + user,)))
        assert await log.markers.unread(user, {room: 0}) == {room: Unread(0, 2, 1)}, user


async def test_records_beyond_the_bound_count_by_offsets(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, MAX_COUNTED=7, MAX_UNREAD_COUNT=4)
    for room in ("a", "b", "c"):
        await append(log, draft(room=room, user="u_bob"))
        for number in range(4):
            emoji = Draft(room, "u_bob", "Bob", "", kind=Kind.REACTION, target=1, emoji="👍", on=number % 2 == 0)
            await append(log, emoji)
    found = await log.markers.unread("u_ann", {"a": 0, "b": 2, "c": 2})
    assert found == {"a": Unread(0, 1, 0), "b": Unread(2, 0, 0), "c": Unread(2, 3, 0)}
    found = await log.markers.unread("u_ann", {"c": 2, "b": 2, "a": 0})
    assert found == {"a": Unread(0, 4, 0), "b": Unread(2, 0, 0), "c": Unread(2, 0, 0)}, "the rooms asked first"
    await log.retain(lambda _: (1, 0))
    assert await log.markers.unread("u_ann", {"a": 1}) == {"a": Unread(1, 3, 0)}


def test_counting_ends_after_its_time() -> None:
    """Records with 20 mentions take ten times as long as records without."""
    wanted = [Span(f"room-{number}", 0, 0, 1, 400) for number in range(50)] + [Span("empty", 7, 7, 8, 7)]
    now, asked = 0.0, []

    def count(step: Sequence[Span]) -> list[Counts]:
        nonlocal now
        now += database_markers.COUNT_BUDGET / 3
        asked.append(sum(span.high - span.low + 1 for span in step))
        return [(span.room, 5, 1) for span in step[1:]]

    found = count_spans(wanted, count, lambda: now)
    assert asked == [1_200] * 3
    counted = [Unread(0, 0, 0), Unread(0, 5, 1), Unread(0, 5, 1)] * 3
    assert list(found.values()) == [*counted, *[Unread(0, 400, 0)] * 41, Unread(7, 7, 0)]


async def test_records_not_counted_in_time_count_by_offsets(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(log, MemoryLog):
        return  # this engine has no reading thread
    monkeypatch.setattr(database_markers, "COUNT_BUDGET", 0)
    await append(log, replace(draft(user="u_bob"), mentions=("u_ann",)))
    await append(log, draft(user="u_ann"))
    assert await log.markers.unread("u_ann", {"lobby": 0}) == {"lobby": Unread(0, 2, 0)}


async def test_the_log_in_memory_counts_a_few_rooms_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(MemoryLog()) as log:
        names = [f"r{number}" for number in range(60)]
        for name in names:
            await append(log, draft(room=name))
        monkeypatch.setattr(fair, "STEP", 0)
        with StepCounts() as steps:
            monkeypatch.setattr(memory, "_is_unread", steps.counted(memory._is_unread))
            found = await log.markers.unread("u_eve", dict.fromkeys(names, 0))
    assert found == dict.fromkeys(names, Unread(0, 1, 0))
    assert (max(steps.counts), sum(steps.counts)) == (1, 60)


async def test_the_markers_of_a_user_are_limited(log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, MAX_MARKED_ROOMS=3, COUNT_ONE_IN=1)
    for name in "abcde":
        await fill(log, 2, name)
    await moved(log, "u_bob", a=1)
    for room, offset in (("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 1), ("d", 1)):  # the second of b moves nothing
        clock.ms += 1
        await moved(log, **{room: offset})
    assert await log.markers.of_user("u_ann") == {"a": 2, "c": 1, "d": 1}, "the oldest marker is removed"
    assert await log.markers.of_user("u_bob") == {"a": 1}


async def test_markers_over_the_limit_are_not_shown(log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, MAX_MARKED_ROOMS=3, COUNT_ONE_IN=1 << 60)
    for name in "abcde":
        await fill(log, 1, name)
        clock.ms += 1
        await moved(log, **{name: 1})
    assert await log.markers.of_user("u_ann") == {"c": 1, "d": 1, "e": 1}


def test_a_group_of_markers_does_not_read_all_of_its_users(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_markers, "randrange", lambda _: 0)
    monkeypatch.setattr(database_markers, "MAX_MARKED_ROOMS", 50)
    connection.execute("INSERT INTO rooms (name) VALUES ('lobby')")
    connection.execute("BEGIN")
    rows = [(f"u_{user}", room, 1, room) for user in range(64) for room in range(2, 102)]
    connection.executemany("INSERT INTO markers (user_id, room, read, moved) VALUES (?, ?, ?, ?)", rows)
    moved = [Marker(f"u_{user}", "lobby", 0) for user in range(64)]

    def move() -> None:
        sqlite_markers.move(moved, 1, connection)
        database_markers._trim(moved, 0, SqliteTables(connection))

    assert steps_of(connection, move) < 12_000
    (left,) = connection.execute("SELECT count(*) FROM markers").fetchone()
    assert left == 64 * 100 - 2 * 50 + 62, "two of 64 users are cut to the limit"


async def test_the_markers_of_all_users_are_limited(log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, MAX_MARKERS=3, COUNT_EVERY=1)
    for name in "ab":
        await fill(log, 2, name)
    for user, *markers in (
        ("u_1", ("a", 1)),
        ("u_2", ("a", 1), ("b", 1)),
        ("u_1", ("a", 2)),
        ("u_3", ("a", 1), ("b", 1)),
        ("u_4", ("a", 1)),
    ):
        clock.ms += 1
        await log.markers.move([Marker(user, room, offset) for room, offset in markers])
    limit(monkeypatch, COUNT_EVERY=1 << 60)
    again = partial(moved, log, "u_4", a=1)  # moves nothing, but the first removes the marker over the limit
    async with trio.open_nursery() as nursery:  # both once removed it, and the next move all that were left
        nursery.start_soon(again)
        nursery.start_soon(again)
    await again()
    found = [await log.markers.of_user(user) for user in ("u_1", "u_2", "u_3", "u_4")]
    assert [len(rooms) for rooms in found] == [0, 0, 2, 1]


async def test_markers_over_the_limit_are_removed_by_few_moves(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL reads all of them to remove some: for each two that it removed, if each move was of one marker."""
    limit(monkeypatch, MAX_MARKERS=3, COUNT_EVERY=20)
    await fill(log, 1)
    users = [f"u_{number}" for number in range(20)]
    await log.markers.move([Marker(user, "lobby", 1) for user in users])
    await moved(log, users[0], lobby=1)
    assert sum([len(await log.markers.of_user(user)) for user in users]) == 3


async def test_markers_are_counted_now_and_then(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count reads all of them."""
    if not isinstance(log, DatabaseLog):
        return  # this engine knows their number
    limit(monkeypatch, COUNT_EVERY=3)
    await fill(log, 7)
    counted = Mock(wraps=log.ask_tables)
    monkeypatch.setattr(log, "ask_tables", counted)
    for offset in range(1, 8):
        await moved(log, lobby=offset)
    assert counted.call_count == 2


async def test_a_group_of_any_size(log: Log) -> None:
    for name in ("a", "b", "c"):
        await fill(log, 1, name)
    for count in (1, 2, 3, 500):
        users = [f"u_{count}_{number}" for number in range(count)]
        await log.markers.move([Marker(user, room, 1) for user in users for room in "abc"])
        assert await log.markers.of_user(users[-1]) == {"a": 1, "b": 1, "c": 1}
