"""One room in memory: its people and its newest messages.

Owns: the facts of a room. May not: send, wait, or decide when a room leaves memory.

A ring is made at the room's first message: any client can name a room, so a room without messages must cost little.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.notices import Notices
from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Ring, RingSize

if TYPE_CHECKING:
    from chatserver.chat.broadcast import Broadcast, PollPass

#: Publishers are paused when 1/CONGESTED_SHARE of a ring is not yet offered to the members. A publisher that laps the
#: ring would make gaps for members that are not slow at all.
CONGESTED_SHARE = 2


class _OneMember(Mapping[Member, Principal]):
    """The table of members of a room that has one: a dict would take 190 bytes more."""

    __slots__ = ("_member", "_principal")

    def __init__(self, member: Member, principal: Principal) -> None:
        self._member = member
        self._principal = principal

    def __getitem__(self, member: Member) -> Principal:
        if member is not self._member:
            raise KeyError(member)
        return self._principal

    def __iter__(self) -> Iterator[Member]:
        return iter((self._member,))

    def __len__(self) -> int:
        return 1


_NO_MEMBERS: Final[Mapping[Member, Principal]] = MappingProxyType({})


class Room:
    __slots__ = (
        "_size", "answering", "broadcast", "cache", "expected", "first", "members", "name", "network", "notices",
        "offered", "offered_bytes", "paused", "pending", "pending_bytes", "pins", "presence", "presence_since",
        "ready", "resuming", "ring", "uninformed", "waiters",
    )  # fmt: skip

    def __init__(self, name: str, size: RingSize, presence: Presence, *, network: str) -> None:
        self.name = name
        self.network = network  # whose connection had it loaded: the room counts towards the share of this network
        self.ring: Ring | None = None
        self.first = 1  # oldest offset the log keeps
        self.members = _NO_MEMBERS
        self.uninformed: set[Member] | None = None  # members that were blocked when presence was sent
        self.waiters: dict[PollWaiter, None] | None = None
        self.presence = presence
        self.presence_since: float | None = None  # since when presence waits for the next pass
        self.notices: Notices | None = None  # other notices that wait
        self.broadcast: Broadcast | None = None  # the pass over its members that is under way
        self.answering: PollPass | None = None  # the pass over its held polls that is under way
        self.paused: dict[object, None] | None = None  # publishing connections that wait for its members
        self.resuming = False  # whether a step is queued that resumes more of these
        self.pending = 0  # messages handed to the log and not yet answered
        self.pending_bytes = 0
        self.offered = self.offered_bytes = 0  # offset, and `Ring.written`, up to which every member was offered all
        self.cache: dict[object, bytes] | None = None  # answers that are the same for all readers, see `remember`
        self.ready = False  # False while its newest messages are loaded: news is noted (`expected`), but not appended
        self.expected = 0  # the highest offset that the log may have, see `Follower`
        self.pins = 0  # tasks that will use it after a wait
        self._size = size

    @property
    def last(self) -> int:
        """The newest offset; 0 when there are no messages."""
        return 0 if self.ring is None else self.ring.last

    def make_ring(self, last: int) -> Ring:
        """Make the ring, which begins after this offset."""
        self.ring = ring = Ring(self.name, self._size, last=last)
        return ring

    def put_member(self, member: Member, principal: Principal) -> None:
        """Add a member, or give it another principal."""
        members = self.members
        if isinstance(members, dict):
            members[member] = principal
        elif not members or member in members:
            self.members = _OneMember(member, principal)
        else:
            self.members = {**members, member: principal}

    def remove_member(self, member: Member) -> Principal:
        """Remove a member, which must be there."""
        members = self.members
        principal = members[member]
        if len(members) == 1:  # also of a dict: an emptied one keeps the memory of its largest size
            self.members = _NO_MEMBERS
        elif isinstance(members, dict):
            del members[member]
        return principal

    @property
    def empty(self) -> bool:
        """Whether the room may leave memory."""
        # `pending` and `broadcast` do not count: they keep a reference, and `note_empty` is not called when they end.
        return not (self.members or self.waiters or self.pins or self.presence.seen_elsewhere)

    @property
    def congested(self) -> bool:
        """Whether half a ring, by count or bytes, is published and not yet offered to the members."""
        if not self.members:
            return False
        count, size = self.pending, self.pending_bytes
        if self.ring is not None:
            count += self.ring.last - self.offered
            size += self.ring.written - self.offered_bytes
        return count * CONGESTED_SHARE > self._size.max_count or size * CONGESTED_SHARE > self._size.max_bytes

    def pause(self, connection: object) -> None:
        """Note a publisher that is ahead of the members, to be resumed once the broadcast has caught up."""
        if self.paused is None:
            self.paused = {}
        self.paused[connection] = None

    def is_paused(self, connection: object) -> bool:
        return self.paused is not None and connection in self.paused

    def forget_publisher(self, connection: object) -> None:
        """A publisher no longer waits; harmless if it did not."""
        if self.paused is not None:
            self.paused.pop(connection, None)

    def all_offered(self) -> None:
        """Note that no member lacks anything."""
        if self.ring is not None:
            self.offered, self.offered_bytes = self.ring.last, self.ring.written

    def remember(self, key: object, answer: bytes) -> None:
        """Cache an answer for equal requests until the next message. The caller bounds the number of answers."""
        if self.cache is None:
            self.cache = {}
        self._size.budget.add(len(answer))
        self.cache[key] = answer

    def forget_answers(self) -> None:
        if self.cache is not None:
            self._size.budget.add(-sum(map(len, self.cache.values())))
            self.cache = None

    def cut(self, most: int) -> None:
        """Keep at most this many bytes."""
        self.forget_answers()
        if self.ring is not None:
            self.ring.cut(most)

    def released(self) -> None:
        """Free what is charged to the budget: the room leaves memory."""
        self.forget_answers()
        if self.ring is not None:
            self.ring.released()
