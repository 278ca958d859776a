"""The log in memory: for tests, for demonstrations, and as the plainest statement of what a log does.

Owns: lists of records. May not: outlive its process, which is why each one is an epoch of its own. Everything
is synchronous underneath, so it also works under trio's autojump clock.
"""

from collections.abc import Callable, Sequence
from time import time_ns

import trio
from outcome import Outcome, capture

from chatserver.log.groups import GroupWriter, Outcomes
from chatserver.log.identity import new_identity
from chatserver.log.interface import (
    KEY_LIFETIME,
    MAX_READ,
    Answer,
    Draft,
    Head,
    Identity,
    LogUnavailable,
    News,
    Record,
    RoomSummary,
    Statistics,
    Stored,
)


class _Room:
    """The kept records of one room: `records[i]` has offset `first + i`."""

    __slots__ = ("first", "records", "time")

    def __init__(self) -> None:
        self.first = 1
        self.records: list[Record] = []
        self.time = 0  # of the newest record ever, in ms; outlives the record

    @property
    def last(self) -> int:
        return self.first + len(self.records) - 1

    def between(self, low: int, high: int) -> list[Record]:
        """Records with `low <= offset < high`."""
        return self.records[max(low - self.first, 0) : max(high - self.first, 0)]


class MemoryLog:
    """A `Log` that forgets everything at the end."""

    def __init__(self, *, wall_ms: Callable[[], int] = lambda: time_ns() // 1_000_000) -> None:
        self._wall_ms = wall_ms
        self._identity = new_identity()
        self._rooms: dict[str, _Room] = {}
        self._keys: dict[tuple[str, str, str], Record] = {}  # in order of use, so the oldest come first
        self._groups = GroupWriter(self._begin_commit)

    @property
    def identity(self) -> Identity:
        """Which log this is."""
        return self._identity

    async def run(self, news: News, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit groups until cancelled."""
        await self._groups.run(news, task_status)

    def submit(self, draft: Draft, done: Answer) -> None:
        """Queue a draft; see `Log.submit`."""
        self._groups.submit(draft, done)

    async def append(self, draft: Draft) -> Stored:
        """Submit and wait."""
        return await self._groups.append(draft)

    async def head(self, room: str) -> Head:
        """The ends of a room."""
        found = await self._find(room)
        return Head(found.first, found.last)

    async def read(self, room: str, *, after: int, limit: int) -> list[Record]:
        """The first `limit` records behind offset `after`, oldest first."""
        found = await self._find(room)
        low = max(after + 1, found.first)
        return found.between(low, low + _bounded(limit))

    async def read_before(self, room: str, *, before: int, limit: int) -> list[Record]:
        """The last `limit` records ahead of offset `before`, oldest first."""
        found = await self._find(room)
        high = min(before, found.last + 1)
        return found.between(high - _bounded(limit), high)

    async def latest(self, room: str, limit: int) -> list[Record]:
        """The last `limit` records, oldest first."""
        found = await self._find(room)
        return found.between(found.last + 1 - _bounded(limit), found.last + 1)

    async def rooms(self, limit: int) -> list[RoomSummary]:
        """Rooms that hold something, most recently written first."""
        await self._turn()
        held = [(-room.time, name, room) for name, room in self._rooms.items() if room.records]
        held.sort(key=lambda row: row[:2])
        return [RoomSummary(name, len(room.records), room.last) for _, name, room in held[: _bounded(limit)]]

    async def retain(self, *, max_messages: int, max_age_ms: int, now_ms: int) -> dict[str, int]:
        """Forget the oldest records beyond a count or an age, one room a turn."""
        await self._turn()
        lost: dict[str, int] = {}
        for name in list(self._rooms):
            await self._turn()
            room = self._rooms[name]
            keep_from = room.last - max_messages + 1 if max_messages else 0
            oldest = now_ms - max_age_ms if max_age_ms else 0
            kept = next(
                (i for i, old in enumerate(room.records) if old.offset >= keep_from and old.time >= oldest),
                len(room.records),
            )
            if kept:
                del room.records[:kept]
                room.first += kept
                lost[name] = room.first
        return lost

    def statistics(self) -> Statistics:
        """Counters for `/metrics`."""
        return self._groups.statistics()

    async def _turn(self) -> None:
        """Give the others a turn, as a log on a disk does, and refuse when closed, as it does too."""
        await trio.lowlevel.checkpoint()
        if not self._groups.accepting:
            raise LogUnavailable("the log is closed")

    async def _find(self, name: str) -> _Room:
        await self._turn()
        return self._rooms.get(name) or _Room()

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(lambda: done(capture(self._commit, drafts)))

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        now = self._wall_ms()
        self._forget_keys(now - int(KEY_LIFETIME * 1000))
        return [self._store(draft, now) for draft in drafts]

    def _store(self, draft: Draft, now: int) -> Stored:
        key = (draft.room, draft.user_id, draft.key or "")
        if draft.key is not None:
            first = self._keys.get(key)
            if first is not None and first.time > now - KEY_LIFETIME * 1000:
                return Stored(first, fresh=False)
        room = self._rooms.setdefault(draft.room, _Room())
        room.time = max(room.time, now)
        record = Record(draft.room, room.last + 1, room.time, draft.user_id, draft.user_name, draft.text)
        room.records.append(record)
        if draft.key is not None:
            self._keys.pop(key, None)  # so that it goes to the end
            self._keys[key] = record
        return Stored(record, fresh=True)

    def _forget_keys(self, until: int) -> None:
        while self._keys:
            oldest = next(iter(self._keys))
            if self._keys[oldest].time > until:
                return
            del self._keys[oldest]


def _bounded(limit: int) -> int:
    return max(0, min(limit, MAX_READ))
