"""Chat without a network: peers that accept a set number of bytes, and a log that may be slow or fail.

Owns: a running hub over the fakes of `scripted`, and the log. May not: know sockets.

    async with chatting() as it:
        ann = it.peer()
        await it.join(ann, "lobby")
        await it.publish("lobby", "hi")
        assert ann.offsets("lobby") == [1]
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing
from outcome import Outcome, capture

from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter, Wanted
from chatserver.chat.principal import User
from chatserver.log.groups import Outcomes
from chatserver.log.interface import (
    Draft,
    Head,
    Keeps,
    Kind,
    LogError,
    LogUnavailable,
    Range,
    Record,
    Stored,
)
from chatserver.log.memory import MemoryLog
from chatserver.log.program import Program
from chatserver.settings.fields import Settings
from tests.support.groups import together
from tests.support.scripted import ENDLESS, HERE, LineEncoder, LineEncoding, Peer, ScriptedSink, StepSchedule

ANN = User("u_1", "Ann")
GRACE = Settings().presence_grace


def change(kind: Kind, target: int, text: str = "", *, by: User = ANN, on: bool = True) -> Draft:
    """An edit, a deletion or a reaction in the lobby."""
    emoji = "+" if kind is Kind.REACTION else ""
    return Draft("lobby", by.id, by.name, text, kind=kind, target=target, window_ms=1 << 40, emoji=emoji, on=on)


def plant(
    monkeypatch: pytest.MonkeyPatch, owner: object, method: str, when: Callable[..., bool] = lambda *_: True
) -> None:  # fmt: skip
    """Let a method raise when its arguments are such."""
    real = getattr(owner, method)

    def planted(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise RuntimeError("a bug")
        return real(*arguments, **named)

    monkeypatch.setattr(owner, method, planted)


class SmallSettings(Settings):
    """Settings without bounds, so that limits can be a few messages."""

    def __post_init__(self) -> None:
        """No bounds."""


class ControlledLog(MemoryLog):
    """The real log in memory, which can be slow, fail, and be written by other processes if it is shared.

    With `beside` it is the other log's view in another process: both have the same records.
    """

    def __init__(self, *, shared: bool = False, beside: "ControlledLog | None" = None) -> None:
        super().__init__()
        self.shared = shared
        self.texts: dict[tuple[str, int], set[str]] = {}  # all texts that a record has had
        if beside is not None:
            self._rooms, self._emptied, self._keys = beside._rooms, beside._emptied, beside._keys
            self.texts = beside.texts
        self.delay = 0.0  # s before a read, and again before its answer arrives
        self.commit_delay = 0.0  # s after a commit before its news
        self.failing_reads = 0
        self.failing_commits = 0
        self.reads = 0
        self.waiting = 0  # for a read

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        async with self._slowly():
            return await super().heads(rooms)

    async def read(self, wanted: Range) -> list[Record]:
        async with self._slowly():
            return await super().read(wanted)

    @asynccontextmanager
    async def _slowly(self) -> AsyncIterator[None]:
        self.reads += 1
        self.waiting += 1
        try:
            await trio.sleep(self.delay)
            if self.failing_reads:
                self.failing_reads -= 1
                raise LogUnavailable("the disk is having a moment")
            yield
            await trio.sleep(self.delay)
        finally:
            self.waiting -= 1

    def commit_elsewhere(self, drafts: Sequence[Draft]) -> list[Record]:
        """Store what another process would: this one is not told."""
        outcomes = self._note(MemoryLog._commit(self, drafts))
        return [outcome.record for outcome in outcomes if isinstance(outcome, Stored)]

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        if self.failing_commits:
            self.failing_commits -= 1
            return [LogUnavailable("the disk is full") for _ in drafts]
        return self._note(super()._commit(drafts))

    async def retain(self, keeps: Keeps) -> dict[str, int]:
        """Remove the oldest records; an edit that outlives its message has no text any more."""
        firsts = await super().retain(keeps)
        for name, first in firsts.items():
            for record in self.records(name).values():
                if record.kind is Kind.EDIT and record.target < first:
                    self.texts[name, record.offset].add("")
        return firsts

    def _note(self, outcomes: Outcomes) -> Outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Stored) and outcome.fresh:
                for record in (outcome.record, *outcome.record.alters):
                    self.texts.setdefault((record.room, record.offset), set()).add(record.text)
                if outcome.record.empties:
                    self.texts[outcome.record.room, outcome.record.empties].add("")
        return outcomes

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        if self.commit_delay:
            trio.lowlevel.spawn_system_task(self._commit_late, drafts, done)
        else:
            super()._begin_commit(drafts, done)

    async def _commit_late(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        """Commit now, and tell the own process later."""
        outcome = capture(self._commit, drafts)
        await trio.sleep(self.commit_delay)
        done(outcome)

    def records(self, room: str) -> dict[int, Record]:
        """The present records of a room, by offset."""
        return self._room(room).records


class Chatting:
    """A running hub with its log."""

    def __init__(
        self, settings: SmallSettings, *, shared: bool, beside: "Chatting | None" = None,
        tell: Callable[[bytes], None] | None = None,
    ) -> None:  # fmt: skip
        self.log: ControlledLog = ControlledLog(shared=shared, beside=None if beside is None else beside.log)
        self.encoder = LineEncoder()
        self.sink = ScriptedSink()
        self.schedule = StepSchedule()
        self.failures: list[LogError] = []
        self.unstored: list[Draft] = []
        self.deletions: list[tuple[int, str]] = []  # by moderators: offset and detail
        self.hub = Hub(
            self.log, self.encoder, self.sink, self.schedule, settings,
            note_failure=self.failures.append, note_unstored=self.unstored.append, tell=tell,
            note_deletion=lambda draft, detail: self.deletions.append((draft.target, detail)), note_altered=len,
        )  # fmt: skip
        self.sink.hub = self.hub
        self.spread: Callable[[dict[str, int]], None] = lambda hints: None  # to other processes
        self.numbers = count(1)

    def peer(self, *, space: int = ENDLESS, network: str = HERE) -> Peer:
        return Peer(next(self.numbers), space=space, network=network)

    def news(self, records: Sequence[Record]) -> None:
        """The log's callback."""
        self.hub.news(records)
        self.spread({record.room: record.offset for record in records})

    def elsewhere(self, *drafts: Draft) -> int:
        """Store records as another process, without a hint to this one; the last offset."""
        return self.log.commit_elsewhere(drafts)[-1].offset

    def elsewhere_said(self, name: str, *texts: str) -> int:
        """Store texts in one room as another process. Returns the last offset."""
        return self.elsewhere(*(Draft(name, "u_9", "Zoe", text) for text in texts))

    async def hinted(self, last: int) -> None:
        """Receive the hint of another process that has written up to this offset of the lobby."""
        self.hub.follower.on_hints({"lobby": last})
        await self.until_idle()

    async def join(self, peer: Peer, name: str, *, back: int = 0, encoding: LineEncoding | None = None) -> Member:
        """Join, from `back` messages ago on. Raises LogError."""
        async with self.hub.registry.using(name, peer.network) as room:
            cursor = max(room.last - back, 0)
            member = self.hub.attach(
                room, peer, encoding=encoding or self.encoder.frames, principal=peer.principal, cursor=cursor
            )
            peer.members.append(member)
            self.sink.send(peer, b"J %s %d\n" % (name.encode(), cursor))
            if not peer.gone:
                self.hub.broadcaster.deliver(member)
            return member

    async def members(self, count: int, name: str = "lobby", *, back: int = 0) -> list[Peer]:
        """Make `count` members."""
        peers = [self.peer() for _ in range(count)]
        for peer in peers:
            await self.join(peer, name, back=back)
        return peers

    def leave(self, member: Member) -> None:
        peer = member.connection
        assert isinstance(peer, Peer)
        peer.members.remove(member)
        self.hub.leave(member)

    async def load(self, *names: str, network: str = HERE) -> None:
        """Load rooms. Raises LogError."""
        for name in names:
            async with self.hub.registry.using(name, network):
                pass

    async def poll(self, peer: Peer, *names: str) -> PollWaiter:
        """Hold a poll."""
        await self.load(*names, network=peer.network)
        return self.hold_now(peer, names)

    def hold_now(self, peer: Peer, names: Iterable[str]) -> PollWaiter:
        """Hold a poll for rooms that are in memory."""
        rooms = [self.hub.rooms[name] for name in names]
        waiter = PollWaiter(
            connection=peer, principal=peer.principal, wanted=Wanted(50, many=len(rooms) > 1), keep_alive=True
        )
        peer.waiter = waiter
        self.hub.park(waiter, [(room, room.last) for room in rooms])
        return waiter

    async def publish(self, name: str, *texts: str) -> None:
        """Publish, and wait until everything is delivered. Raises LogError."""
        results: list[Stored | LogError] = []
        with self.together():
            for text in texts:
                self.hub.publish(Draft(name, "u_1", "Ann", text), results.append)
        await self.until_idle()
        for result in results:
            if isinstance(result, LogError):
                raise result
        assert len(results) == len(texts)

    def together(self) -> AbstractContextManager[None]:
        """Publishes in this block are stored in one group."""
        return together(self.log._groups)

    def reading(self, nursery: trio.Nursery, room: str = "lobby", *, limit: int = 9) -> list[str]:
        """Begin to read a room; its texts, once they are there."""
        found: list[str] = []

        async def read() -> None:
            found.extend(record.text for record in await self.hub.reader.read(Range(room, after=0, limit=limit)))

        nursery.start_soon(read)
        return found

    async def until_idle(self) -> None:
        """Wait until no task can run."""
        await trio.testing.wait_all_tasks_blocked()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.log.run, self.news, Program(on_hints=self.hub.follower.on_hints))
            nursery.start_soon(self.hub.run)
            nursery.start_soon(self.schedule.run)
            nursery.start_soon(self._keep_house)
            task_status.started()

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(1.0)
            self.hub.tick()


@asynccontextmanager
async def chatting(
    *, ring_messages: int = 64, ring_bytes: int = 16_384, all_rings_bytes: int = 1 << 20, max_rooms: int = 1000,
    presence_grace: float = GRACE, faults: int = 0, shared: bool = False,
    beside: Chatting | None = None, tell: Callable[[bytes], None] | None = None,
) -> AsyncIterator[Chatting]:  # fmt: skip
    """A hub that runs during the block. Exactly `faults` faults must occur.

    With `beside` it is another process on the same log; with `tell` it has other processes.
    """
    it = Chatting(
        SmallSettings(
            ring_messages=ring_messages,
            ring_bytes=ring_bytes,
            all_rings_bytes=all_rings_bytes,
            max_rooms=max_rooms,
            presence_grace=presence_grace,
        ),
        shared=shared,
        beside=beside,
        tell=tell,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        yield it
        nursery.cancel_scope.cancel()
    assert len(it.sink.faults) + len(it.schedule.faults) == faults, (it.sink.faults, it.schedule.faults)
