"""Chat without a wire: peers that take as many bytes as they are told to, a log that may be slow or fail.

Owns: the fakes and how to read what a peer got. May not: know sockets.

    async with chatting() as it:
        ann = it.peer()
        await it.join(ann, "lobby")
        await it.publish("lobby", "hi")
        assert ann.offsets("lobby") == [1]
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import trio
import trio.testing

from chatserver.chat.hub import Hub
from chatserver.chat.member import Hold, Member, State
from chatserver.chat.ring import Form
from chatserver.log.groups import Outcomes
from chatserver.log.interface import MAX_READ_BYTES, Draft, Head, LogError, LogUnavailable, Record, Stored
from chatserver.log.memory import MemoryLog
from tests.support.groups import together

ENDLESS = 1 << 40


class LineEncoder:
    """Every message a line, so that a test can read it: `M lobby 7 text`."""

    def __init__(self) -> None:
        self.encoded = 0  # messages made into JSON
        self.pushed = 0  # messages made into a frame or an event

    def message(self, record: Record) -> bytes:
        self.encoded += 1
        return record.text.encode()

    def push(self, form: Form, record_json: bytes, room: str, offset: int) -> bytes:
        self.pushed += 1
        return b"M %s %d %s\n" % (room.encode(), offset, record_json)

    def gap(self, form: Form, room: str, after: int, until: int) -> bytes:
        return b"G %s %d %d\n" % (room.encode(), after, until)

    def presence(self, room: str, joined: Sequence[int], left: Sequence[int], members: int) -> bytes:
        names = [",".join(map(str, users)) or "-" for users in (joined, left)]
        return f"P {room} {names[0]} {names[1]} {members}\n".encode()


@dataclass(eq=False)
class Peer:
    """Somebody's connection: takes `space` more bytes, then is behind."""

    number: int
    space: int = ENDLESS
    wire: bytearray = field(default_factory=bytearray)
    rest: list[bytes] = field(default_factory=list)
    is_blocked: bool = False
    gone: bool = False
    dies_at_next_write: bool = False
    members: list[Member] = field(default_factory=list)
    hold: Hold | None = None
    answers: list[list[tuple[str, int]]] = field(default_factory=list)
    resumed: int = 0

    def lines(self) -> list[list[str]]:
        """What came, as words; a last line that is not whole is left out."""
        whole = self.wire[: self.wire.rfind(b"\n") + 1]
        return [line.split() for line in whole.decode().splitlines()]

    def offsets(self, room: str) -> list[int]:
        """Of the messages that came from a room."""
        return [int(words[2]) for words in self.lines() if words[:2] == ["M", room]]

    def gaps(self, room: str) -> list[tuple[int, int]]:
        return [(int(words[2]), int(words[3])) for words in self.lines() if words[:2] == ["G", room]]

    def presence(self, room: str) -> list[tuple[str, str, int]]:
        return [(words[2], words[3], int(words[4])) for words in self.lines() if words[:2] == ["P", room]]

    def reached(self, room: str) -> int:
        """The offset up to which nothing is missing that was not called a gap; raises if there is any fault."""
        at = 0
        for words in self.lines():
            if words[1] != room:
                continue
            if words[0] == "J":
                at = int(words[2])
            elif words[0] == "M":
                assert int(words[2]) == at + 1, f"{room}: {words[2]} came after {at}"
                at += 1
            elif words[0] == "G":
                assert int(words[2]) == at, f"{room}: a gap from {words[2]} was told at {at}"
                assert int(words[3]) > at, "a gap of nothing"
                at = int(words[3])
        return at


