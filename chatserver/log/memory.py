"""The log in memory: for tests, for demonstrations, and as the plainest example of what a log does.

Owns: the kept records of each room, and a database in memory for what is kept beside the messages. May not: outlive its
process, so each log in memory is an epoch of its own. It waits for no thread or disk, so it also works under trio's
autojump clock.

The garbage collector has nothing to visit here: the objects are structs with `gc=False`, and CPython does not track a
dict of untracked keys and values. With tracked objects a full collection takes 17 ms at 100,000 rooms.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import TypeVar
from weakref import finalize

import msgspec
import trio
from msgspec.structs import replace
from outcome import Outcome, capture

from chatserver.fair import in_steps
from chatserver.log import changes
from chatserver.log.audit import Audit
from chatserver.log.groups import GroupWriter, Outcomes
from chatserver.log.index import CANDIDATES, Found, Hit, Question, top, worth
from chatserver.log.interface import (
    EXPIRE_EVERY,
    KEY_LIFETIME_MS,
    MAX_READ,
    Draft,
    Head,
    Keeps,
    Kind,
    LogError,
    LogUnavailable,
    Range,
    Record,
    Refused,
    RoomSummary,
    Stored,
    bounded,
    new_identity,
    system_ms,
    within_bytes,
)
from chatserver.log.markers import MAX_MARKED_ROOMS, MAX_MARKERS, Marker, Span, Unread, spans
from chatserver.log.retention import bounds
from chatserver.log.sanctions import Sanctions
from chatserver.log.signouts import SignOuts
from chatserver.log.sqlite_rows import SqliteTables
from chatserver.log.sqlite_schema import BESIDE_MESSAGES
from chatserver.log.tables import Tables

#: Records that one step of retention may remove: about 0.3 ms.
RETAIN_STEP = 500
#: Records that are looked at for one question.
MAX_SCANNED = 20_000

T = TypeVar("T")


class _Room(msgspec.Struct, gc=False):
    """The kept records of one room, by offset, oldest first, without holes."""

    first: int = 1
    last: int = 0
    time: int = 0  # of the newest record, in ms; kept when retention removes that record
    records: dict[int, Record] = {}  # msgspec makes a new dict for each room
    reacted: dict[int, dict[str, None]] | None = None  # emoji and user of each reaction to a message, joined by a space


class _Key(msgspec.Struct, frozen=True, gc=False):
    """A key, with the room and the user that it belongs to. The collector would visit a tuple."""

    room: str
    user_id: str
    key: str


class _Use(msgspec.Struct, frozen=True, gc=False):
    """The record that a key was used for, by its offset, since the record itself may be altered later."""

    offset: int
    time: int  # of the use


class MemoryLog:
    """A `Log` whose content ends with it."""

    shared = False
    reachable = True

    def __init__(self, *, wall_ms: Callable[[], int] = system_ms) -> None:
        self.wall_ms = wall_ms
        self.identity = new_identity()
        self._rooms: dict[str, _Room] = {}  # those with messages, the most recently written last
        self._emptied: dict[str, _Room] = {}  # rooms that retention emptied once; their offsets continue
        self._keys: dict[_Key, _Use] = {}  # in order of use, so the oldest come first
        self._keys_since_expiry = 0
        self.index = MemoryIndex(self)
        self._groups = groups = GroupWriter(self._begin_commit)
        self.run, self.submit, self.statistics = groups.run, groups.submit, groups.statistics
        self.markers = MemoryMarkers(self)
        self._beside = sqlite3.connect(":memory:", check_same_thread=False)  # for what is kept beside the messages
        finalize(self, self._beside.close)
        for statement in BESIDE_MESSAGES:
            self._beside.execute(statement)
        self.audit = Audit(self)
        self.sanctions = Sanctions(self)
        self.signouts = SignOuts(self)

    async def head(self, room: str) -> Head:
        return (await self.heads([room])).get(room, Head(1, 0))

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        await self._checkpoint()
        found = {name: self._room(name) for name in rooms[:MAX_READ]}
        return {name: Head(room.first, room.last) for name, room in found.items() if room.last}

    async def read(self, wanted: Range) -> list[Record]:
        await self._checkpoint()
        limit, room = bounded(wanted.limit), self._room(wanted.room)
        if not wanted.last:
            low = max(wanted.after + 1, room.first)
            high = min(low + limit - 1, room.last)
            return within_bytes(map(room.records.__getitem__, range(low, high + 1)), wanted.max_bytes)
        newest_first = self._newest(wanted.room, wanted.before)
        if wanted.messages_only:
            messages: list[Record] = []
            await in_steps(_gather_messages(newest_first, limit, messages))
            newest_first = iter(messages)
        return within_bytes(islice(newest_first, limit), wanted.max_bytes)[::-1]

    async def newest(self, room: str, limit: int) -> tuple[Head, list[Record]]:
        return await self.head(room), await self.read(Range(room, limit, last=True))

    async def rooms(self, limit: int) -> list[RoomSummary]:
        await self._checkpoint()
        newest = islice(reversed(self._rooms.items()), bounded(limit))
        return [RoomSummary(name, len(room.records), room.last) for name, room in newest]

    async def retain(self, keeps: Keeps) -> dict[str, int]:
        await self._checkpoint()
        lost: dict[str, int] = {}

        def forget() -> Iterator[None]:
            for name in list(self._rooms):
                keep_from, oldest = bounds(keeps(name), self._room(name).last, self.wall_ms())
                while self._forget(name, keep_from, oldest):
                    lost[name] = self._room(name).first
                    yield
                yield

        await in_steps(forget())
        return lost

    async def ask_tables(self, query: Callable[[Tables], T]) -> T:
        await self._checkpoint()
        return query(SqliteTables(self._beside))

    async def change_tables(self, doing: str, work: Callable[[Tables], T], *, hint: str = "") -> T:
        await self._checkpoint()
        with self._beside:  # one transaction
            return work(SqliteTables(self._beside))

    def _newest(self, room: str | None, before: int | None) -> Iterator[Record]:
        """The records of a room before an offset, or of all rooms, the last written first; each room's newest first."""
        if not self._groups.accepting:
            raise LogUnavailable("the log is closed")
        for name in [room] if room is not None else list(reversed(self._rooms)):
            found = self._room(name)
            last = found.last if before is None else min(before - 1, found.last)
            for offset in range(last, found.first - 1, -1):
                record = found.records.get(offset)
                if record is None:
                    break  # retention has removed it meanwhile, and all before it
                yield record

    async def _checkpoint(self) -> None:
        """Let other tasks run, as a log on a disk does; raise LogUnavailable if the log is closed."""
        await trio.lowlevel.checkpoint()
        if not self._groups.accepting:
            raise LogUnavailable("the log is closed")

    def _room(self, name: str) -> _Room:
        return self._rooms.get(name) or self._emptied.get(name) or _Room()

    def _forget(self, name: str, keep_from: int, oldest: int) -> int:
        """Remove up to RETAIN_STEP of a room's oldest records; returns how many."""
        room = self._room(name)
        before = room.first
        while room.records and room.first - before < RETAIN_STEP:
            if room.first >= keep_from and room.records[room.first].time >= oldest:
                break
            state = room.records.pop(room.first).state
            if state is not None and state.edit:
                room.records[state.edit] = replace(room.records[state.edit], text="")
            if room.reacted is not None:
                room.reacted.pop(room.first, None)
            room.first += 1
        if not room.records and name in self._rooms:  # the step before may have emptied it
            room.records, room.reacted = {}, None  # an emptied dict keeps the memory of its largest size
            self._emptied[name] = self._rooms.pop(name)
        return room.first - before

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        def commit() -> None:
            done(capture(self._commit, drafts))

        if not self._groups.post_for(drafts)(commit):
            trio.lowlevel.current_trio_token().run_sync_soon(commit)

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        now = self.wall_ms()
        if self._keys_since_expiry >= EXPIRE_EVERY:
            self._expire_keys(now)
        return [self._store(draft, now) for draft in drafts]

    def _store(self, draft: Draft, now: int) -> Stored | LogError:
        key = None
        if draft.key is not None:
            key = _Key(draft.room, draft.user_id, draft.key)
            first = self._keys.get(key)
            if first is not None and abs(now - first.time) < KEY_LIFETIME_MS:
                kept = self._room(draft.room).records.get(first.offset)
                return Stored(kept or changes.plain(draft, first.offset, first.time), fresh=False)
        room = self._room(draft.room)
        if draft.target or draft.kind:
            answer = _answer_unstored(room, draft, now)
            if answer is not None:
                return answer
        self._rooms.pop(draft.room, None)
        self._rooms[draft.room] = room  # the most recently written is the last
        room.last = offset = room.last + 1
        room.time = time = max(room.time, now)
        if draft.kind:
            record = _alter(room, draft, offset, time)
            room.records[offset] = replace(record, alters=(), empties=0)
        else:
            record = room.records[offset] = changes.plain(draft, offset, time)
        if key is not None:
            self._keys.pop(key, None)  # a key used again after its lifetime goes to the end
            self._keys[key] = _Use(offset, now)
            self._keys_since_expiry += 1
        return Stored(record, fresh=True)

    def _expire_keys(self, now: int) -> None:
        """Remove the oldest expired keys, at most twice as many as were stored since the last time.

        In one pass, because asking a dict for its first key after each removal is quadratic: 1.8 s for 100,000 keys.
        """
        expired = takewhile(lambda key: abs(now - self._keys[key].time) >= KEY_LIFETIME_MS, self._keys)
        for key in list(islice(expired, 2 * self._keys_since_expiry)):
            del self._keys[key]
        self._keys_since_expiry = 0


