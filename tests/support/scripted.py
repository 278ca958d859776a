"""A chat under a test's control: peers, a sink over them, a schedule of single steps.

Owns: the fakes of `chat.sink`, and how to read what a peer got. May not: know a hub's insides, or sockets.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter, Source
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding
from chatserver.chat.room import Room
from chatserver.log.interface import Record

ENDLESS = 1 << 40
#: The default network of peers.
HERE = "192.0.2.1"


class LineEncoding(Encoding):
    """Each message is a line that a test can read: `M lobby 7 text`."""

    def __init__(self, *, tells_presence: bool = True) -> None:
        self.pushed = 0  # messages made into a frame or an event
        self._tells_presence = tells_presence

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        self.pushed += 1
        return b"M %s %d %s\n" % (room.encode(), offset, message)

    def gap(self, room: str, after: int, until: int) -> bytes:
        return b"G %s %d %d\n" % (room.encode(), after, until)

    def presence(self, room: str, joined: Sequence[Principal], left: Sequence[Principal], members: int) -> bytes:
        if not self._tells_presence:
            return b""
        names = [",".join(str(each.number) for each in people) or "-" for people in (joined, left)]
        return f"P {room} {names[0]} {names[1]} {members}\n".encode()

    def typing(self, room: str, who: Principal) -> bytes:
        return f"T {room} {who.number}\n".encode() if self._tells_presence else b""

    def read(self, room: str, offset: int) -> bytes:
        return f"R {room} {offset}\n".encode() if self._tells_presence else b""


class LineEncoder:
    """The encoder, with the two encodings that tests use."""

    def __init__(self) -> None:
        self.encoded = 0  # messages made into JSON
        self.restatements = 0  # messages whose state alone was encoded again
        self.frames = LineEncoding()
        self.events = LineEncoding(tells_presence=False)

    @property
    def pushed(self) -> int:
        """Frames and events made."""
        return self.frames.pushed + self.events.pushed

    def message(self, record: Record) -> bytes:
        self.encoded += 1
        return record.text.encode()

    def restated(self, message: bytes, record: Record) -> bytes:
        assert message == record.text.encode(), "only its state has changed"
        self.restatements += 1
        return message

    def emptied(self, edit: bytes) -> bytes:
        return b""


@dataclass(eq=False)
class Peer:
    """A connection that takes `space` more bytes and then blocks."""

    number: int
    space: int = ENDLESS
    network: str = HERE
    wire: bytearray = field(default_factory=bytearray)
    rest: list[bytes] = field(default_factory=list)
    is_blocked: bool = False
    gone: bool = False
    dies_at_next_write: bool = False
    members: list[Member] = field(default_factory=list)
    waiter: PollWaiter | None = None
    paused_in: list[Room] = field(default_factory=list)
    answers: list[list[tuple[str, int]]] = field(default_factory=list)
    resumed: int = 0

    @property
    def principal(self) -> Principal:
        return Principal(self.number, self.network)

    def lines(self) -> list[list[str]]:
        """The whole lines that came, as words."""
        whole = self.wire[: self.wire.rfind(b"\n") + 1]
        return [line.split() for line in whole.decode().splitlines()]

    def offsets(self, room: str) -> list[int]:
        """The offsets of the messages that came from a room."""
        return [int(words[2]) for words in self.lines() if words[:2] == ["M", room]]

    def gaps(self, room: str) -> list[tuple[int, int]]:
        return [(int(words[2]), int(words[3])) for words in self.lines() if words[:2] == ["G", room]]

    def presence(self, room: str) -> list[tuple[str, str, int]]:
        return [(words[2], words[3], int(words[4])) for words in self.lines() if words[:2] == ["P", room]]

    def typing(self, room: str) -> list[int]:
        return [int(words[2]) for words in self.lines() if words[:2] == ["T", room]]

    def reads(self, room: str) -> list[int]:
        return [int(words[2]) for words in self.lines() if words[:2] == ["R", room]]

    def reached(self, room: str) -> int:
        """The offset reached in a room. Raises if a message is missing without a gap, or out of order."""
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


class ScriptedSink:
    """A `Sink` with the semantics of `net.connections`, over scripted peers."""

    def __init__(self) -> None:
        self.hub: Hub | None = None
        self.writes = 0
        self.faults: list[Exception] = []
        self.before_offer: Callable[[Peer], None] | None = None  # called at each write
        self.chunks: list[bytes] = []  # the offered objects themselves

    def offer(self, connection: object, data: bytes) -> int:
        peer = self._alive(connection)
        if peer.gone:
            return -1
        if peer.is_blocked:
            return 0
        if self.before_offer is not None:
            self.before_offer(peer)
        if peer.dies_at_next_write:
            self.die(peer)
            return -1
        self.writes += 1
        self.chunks.append(data)
        taken = min(len(data), peer.space)
        peer.space -= taken
        peer.wire += data[:taken]
        return taken

    def offer_each(self, connections: list[object], data: bytes) -> list[tuple[object, int]]:
        results = [(connection, self._offer_guarded(connection, data)) for connection in connections]
        return [(connection, taken) for connection, taken in results if taken != len(data)]

    def _offer_guarded(self, connection: object, data: bytes) -> int:
        try:
            return self.offer(connection, data)
        except Exception as error:  # noqa: BLE001  as of `step`
            self.faults.append(error)
            self.die(self._alive(connection))
            return -1

    def keep(self, connection: object, chunk: bytes, position: int) -> None:
        peer = self._alive(connection)
        assert not peer.gone, "a backlog was kept for a closed connection"
        peer.is_blocked = True
        if position < len(chunk):
            assert position == 0 or not peer.rest, "a part of a frame after another frame"
            peer.rest.append(chunk[position:])

    def send(self, connection: object, data: bytes) -> None:
        taken = self.offer(connection, data)
        if 0 <= taken < len(data):
            self.keep(connection, data, taken)

    def blocked(self, connection: object) -> bool:
        return self._alive(connection).is_blocked

    def answer(self, waiter: PollWaiter) -> None:
        peer = self._alive(waiter.connection)
        assert peer.waiter is waiter, "a poll that is not held was answered"
        assert self.hub is not None
        peer.answers.append([(room.name, after) for room, after in waiter.places()])
        peer.waiter = None
        self.hub.release(waiter)

    def resume(self, connection: object) -> None:
        self._alive(connection).resumed += 1

    def step(self, connection: object, act: Callable[..., object], *arguments: object) -> None:
        peer = self._alive(connection)
        if peer.gone:
            return
        try:
            act(peer, *arguments)
        except Exception as error:  # noqa: BLE001  as the fault boundary of a connection does
            self.faults.append(error)
            self.die(peer)

    def _alive(self, connection: object) -> Peer:
        assert isinstance(connection, Peer), "a released connection is still in use"
        return connection

    # -- control of a peer --------------------------------------------------------------------------------------------

    def take(self, peer: Peer, count: int) -> None:
        """Let the peer take `count` more bytes."""
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
                self._writable(peer)
            else:
                return

    def take_all(self, peers: Iterable[Peer]) -> None:
        """Let each of these peers take everything."""
        for peer in peers:
            self.take(peer, ENDLESS)

    def _writable(self, peer: Peer) -> None:
        assert self.hub is not None
        for member in list(peer.members):
            if member.source is not Source.NOTHING:
                self.hub.writable(member)
            if peer.gone or peer.is_blocked:
                return

    def die(self, peer: Peer) -> None:
        """Close the connection."""
        assert self.hub is not None
        if peer.gone:
            return
        peer.gone = True
        peer.rest.clear()
        for member in peer.members:
            self.hub.lost(member)
        peer.members.clear()
        for room in peer.paused_in:
            room.forget_publisher(peer)
        if peer.waiter is not None:
            waiter, peer.waiter = peer.waiter, None
            self.hub.release(waiter)


class StepSchedule:
    """A `Schedule` of single steps: all other tasks run between two steps."""

    def __init__(self) -> None:
        self.faults: list[object] = []  # items with a fault
        self._soon: deque[tuple[Callable[[Any], bool], Any]] = deque()
        self._later: deque[tuple[Callable[[Any], bool], Any]] = deque()
        self._asked = trio.Event()

    @property
    def waiting(self) -> int:
        return len(self._soon) + len(self._later)

    def soon(self, step: Callable[[Any], bool], item: object, network: Hashable = "") -> None:
        self._soon.append((step, item))
        self._asked.set()

    def own(self, step: Callable[[Any], bool], item: object) -> None:
        self.soon(step, item)

    def faulted(self, item: object) -> None:
        self.faults.append(item)

    async def run(self) -> None:
        while True:
            if not self.waiting:
                self._asked = trio.Event()
                await self._asked.wait()
            step, item = (self._soon or self._later).popleft()
            try:
                if step(item):
                    self._later.append((step, item))
            except Exception:  # noqa: BLE001  as the scheduler's fault boundary does
                self.faulted(item)
            await trio.lowlevel.checkpoint()
