"""Any sequence of calls, failures and restarts: each database gives the answers of the log in memory.

The rules themselves: test_conformance.py and test_records.py.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chatserver.log import groups as groups_module
from chatserver.log import interface as interface_module
from chatserver.log import memory as memory_module
from chatserver.log import postgres_writer as postgres_writer_module
from chatserver.log import retention as retention_module
from chatserver.log import sqlite_readers as readers_module
from chatserver.log import sqlite_writer as writer_module
from chatserver.log.interface import KEY_LIFETIME_MS, Draft, Kind, Log, LogError, LogUnavailable, Range, Refused, Stored
from chatserver.log.memory import MemoryLog
from chatserver.log.postgres import PostgresLog
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, Disk, nodes, running, shared_log, submit_all
from tests.support.examples import new_examples
from tests.support.postgres import KeptDatabase

ROOMS = ("a", "b", "c")
# These bounds and those below are patched, so that short sequences reach them.
MAX_READ = 5
MAX_GROUP = 4
SMALL = {
    writer_module: {"MAX_CACHED_ROOMS": 2, "EXPIRE_EVERY": 3},
    postgres_writer_module: {"MAX_CACHED_ROOMS": 2, "EXPIRE_EVERY": 3},
    retention_module: {"FORGET_STEP": 3, "ROOMS_STEP": 2, "REACTIONS_STEP": 2},
    groups_module: {"MAX_GROUP": MAX_GROUP},
    interface_module: {"MAX_READ": MAX_READ},
    memory_module: {"RETAIN_STEP": 3, "EXPIRE_EVERY": 3},
    readers_module: {"MAX_READ": MAX_READ, "NEWEST_REUSE_FACTOR": 0, "READ_STEP": 2},
}

#: A step and its arguments: see `Engines.apply`.
Step: TypeAlias = tuple[Any, ...]
Outcome: TypeAlias = Stored | LogError


def draft(room: str, user: str, key: str | None) -> Draft:
    # The key determines the text, as in a client that retries: see SqliteWriter._used_keys.
    return Draft(room, user, user.upper(), f"text of {key}", key)


def change(room: str, user: str, key: str | None, kind: Kind, target: int, flag: bool) -> Draft:
    """A draft that changes a message or replies to it; `kind` gives the flag its meaning."""
    plain = replace(draft(room, user, key), kind=kind, target=target, window_ms=3_000)
    if kind is Kind.MESSAGE:
        return replace(plain, mentions=("u_1",) if flag else ())
    if kind is Kind.EDIT:
        return plain
    return replace(
        plain, text="", emoji="👍🎉"[target % 2] if kind is Kind.REACTION else "", on=flag, as_moderator=flag
    )


users = st.sampled_from(["ann", "bob"])
messages = st.builds(draft, st.sampled_from(ROOMS), users, st.sampled_from([None, "", "k", "l"]))
# Mostly changes of one message, so that they interact.
changes = st.builds(
    change, st.sampled_from(["a", "a", "a", "b"]), users, st.sampled_from([None, None, None, "k", "m"]),
    st.sampled_from([*Kind, Kind.EDIT, Kind.EDIT, Kind.REACTION]), st.sampled_from([1, 1, 1, 2, 3, 5]), st.booleans(),
)  # fmt: skip
drafts = messages | changes
one_group = st.lists(drafts, min_size=1, max_size=MAX_GROUP)
some_groups = st.lists(drafts, min_size=1, max_size=3 * MAX_GROUP - 1)
some_bytes = st.sampled_from([0, 20, 30, 99])
steps = st.one_of(
    st.tuples(st.just("append"), some_groups),
    st.tuples(st.just("append"), some_groups),
    st.tuples(st.just("fail to append"), one_group),
    st.tuples(st.just("move the clock"), st.sampled_from([1, 1_000, KEY_LIFETIME_MS, -1, -5_000, -KEY_LIFETIME_MS])),
    st.tuples(st.just("retain"), st.integers(0, 8), st.sampled_from([0, 0, 1, 1_000, 700_000])),
    st.tuples(st.just("look"), st.sampled_from(ROOMS), st.integers(-2, 30), st.integers(-1, 7), some_bytes),
    st.tuples(st.just("reopen")),
)


class Engines:
    """The log in memory, and logs in one database that alternate at each step, as two processes would."""

    def __init__(self, clock: Clock, disks: Sequence[Disk]) -> None:
        self.clock = clock
        self.memory = MemoryLog(wall_ms=clock)
        self.disks = disks
        self._used: list[int] = []  # times of used keys

    async def check(self, steps: Sequence[Step]) -> None:
        async with running(self.memory):
            for life in lives(steps):
                async with nodes(self.disks):
                    for number, step in enumerate(life):
                        # Only the first log that asked for retention does it.
                        await self.apply(step, self.disks[number % len(self.disks) if step[0] != "retain" else 0])
                    for room in ROOMS:
                        await self.apply(("look", room, MAX_READ, MAX_READ, 99), self.disks[-1])

    async def apply(self, step: Step, disk: Disk) -> None:
        memory, clock = self.memory, self.clock
        match step:
            case "append", drafts:
                self._compare(drafts, await submit_all(memory, drafts), await submit_all(disk, drafts))
            case "fail to append", drafts:
                outcomes = await append_with_broken_keys(disk, drafts)
                if not any(isinstance(outcome, LogUnavailable) for outcome in outcomes):  # no new key to write
                    self._compare(drafts, await submit_all(memory, drafts), outcomes)
                assert len({isinstance(outcome, LogUnavailable) for outcome in outcomes}) == 1
            case "move the clock", ms:
                # That may make an expired key valid again, if the engine has not removed it yet.
                then = clock.ms + ms
                if not any(abs(then - time) < KEY_LIFETIME_MS <= abs(clock.ms - time) for time in self._used):
                    clock.ms = then
            case "retain", messages, age:
                lost = await memory.retain(lambda _: (messages, age))
                assert await disk.retain(lambda _: (messages, age)) == lost
            case "look", room, offset, limit, max_bytes:
                expected, found = [await look(log, room, offset, limit, max_bytes) for log in (memory, disk)]
                assert found == expected

    def _compare(self, drafts: Sequence[Draft], expected: Sequence[Outcome], found: Sequence[Outcome]) -> None:
        assert [known(outcome) for outcome in found] == [known(outcome) for outcome in expected]
        for one, outcome in zip(drafts, found, strict=True):
            if one.key is not None and isinstance(outcome, Stored) and outcome.fresh:
                self._used.append(self.clock.ms)


def lives(steps: Sequence[Step]) -> list[list[Step]]:
    """Cut the steps at each reopening of the file."""
    cut: list[list[Step]] = [[]]
    for step in steps:
        if step == ("reopen",):
            cut.append([])
        else:
            cut[-1].append(step)
    return cut


async def look(log: Log, room: str, offset: int, limit: int, max_bytes: int) -> list[object]:
    """All reads of a room; the list of rooms without its order, which depends on the clock."""
    return [
        await log.head(room),
        await log.heads([room, "nobody's"]),
        await log.read(Range(room, after=offset, limit=limit, max_bytes=max_bytes)),
        await log.read(Range(room, limit, before=offset, max_bytes=max_bytes, last=True)),
        await log.read(Range(room, limit, max_bytes=max_bytes, last=True)),
        await log.read(Range(room, limit, max_bytes=max_bytes, messages_only=True, last=True)),
        await log.newest(room, limit),
        sorted(await log.rooms(MAX_READ), key=lambda summary: summary.room),
    ]


def known(outcome: Outcome) -> object:
    """The part of an answer that is equal in all engines; of a draft that was not stored only the offset."""
    if isinstance(outcome, Refused):
        return outcome.reason
    if isinstance(outcome, Stored) and not outcome.fresh:
        return outcome.record.offset, outcome.record.time
    return outcome


async def append_with_broken_keys(disk: Disk, drafts: list[Draft]) -> list[Outcome]:
    """The disk fails after the rooms and messages of the group, before its first key."""
    plant, mend = (
        "ALTER TABLE keys ADD CHECK (place < 0) NOT VALID",
        "ALTER TABLE keys DROP CONSTRAINT keys_place_check",
    )
    if isinstance(disk, SqliteLog):
        plant = "CREATE TEMP TRIGGER broken BEFORE INSERT ON main.keys BEGIN SELECT RAISE(ABORT, 'planted'); END"
        mend = "DROP TRIGGER broken"
    await disk.change("breaking", lambda connection: connection.execute(plant))
    outcomes = await submit_all(disk, drafts)
    await disk.change("mending", lambda connection: connection.execute(mend))
    return outcomes


def agree(clock: Clock, disks: Sequence[Disk], steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module, bounds in SMALL.items():
            for name, value in bounds.items():
                patch.setattr(module, name, value)
        if len(disks) > 1:  # rooms stay in memory while another process writes to them
            patch.setattr(writer_module, "MAX_CACHED_ROOMS", 9)
        trio.run(Engines(clock, disks).check, steps)


some_steps = st.lists(steps, min_size=15, max_size=30)


@new_examples(14)
@given(some_steps, st.booleans())
def test_sqlite_agrees_with_the_model(steps: list[Step], shared: bool) -> None:
    clock = Clock()
    with TemporaryDirectory() as name:
        folder = Path(name)
        if shared:
            agree(clock, [shared_log(folder, number, 2, clock=clock) for number in range(2)], steps)
        else:
            agree(clock, [SqliteLog(str(folder / "chat.db"), wall_ms=clock)], steps)


@new_examples(8)
@given(some_steps)
def test_postgresql_agrees_with_the_model(cleared_database: KeptDatabase, steps: list[Step]) -> None:
    clock = Clock()
    try:
        agree(clock, [PostgresLog(cleared_database.url, wall_ms=clock) for _ in range(2)], steps)
    finally:
        cleared_database.clear()