class ScriptedOutlet:
    """`Outlet` with the semantics of `net.connections`, over peers that a test rules."""

    def __init__(self) -> None:
        self.hub: Hub | None = None
        self.writes = 0
        self.is_crowded = False
        self.herds: list[bool] = []  # of each answer
        self.chunks: list[bytes] = []  # the very objects that were offered
        self.faults: list[tuple[object, BaseException | None]] = []  # and whose connection each has cost

    def offer(self, connection: object, data: bytes) -> int:
        peer = self._alive(connection)
        if peer.gone:
            return -1
        if peer.is_blocked:
            return 0
        if peer.dies_at_next_write:
            self.die(peer)
            return -1
        self.writes += 1
        self.chunks.append(data)
        taken = min(len(data), peer.space)
        peer.space -= taken
        peer.wire += data[:taken]
        return taken

    def offer_each(self, connections: Sequence[object], data: bytes) -> list[tuple[int, int]]:
        results = [self.offer(connection, data) for connection in connections]
        return [(index, taken) for index, taken in enumerate(results) if taken != len(data)]

    def fault(self, connection: object | None = None) -> None:
        self.faults.append((connection, sys.exception()))
        if connection is not None:
            self.die(self._alive(connection))

    def keep(self, connection: object, chunk: bytes, position: int) -> None:
        peer = self._alive(connection)
        assert not peer.gone, "something was kept for a connection that is closed"
        peer.is_blocked = True
        if position < len(chunk):
            assert position == 0 or not peer.rest, "a part of a frame behind another frame"
            peer.rest.append(chunk[position:])

    def send(self, connection: object, data: bytes) -> None:
        taken = self.offer(connection, data)
        if 0 <= taken < len(data):
            self.keep(connection, data, taken)

    def blocked(self, connection: object) -> bool:
        return self._alive(connection).is_blocked

    def crowded(self) -> bool:
        return self.is_crowded

    def answer(self, hold: Hold, *, herd: bool) -> None:
        self.herds.append(herd)
        peer = self._alive(hold.connection)
        assert peer.hold is hold, "a poll was answered that is not held"
        assert self.hub is not None
        peer.answers.append(hold.places())
        peer.hold = None
        self.hub.release(hold)

    def resume(self, connection: object) -> None:
        self._alive(connection).resumed += 1

    def _alive(self, connection: object) -> Peer:
        assert isinstance(connection, Peer), "a connection that was let go is still in use"
        return connection

    # -- what the test does to a peer -------------------------------------------------------------------------------

    def take(self, peer: Peer, count: int) -> None:
        """The peer takes that many more bytes."""
        peer.space += count
        while peer.is_blocked and not peer.gone:
            if peer.rest:
                data = peer.rest[0]
                taken = min(len(data), peer.space)
                peer.space -= taken
                peer.wire += data[:taken]
                if taken < len(data):
                    peer.rest[0] = data[taken:]
                    return
                del peer.rest[0]
            elif peer.space:
                peer.is_blocked = False
                self._drained(peer)
            else:
                return

    def _drained(self, peer: Peer) -> None:
        assert self.hub is not None
        for member in list(peer.members):
            if member.state is not State.GONE:
                self.hub.drained(member)
            if peer.gone or peer.is_blocked:
                return

    def die(self, peer: Peer) -> None:
        """The connection is closed, by whoever notices."""
        assert self.hub is not None
        if peer.gone:
            return
        peer.gone = True
        peer.rest.clear()
        for member in peer.members:
            self.hub.leave(member)
        peer.members.clear()
        if peer.hold is not None:
            hold, peer.hold = peer.hold, None
            self.hub.release(hold)