class MemoryIndex:
    """No index at all: it searches the newest records, and lets other tasks run meanwhile."""

    lag = 0.0  # the messages themselves are searched

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def find(self, question: Question) -> Found:
        """See `Index.find`; `go_on` is the number of records to skip."""
        matcher = question.matcher()
        now_ms = self._log.wall_ms()
        scores: list[tuple[float, Record]] = []
        start = question.go_on or 0
        go_on_at: int | None = None

        def scan() -> Iterator[None]:
            nonlocal go_on_at
            for place, record in enumerate(self._log._newest(question.room, question.before)):
                if place == start + MAX_SCANNED or len(scores) == CANDIDATES:
                    go_on_at = place
                    return
                if place >= start and not record.kind and question.user in (None, record.user_id):
                    score = matcher.score(record.text)
                    if score:
                        scores.append((score * worth(record.time, now_ms), record))
                yield

        await in_steps(scan())
        hits = (Hit(record, score, matcher.snippet(record.text)) for score, record in top(scores))
        return Found(await in_steps(hits), go_on_at)


class MemoryMarkers:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._users: dict[str, dict[str, int]] = {}  # users and their rooms, both in the order of their last move
        self._count = 0

    async def move(self, markers: Sequence[Marker]) -> None:
        await self._log._checkpoint()
        for marker in markers:
            last = self._log._room(marker.room).last
            offset = min(marker.offset, last)
            rooms = self._users.get(marker.user_id, {})
            if offset <= rooms.get(marker.room, -1) or not last:
                continue
            self._users.pop(marker.user_id, None)
            self._users[marker.user_id] = rooms
            self._count += rooms.pop(marker.room, None) is None
            rooms[marker.room] = offset
            if len(rooms) > MAX_MARKED_ROOMS:
                self._forget(rooms)
        while self._count > MAX_MARKERS:
            user_id, rooms = next(iter(self._users.items()))
            self._forget(rooms)
            if not rooms:
                del self._users[user_id]

    def _forget(self, rooms: dict[str, int]) -> None:
        del rooms[next(iter(rooms))]
        self._count -= 1

    async def of_user(self, user_id: str) -> dict[str, int]:
        await self._log._checkpoint()
        return dict(self._users.get(user_id, {}))

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        await self._log._checkpoint()
        rooms = {name: room for name in places if (room := self._log._room(name)).last}

        def count(span: Span) -> Unread:
            records = map(rooms[span.room].records.get, range(span.low, span.high + 1))
            # Retention may have removed some meanwhile.
            unread = [record for record in records if record is not None and _is_unread(record, user_id)]
            return span.unread(len(unread), sum(user_id in record.mentions for record in unread))

        heads = {name: Head(room.first, room.last) for name, room in rooms.items()}
        return dict(await in_steps((span.room, count(span)) for span in spans(places, heads)))


