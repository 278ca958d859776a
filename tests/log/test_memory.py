"""The engine in memory: its size costs the loop and the garbage collector nothing."""

import gc
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import pytest
import trio

from chatserver import fair
from chatserver.log import memory as memory_module
from chatserver.log.index import Question
from chatserver.log.interface import EXPIRE_EVERY, KEY_LIFETIME_MS, MAX_READ, Log, Range
from chatserver.log.memory import RETAIN_STEP, MemoryLog
from tests.log.support import Clock, draft, fill, running, submit_all
from tests.log.test_records import react
from tests.support.groups import append

ROOMS = 2_000


def named(number: int) -> str:
    return f"room-{number}"


async def write(log: Log, rooms: int, times: int = 1, *, keyed: bool = False) -> None:
    for time in range(times):
        await submit_all(
            log,
            [draft(str(time), room=named(number), key=str(time) if keyed else None) for number in range(rooms)],
        )


async def turns_of_others(work: Callable[[], Awaitable[object]]) -> int:
    """The number of times that another task runs meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await work()
        nursery.cancel_scope.cancel()
    return turns


async def test_the_collector_has_nothing_to_visit() -> None:
    async with running(MemoryLog()) as log:
        await write(log, 1, 1, keyed=True)
        gc.collect()
        before = len(gc.get_objects())
        await write(log, ROOMS, 3, keyed=True)
        await log.retain(lambda _: (2, 0))
        gc.collect()
        dicts = gc.is_tracked({})  # since Python 3.14, also those of texts and numbers
        assert len(gc.get_objects()) - before < ROOMS * (0.1 + dicts)
        for kept in (log._rooms, log._emptied, log._keys, log._rooms[named(0)].records):
            assert gc.is_tracked(kept) == (dicts and isinstance(kept, dict))


async def test_retention_lets_others_run_between_rooms_and_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair, "STEP", 0)
    log = MemoryLog()
    retain = partial(log.retain, lambda _: (1, 0))
    async with running(log):
        await write(log, 50)
        assert await turns_of_others(retain) >= 49  # trio runs tasks in random order, so the last turn may be missed
        await fill(log, 5 * RETAIN_STEP)
        assert await turns_of_others(retain) >= 54
        assert (await log.head("lobby")).first == 5 * RETAIN_STEP


async def test_a_search_for_messages_lets_others_run_between_records_of_other_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A million reactions would hold up the loop for 0.1 s."""
    monkeypatch.setattr(fair, "STEP", 0)
    async with running(MemoryLog()) as log:
        await submit_all(log, [draft(), *(react(1, user=f"u_{number}") for number in range(50))])
        assert await turns_of_others(partial(log.index.find, Question(("hi",)))) >= 50
        assert await turns_of_others(partial(log.read, Range("lobby", 5, last=True, messages_only=True))) >= 50


async def test_records_of_other_kinds_are_not_looked_at_again_after_the_last_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To leave out 40,000 reactions took the loop 4 ms in one go."""

    async def count(work: Iterable[object]) -> int:
        return sum(1 for _ in work)

    monkeypatch.setattr(memory_module, "in_steps", count)
    async with running(MemoryLog()) as log:
        await submit_all(log, [draft(), *(react(1, user=f"u_{number}") for number in range(50))])
        [found] = await log.read(Range("lobby", 5, last=True, messages_only=True))
        assert found.offset == 1


async def test_an_emptied_room_takes_no_memory_for_what_it_had() -> None:
    clock = Clock()
    async with running(MemoryLog(wall_ms=clock)) as log:
        await fill(log, 1_000)
        clock.ms += 10
        await log.retain(lambda _: (0, 1))
        assert sys.getsizeof(log._emptied["lobby"].records) == sys.getsizeof({})
        assert (await log.head("lobby")).first == 1_001


async def test_keys_that_expire_together_are_not_removed_together() -> None:
    clock = Clock()
    log = MemoryLog(wall_ms=clock)
    many = 6 * EXPIRE_EVERY
    async with running(log):
        await write(log, many, keyed=True)
        clock.ms += KEY_LIFETIME_MS
        for expected in (many, many - EXPIRE_EVERY, many - 2 * EXPIRE_EVERY):
            assert abs(len(log._keys) - expected) <= EXPIRE_EVERY
            await submit_all(log, [draft(key=f"{expected} {number}") for number in range(EXPIRE_EVERY)])
        for step in range(10):
            await submit_all(log, [draft(key=f"{step} {number}", room="more") for number in range(EXPIRE_EVERY)])
        assert len(log._keys) <= 14 * EXPIRE_EVERY
        assert all(record.time == clock.ms for record in log._keys.values())


async def test_a_key_that_is_used_again_holds_back_no_other() -> None:
    """Expired keys are removed from the oldest use on, up to one that has not expired."""
    clock = Clock()
    async with running(MemoryLog(wall_ms=clock)) as log:
        await write(log, EXPIRE_EVERY - 10, keyed=True)
        clock.ms += KEY_LIFETIME_MS
        await write(log, 1, keyed=True)
        for count in (10, 1):
            await submit_all(log, [draft(key=f"{count} {number}") for number in range(count)])
        assert len(log._keys) == 1 + 10 + 1


async def test_a_search_looks_at_a_bounded_number_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_SCANNED", 10)
    monkeypatch.setattr(memory_module, "CANDIDATES", 3)
    async with running(MemoryLog()) as log:
        await submit_all(log, [draft("pear")] * 12 + [draft("apple")] * 5)
        answers, go_on = list[tuple[int, int | None]](), None
        while not answers or go_on is not None:
            found = await log.index.find(Question(("apple",), go_on=go_on))
            go_on = found.go_on
            answers.append((len(found.hits), go_on))
    assert answers == [(3, 3), (2, 13), (0, None)]


async def test_a_search_finds_messages_of_all_rooms() -> None:
    async with running(MemoryLog()) as log:
        await append(log, draft("apple"))
        await write(log, MAX_READ + 1)
        assert [hit.record.room for hit in (await log.index.find(Question(("apple",)))).hits] == ["lobby"]