class ControlledLog(MemoryLog):
    """The real log in memory, slow and failing where a test wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = 0.0  # s before a read looks, and again before its answer arrives
        self.failing_reads = 0
        self.failing_commits = 0
        self.reads = 0

    async def head(self, room: str) -> Head:
        await self._before()
        found = await super().head(room)
        await trio.sleep(self.delay)
        return found

    async def read(self, room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        await self._before()
        found = await super().read(room, after=after, limit=limit, max_bytes=max_bytes)
        await trio.sleep(self.delay)
        return found

    async def latest(self, room: str, limit: int, *, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        await self._before()
        found = await super().latest(room, limit, max_bytes=max_bytes)
        await trio.sleep(self.delay)
        return found

    async def _before(self) -> None:
        self.reads += 1
        await trio.sleep(self.delay)
        if self.failing_reads:
            self.failing_reads -= 1
            raise LogUnavailable("the disk is having a moment")

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        if self.failing_commits:
            self.failing_commits -= 1
            return [LogUnavailable("the disk is full") for _ in drafts]
        return super()._commit(drafts)


class Chatting:
    """A hub at work."""

    def __init__(self, *, ring_messages: int, ring_bytes: int, all_rings_bytes: int, max_rooms: int) -> None:
        self.log = ControlledLog()
        self.encoder = LineEncoder()
        self.outlet = ScriptedOutlet()
        self.failures: list[LogError] = []
        self.hub = Hub(
            self.log, self.encoder, self.outlet, ring_messages=ring_messages, ring_bytes=ring_bytes,
            all_rings_bytes=all_rings_bytes, max_rooms=max_rooms, note_failure=self.failures.append,
        )  # fmt: skip
        self.outlet.hub = self.hub
        self.told: dict[tuple[str, int], str] = {}  # every message that was news
        self.numbers = count(1)

    def peer(self, *, space: int = ENDLESS) -> Peer:
        return Peer(next(self.numbers), space=space)

    def news(self, records: Sequence[Record]) -> None:
        """What the log calls."""
        for record in records:
            self.told[record.room, record.offset] = record.text
        self.hub.news(records)

    async def join(self, peer: Peer, name: str, *, back: int = 0, form: Form = Form.FRAMES) -> Member:
        """Become a member from `back` messages ago on. Raises LogError."""
        async with self.hub.using(name) as room:
            cursor = max(room.last - back, 0)
            member = self.hub.attach(room, peer, form=form, user=peer.number, cursor=cursor)
            peer.members.append(member)
            self.outlet.send(peer, b"J %s %d\n" % (name.encode(), cursor))
            if not peer.gone:
                self.hub.pump.deliver(member)
            return member

    async def fill(self, name: str, count: int) -> None:
        """So many become members."""
        for _ in range(count):
            await self.join(self.peer(), name)

    def leave(self, member: Member) -> None:
        peer = member.connection
        assert isinstance(peer, Peer)
        peer.members.remove(member)
        self.hub.leave(member)

    async def poll(self, peer: Peer, *names: str) -> Hold:
        """Hold a poll for whatever comes next."""
        await self.hub.load(names)
        return self.hold_now(peer, names)

    def hold_now(self, peer: Peer, names: Sequence[str]) -> Hold:
        """The same for rooms that are in memory."""
        hold = Hold(peer, peer.number, limit=50, many=len(names) > 1, keep_alive=True)
        rooms = [self.hub.rooms[name] for name in names]
        peer.hold = hold
        self.hub.park(hold, [(room, room.last) for room in rooms])
        return hold

    async def publish(self, name: str, *texts: str) -> None:
        """Publish, and let everything that follows from it happen. Raises LogError."""
        results: list[Stored | LogError] = []
        with self.together():
            for text in texts:
                self.hub.publish(Draft(name, "u_1", "Ann", text), results.append)
        await self.settle()
        for result in results:
            if isinstance(result, LogError):
                raise result
        assert len(results) == len(texts)

    def together(self) -> AbstractContextManager[None]:
        """What is published in here is stored in one group."""
        return together(self.log._groups)

    async def settle(self) -> None:
        """Until nobody can do anything more without time passing."""
        await trio.testing.wait_all_tasks_blocked()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.log.run, self.news)
            nursery.start_soon(self.hub.run)
            nursery.start_soon(self._keep_house)
            task_status.started()

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(1.0)
            self.hub.tick()


@asynccontextmanager
async def chatting(
    *, ring_messages: int = 64, ring_bytes: int = 16_384, all_rings_bytes: int = 1 << 20, max_rooms: int = 1000,
    faults: int = 0,
) -> AsyncIterator[Chatting]:  # fmt: skip
    """Runs until the end of the block; `faults` that the test plants."""
    it = Chatting(
        ring_messages=ring_messages, ring_bytes=ring_bytes, all_rings_bytes=all_rings_bytes, max_rooms=max_rooms
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        yield it
        nursery.cancel_scope.cancel()
    assert len(it.outlet.faults) == faults, it.outlet.faults