def _is_unread(record: Record, user_id: str) -> bool:
    deleted = record.state is not None and record.state.deleted
    return record.kind is Kind.MESSAGE and not deleted and record.user_id != user_id


def _gather_messages(records: Iterable[Record], count: int, messages: list[Record]) -> Iterator[None]:
    """Add the first `count` messages among these records; one item of work for each record."""
    for record in records if count else ():
        if not record.kind:
            messages.append(record)
        yield
        if len(messages) == count:
            return


def _answer_unstored(room: _Room, draft: Draft, now: int) -> Stored | Refused | None:
    """The answer to a draft that is not stored, or None if it is to be stored."""
    message = room.records.get(draft.target)
    reacted = _reaction(draft) in (room.reacted or {}).get(draft.target, {})
    refusal = changes.refusal(draft, message, now, reacted=reacted)
    if refusal is not None:
        return Refused(refusal)
    if draft.kind is Kind.REACTION and draft.on == reacted:
        assert message is not None
        return Stored(changes.unchanged(draft, room.last, room.time, message), fresh=False)
    return None


def _alter(room: _Room, draft: Draft, offset: int, time: int) -> Record:
    """Apply an edit, a deletion or a reaction to its target; returns its record."""
    message = room.records[draft.target]
    record = changes.alteration(draft, offset, time, message)
    room.records[draft.target] = record.alters[0]
    if record.empties:
        room.records[record.empties] = replace(room.records[record.empties], text="")
    if room.reacted is None:
        room.reacted = {}
    if draft.kind is Kind.DELETE:
        room.reacted.pop(draft.target, None)
    elif draft.kind is Kind.REACTION and draft.on:
        room.reacted.setdefault(draft.target, {})[_reaction(draft)] = None
    elif draft.kind is Kind.REACTION:
        del room.reacted[draft.target][_reaction(draft)]
    return record


def _reaction(draft: Draft) -> str:
    return f"{draft.emoji} {draft.user_id}"
