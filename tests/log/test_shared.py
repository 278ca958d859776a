"""Several processes on one log, a file or a database: offsets without holes, keys that hold everywhere, hints."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from chatserver.log.index import Question
from chatserver.log.interface import MAX_READ, Head, Kind, Log, LogError, Range, Stored
from chatserver.log.markers import Marker
from chatserver.log.postgres import PostgresLog
from tests.log.support import START_MS, Clock, Node, draft, fill, nodes, offsets, shared_log, submit_all
from tests.log.test_records import delete, edit, react
from tests.log.test_sanctions import ENTRY, sanction
from tests.log.test_signouts import sign_out
from tests.support.groups import append
from tests.support.serving import until

PROCESSES = 3
#: Makes the log of the process with this number.
Make = Callable[[int, Clock], Log]


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "sqlite":
        return lambda number, clock: shared_log(tmp_path, number, PROCESSES, clock=clock)
    url = request.getfixturevalue("postgres_tables")
    return lambda number, clock: PostgresLog(url, wall_ms=clock)


@asynccontextmanager
async def running_on(make: Make, *clocks: Clock) -> AsyncIterator[list[Node[Log]]]:
    async with nodes(make(number, clock) for number, clock in enumerate(clocks)) as made:
        yield made


@pytest.fixture
async def pair(make: Make, clock: Clock) -> AsyncIterator[list[Node[Log]]]:
    async with running_on(make, clock, clock) as made:
        yield made


async def test_concurrent_groups_and_keys(make: Make, clock: Clock) -> None:
    """Groups in several rooms, in opposite orders; each key is used in every process."""
    rooms = ["a", "b", "c", "d"]
    outcomes: list[Stored | LogError] = []

    async def publish(log: Log, number: int) -> None:
        order = rooms if number % 2 else rooms[::-1]
        for step in range(10):
            outcomes.extend(await submit_all(log, [draft(str(step), room=room, key=str(step)) for room in order * 3]))
            await submit_all(log, [draft(f"{step * 7 + n}", room="a", user=f"u_{number}") for n in range(7)])

    async with running_on(make, *[clock] * PROCESSES) as made:
        async with trio.open_nursery() as nursery:
            for number, node in enumerate(made):
                nursery.start_soon(publish, node.log, number)
        stored = [one for one in outcomes if isinstance(one, Stored)]
        fresh = {one.record for one in stored if one.fresh}
        assert (len(stored), len(fresh)) == (len(outcomes), 10 * len(rooms)), "each key once"
        assert {one.record for one in stored} == fresh
        for room in rooms:
            records = await made[0].log.read(Range(room, after=0, limit=MAX_READ))
            assert offsets(records) == list(range(1, len(records) + 1))
            assert await made[-1].log.head(room) == Head(1, len(records))
        for number in range(PROCESSES):
            records = await made[0].log.read(Range("a", after=0, limit=MAX_READ))
            said = [int(record.text) for record in records if record.user_id == f"u_{number}"]
            assert said == list(range(70)), "messages of each publisher are in order"


async def test_time_never_decreases_in_a_room_though_clocks_differ(make: Make) -> None:
    ahead, behind = Clock(), Clock()
    ahead.ms += 300_000
    async with running_on(make, ahead, behind) as made:
        times = [(await append(made[number % 2].log, draft())).record.time for number in range(4)]
    assert times == [ahead.ms] * 4


async def test_concurrent_edits_leave_one_text(pair: list[Node[Log]]) -> None:
    await append(pair[0].log, draft("0"))
    async with trio.open_nursery() as nursery:
        for number in range(1, 9):
            nursery.start_soon(append, pair[number % 2].log, edit(1, f"text {number}"))
    with_text = [record for record in await pair[0].log.read(Range("lobby", after=0, limit=20)) if record.text]
    assert [(record.kind, record.offset) for record in with_text] == [(Kind.MESSAGE, 1), (Kind.EDIT, 9)]
    assert with_text[0].text == with_text[1].text


async def test_concurrent_changes_of_the_other_tables(pair: list[Node[Log]]) -> None:
    """Each change is whole, none deadlocks, and ids ascend in the order in which they become visible."""
    first, second = (node.log for node in pair)
    for room in "ab":
        await fill(first, 5, room)

    async def busy(log: Log, rooms: str) -> None:
        for offset in range(1, 6):
            await log.sanctions.add(sanction(), ENTRY)
            await log.signouts.add(sign_out(7, time=START_MS + offset))
            await log.audit.add([replace(ENTRY, action="twice"), ENTRY])
            await log.markers.move([Marker(user, room, offset) for user in rooms for room in rooms])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(busy, first, "ab")
        nursery.start_soon(busy, second, "ba")
    assert len(await first.sanctions.load(START_MS)) == 1
    assert (await second.signouts.load(START_MS))[0] == [sign_out(7, time=START_MS + 5)]
    trail = await first.audit.read(after=0, limit=100)
    assert len(trail) == 30
    assert [trail[at + 1].id - each.id for at, each in enumerate(trail) if each.action == "twice"] == [1] * 10
    assert await second.markers.of_user("a") == {"a": 5, "b": 5}


async def test_rooms_are_listed_by_the_last_write_of_either(pair: list[Node[Log]], clock: Clock) -> None:
    for number, room in enumerate("abcdbaecd"):
        clock.ms += 5
        await append(pair[number % 2].log, draft(room=room))
    for node in pair:  # SQLite's list of other processes' rooms is cached for some ms
        await until(partial(node.log.rooms, 99), lambda found: [summary.room for summary in found] == [*"dceab"])


async def test_a_search_finds_messages_of_the_other_process(pair: list[Node[Log]]) -> None:
    for node, room in zip(pair, ("lobby", "ops"), strict=True):
        await append(node.log, draft("apple pie", room=room))
    for node in pair:
        search = partial(node.log.index.find, Question(("apple",)))
        await until(search, lambda found: {hit.record.room for hit in found.hits} == {"lobby", "ops"})


async def test_changes_are_hints_to_the_other_processes_only(pair: list[Node[Log]]) -> None:
    first, second = pair
    await submit_all(first.log, [draft(), draft(room="ops"), draft()])
    await second.until(lambda: second.heard == {"lobby": 2, "ops": 1})
    kept = await second.log.sanctions.add(sanction(), ENTRY)
    await first.until(lambda: "*sanctions" in first.heard)
    first.heard.clear()
    await second.log.sanctions.lift(kept.id, ENTRY)
    await first.until(lambda: "*sanctions" in first.heard)
    await first.log.signouts.add(sign_out(7))
    await second.until(lambda: "*signouts" in second.heard)
    await append(first.log, react(1))
    await append(first.log, draft(room="ops"))
    await second.until(lambda: second.heard.get("ops") == 2)
    assert "*texts" not in second.heard
    for change in (edit(1, "new"), delete(1)):
        await append(first.log, change)
        await second.until(lambda: "*texts" in second.heard)
        del second.heard["*texts"]
    assert (set(first.heard), set(second.heard)) == ({"*sanctions"}, {"lobby", "ops", "*signouts"})
