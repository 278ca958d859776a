"""Any sequence of calls, failures and restarts: every engine gives the answers of a model of twenty lines."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import combinations, count
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
from chatserver.log import sqlite_readers as readers_module
from chatserver.log import sqlite_writer as writer_module
from chatserver.log.interface import (
    KEY_LIFETIME,
    MAX_READ_BYTES,
    Draft,
    Head,
    Kind,
    Log,
    LogError,
    LogUnavailable,
    Reaction,
    Record,
    RefusalReason,
    Refused,
    RoomSummary,
    State,
    Stored,
)
from chatserver.log.memory import MemoryLog
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, running, shared_log, submit_all
from tests.support.examples import examples

ROOMS = ("a", "b", "c")
# These, and the bounds below, are patched in, so that short sequences reach them.
MAX_READ = 5
MAX_GROUP = 4
SMALL = {
    writer_module: {"FORGET_STEP": 3, "ROOMS_STEP": 2, "MAX_CACHED_ROOMS": 2, "EXPIRE_EVERY": 3},
    groups_module: {"MAX_GROUP": MAX_GROUP},
    interface_module: {"MAX_READ": MAX_READ},
    memory_module: {"RETAIN_STEP": 3, "EXPIRE_EVERY": 3},
    readers_module: {"MAX_READ": MAX_READ, "NEWEST_REUSE_FACTOR": 0, "READ_STEP": 2},
}


class Model:
    """What a log is, if it need be neither quick nor durable."""

    def __init__(self) -> None:
        self.ever: dict[str, list[Record]] = {room: [] for room in ROOMS}
        self.first: dict[str, int] = dict.fromkeys(ROOMS, 1)
        self.used: dict[tuple[str, str, str], Record] = {}
        self.reactions: dict[tuple[str, int], dict[str, list[str]]] = {}  # by room and offset, users by emoji
        self.written = count()
        self.last_written: dict[str, tuple[int, int]] = {}  # which write of all it was, and when

    def append(self, draft: Draft, now: int) -> Stored | RefusalReason:
        key = (draft.room, draft.user_id, draft.key or "")
        if draft.key is not None and key in self.used and self.used[key].time > now - KEY_LIFETIME * 1000:
            return Stored(self.used[key], fresh=False)
        room = self.ever[draft.room]
        if draft.kind or draft.target:
            refused = self.refused(draft, now)
            if refused is not None:
                return refused
            users = self.users(draft)
            if draft.kind is Kind.REACTION and draft.on == (draft.user_id in users):
                return Stored(replace(self.record(draft, len(room), room[-1].time), reaction=self.said(draft)), False)
        record = self.record(draft, len(room) + 1, max([now, *(record.time for record in room)]))
        room.append(record)
        if draft.kind:
            self.change(draft, record)
            record = room[-1]
        self.last_written[draft.room] = next(self.written), now
        if draft.key is not None:
            self.used[key] = record
        return Stored(record, fresh=True)

    def record(self, draft: Draft, offset: int, time: int) -> Record:
        return Record(
            draft.room, offset, time, draft.user_id, draft.user_name, draft.text, draft.kind, draft.target,
            draft.mentions,
        )  # fmt: skip

    def refused(self, draft: Draft, now: int) -> RefusalReason | None:
        room = self.ever[draft.room]
        if not self.first[draft.room] <= draft.target <= len(room) or room[draft.target - 1].kind:
            return RefusalReason.MISSING
        message = room[draft.target - 1]
        if not draft.kind:
            return None
        if message.state is not None and message.state.deleted:
            return RefusalReason.DELETED
        if draft.kind is Kind.REACTION or (draft.kind is Kind.DELETE and draft.as_moderator):
            return None
        if message.user_id != draft.user_id:
            return RefusalReason.NOT_AUTHOR
        return RefusalReason.TOO_LATE if message.time + draft.window_ms <= now else None

    def users(self, draft: Draft) -> list[str]:
        return self.reactions.setdefault((draft.room, draft.target), {}).setdefault(draft.emoji, [])

    def said(self, draft: Draft) -> Reaction:
        return Reaction(draft.emoji, draft.on, len(self.users(draft)))

    def change(self, draft: Draft, record: Record) -> None:
        """Have it happen to what it is about."""
        room, target = self.ever[draft.room], draft.target
        users = self.users(draft)
        if draft.kind is Kind.REACTION:
            (users.append if draft.on else users.remove)(draft.user_id)
            if not users:
                del self.reactions[draft.room, target][draft.emoji]
            room[-1] = replace(record, reaction=Reaction(draft.emoji, draft.on, len(users)))
        else:
            for index, other in enumerate(room[:-1]):
                if other.kind is Kind.EDIT and other.target == target:
                    room[index] = replace(other, text="")
            state = State(record.time, record.offset) if draft.kind is Kind.EDIT else State(deleted=True)
            room[target - 1] = replace(room[target - 1], text=draft.text, state=state)
            if draft.kind is Kind.DELETE:
                room[target - 1] = replace(room[target - 1], mentions=())
                self.reactions[draft.room, target] = {}
        counts = {emoji: len(users) for emoji, users in self.reactions[draft.room, target].items() if users}
        state = replace(room[target - 1].state or State(), reactions=tuple(counts.items()))
        room[target - 1] = replace(room[target - 1], state=None if state == State() else state)

    def revives(self, now: int, earlier: int) -> bool:
        """Whether a clock set back would make an expired key valid again: engines may have removed it or not."""
        return any(earlier < key.time + KEY_LIFETIME * 1000 <= now for key in self.used.values())

    def kept(self, room: str) -> list[Record]:
        return self.ever[room][self.first[room] - 1 :]

    def retain(self, max_messages: int, max_age_ms: int, now: int) -> dict[str, int]:
        lost = {}
        for room in ROOMS:
            kept = self.kept(room)
            stays = kept[-max_messages:] if max_messages else kept
            stays = [record for record in stays if not max_age_ms or record.time >= now - max_age_ms]
            if len(stays) < len(kept):
                for gone in kept[: len(kept) - len(stays)]:
                    if gone.state is not None and gone.state.edit:
                        edit = gone.state.edit - 1
                        self.ever[room][edit] = replace(self.ever[room][edit], text="")
                self.first[room] = lost[room] = len(self.ever[room]) + 1 - len(stays)
        return lost

    def check_rooms(self, found: Sequence[RoomSummary]) -> None:
        """All that hold something, and each before those written earlier, unless the clock was set back meanwhile."""
        held = {room for room in ROOMS if self.kept(room)}
        assert {(one.room, one.messages, one.last) for one in found} == {
            (room, len(self.kept(room)), len(self.ever[room])) for room in held
        }
        assert len(found) == len(held)
        for first, second in combinations([one.room for one in found], 2):
            assert not self.written_after(second, first)

    def written_after(self, later: str, earlier: str) -> bool:
        """By the order of writes, by the clock, and by the time of the last messages."""
        facts = [(*self.last_written[room], self.ever[room][-1].time) for room in (later, earlier)]
        return all(after > before for after, before in zip(*facts, strict=True))


#: What to do, and with what: see `apply`.
Step: TypeAlias = tuple[Any, ...]


def draft(room: str, user: str, key: str | None) -> Draft:
    # The text follows from the key, as in a client that retries: see SqliteWriter._used_keys.
    return Draft(room, user, user.upper(), f"text of {key}", key)


def change(room: str, user: str, key: str | None, kind: Kind, target: int, flag: bool) -> Draft:
    """Of a message, what it replies to; the flag is what the kind makes of it."""
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
# Mostly of one message, so that there is much to change.
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
    st.tuples(st.just("move the clock"), st.sampled_from([1, 1_000, int(KEY_LIFETIME * 1000), -1, -5_000])),
    st.tuples(st.just("retain"), st.integers(0, 8), st.sampled_from([0, 0, 1, 1_000, 700_000])),
    st.tuples(st.just("look"), st.sampled_from(ROOMS), st.integers(-2, 30), st.integers(-1, 7), some_bytes),
    st.tuples(st.just("reopen")),
)


async def check(steps: Sequence[Step], folder: Path, shared: bool) -> None:
    """With the file shared, two logs take turns at it as two processes would."""
    clock, model = Clock(), Model()
    memory, alone = MemoryLog(wall_ms=clock), SqliteLog(str(folder / "chat.db"), wall_ms=clock)
    logs = [shared_log(folder, number, 2, clock=clock) for number in range(2)] if shared else [alone, alone]
    async with running(memory):
        for life in lives(steps):
            async with running(logs[0]), running(logs[1]) if shared else nullcontext():
                for number, step in enumerate(life):
                    # Retention is always seen to by the first that asked for it.
                    await apply(step, clock, model, memory, logs[number % 2 if step[0] != "retain" else 0])
                for number, room in enumerate(ROOMS):
                    await apply(("look", room, MAX_READ, MAX_READ, 99), clock, model, memory, logs[number % 2])


def lives(steps: Sequence[Step]) -> list[list[Step]]:
    """Cut where the file is opened again."""
    cut: list[list[Step]] = [[]]
    for step in steps:
        if step == ("reopen",):
            cut.append([])
        else:
            cut[-1].append(step)
    return cut


async def apply(step: Step, clock: Clock, model: Model, memory: MemoryLog, disk: SqliteLog) -> None:
    engines: tuple[Log, ...] = (memory, disk)
    match step:
        case "append", drafts:
            expected = [model.append(draft, clock.ms) for draft in drafts]
            for log in engines:
                assert map_known(await submit_all(log, drafts)) == map_known(expected)
        case "fail to append", drafts:
            outcomes = await append_with_broken_keys(disk, drafts)
            if not any(isinstance(outcome, LogUnavailable) for outcome in outcomes):  # it had no new key to write
                assert map_known(outcomes) == map_known([model.append(draft, clock.ms) for draft in drafts])
                assert map_known(outcomes) == map_known(await submit_all(memory, drafts))
            assert len({isinstance(outcome, LogUnavailable) for outcome in outcomes}) == 1
        case "move the clock", ms:
            if not model.revives(clock.ms, clock.ms + ms):
                clock.ms += ms
        case "retain", messages, age:
            lost = model.retain(messages, age, clock.ms)
            for log in engines:
                assert await log.retain(max_messages=messages, max_age_ms=age) == lost
        case "look", room, offset, limit, max_bytes:
            kept = model.kept(room)
            most = max(0, min(limit, MAX_READ))
            behind = first_bytes([record for record in kept if record.offset > offset][:most], max_bytes)
            ahead = first_bytes([record for record in kept[::-1] if record.offset < offset][:most], max_bytes)[::-1]
            latest = first_bytes(kept[::-1][:most], max_bytes)[::-1]
            for log in engines:
                head = Head(model.first[room], len(model.ever[room]))
                assert await log.head(room) == head
                assert await log.heads([room, "nobody's"]) == ({room: head} if head.last else {})
                assert await log.read(room, after=offset, limit=limit, max_bytes=max_bytes) == behind
                assert await log.latest(room, limit, before=offset, max_bytes=max_bytes) == ahead
                assert await log.latest(room, limit, max_bytes=max_bytes) == latest
                assert await log.newest(room, limit) == (head, first_bytes(kept[::-1][:most], MAX_READ_BYTES)[::-1])
                model.check_rooms(await log.rooms(MAX_READ))


def map_known(outcomes: Sequence[Stored | LogError | RefusalReason]) -> list[object]:
    """What a model knows as well: not what a record altered, and of what was not stored only the place."""
    known: list[object] = []
    for outcome in outcomes:
        if isinstance(outcome, Refused):
            known.append(outcome.reason)
        elif not isinstance(outcome, Stored):
            known.append(outcome)
        elif outcome.fresh:
            known.append(replace(outcome.record, alters=(), empties=0))
        else:
            known.append((outcome.record.offset, outcome.record.time))
    return known


def first_bytes(records: list[Record], max_bytes: int) -> list[Record]:
    """The longest beginning of so many bytes, or the first record if that is longer."""
    fits = [
        count
        for count in range(1, len(records) + 1)
        if count == 1 or len("".join(record.text for record in records[:count])) <= max_bytes
    ]
    return records[: max(fits, default=0)]


async def append_with_broken_keys(disk: SqliteLog, drafts: list[Draft]) -> list[Stored | LogError]:
    """The disk fails when the group's rooms and messages are written and its first key is not."""
    assert disk._opened is not None
    connection = disk._opened.writer._connection
    connection.execute(
        "CREATE TEMP TRIGGER broken BEFORE INSERT ON main.keys BEGIN SELECT RAISE(ABORT, 'planted'); END"
    )
    outcomes = await submit_all(disk, drafts)
    connection.execute("DROP TRIGGER broken")
    return outcomes


@examples(16)
@given(st.lists(steps, min_size=15, max_size=30), st.booleans())
def test_engines_agree_with_the_model(steps: list[Step], shared: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        for module, bounds in SMALL.items():
            for name, value in bounds.items():
                patch.setattr(module, name, value)
        trio.run(check, steps, Path(folder), shared)
