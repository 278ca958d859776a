"""One room in memory: its ring, who is there, and how far the pump has come.

Owns: the facts of a room and the arithmetic on them. May not: send, wait, or decide when a room leaves memory.
"""

from collections import deque
from enum import Enum, IntEnum, auto

import trio

from chatserver.chat.member import Hold, Member
from chatserver.chat.presence import Presence
from chatserver.chat.ring import Encoder, Ring
from chatserver.chat.shelf import Shelf

#: The share of a ring that may wait to be offered before publishers are paused. A publisher that laps the ring would
#: make gaps for members that are not slow at all.
CONGESTED_SHARE = 2


class Life(Enum):
    """Whether a room can be used."""

    LOADING = auto()  # its newest messages are being read from the log; news is noted, not kept
    READY = auto()
    FAILED = auto()  # the log could not be read
    CALLED_OFF = auto()  # whoever had it read waits no longer


class Due(IntEnum):
    """What the pump has a room queued for."""

    NOTHING = 0
    NOTICE = 1  # presence, which can wait
    NEWS = 2


class Walk:
    """One pass of the pump over all members who were there when it began."""

    __slots__ = ("at", "members", "notice", "reaches", "written")

    def __init__(self, room: "Room") -> None:
        self.members = list(room.members)
        self.at = 0
        self.notice = b""  # presence, if that is told as well
        self.reaches = room.ring.last
        self.written = room.ring.written


class Room:
    """See the module."""

    __slots__ = (
        "_max_bytes", "_max_count", "_shelf", "cache", "epoch", "first", "herd", "holds", "life", "loaded", "members",
        "name", "offered", "offered_bytes", "paused", "pending", "pending_bytes", "pins", "presence",
        "queued", "ring", "seen", "telling", "told", "told_bytes", "waking", "walk", "woken", "woken_bytes",
    )  # fmt: skip

    def __init__(
        self, name: str, epoch: str, encoder: Encoder, *, ring_messages: int, ring_bytes: int, shelf: Shelf
    ) -> None:  # fmt: skip
        self.name = name
        self.epoch = epoch
        self.ring = Ring(name, encoder, max_count=ring_messages, max_bytes=ring_bytes, shelf=shelf)
        self.first = 1  # oldest offset the log keeps
        self.members: dict[Member, None] = {}
        self.holds: dict[Hold, None] = {}
        self.presence = Presence()
        self.telling: float | None = None  # since when presence waits to be told by the next walk
        self.paused: list[object] = []  # publishing connections that wait for the pump
        self.pending = 0  # messages handed to the log and not yet news
        self.pending_bytes = 0
        self.offered = self.offered_bytes = 0  # every member was offered what comes up to here
        self.walk: Walk | None = None
        self.waking: deque[Hold] | None = None  # held polls that are being answered, see the pump
        self.herd = False  # whether these are many
        self.woken = self.woken_bytes = 0  # the newest when that began last
        self.told = self.told_bytes = 0  # whoever is being answered knows what comes up to here
        self.queued = Due.NOTHING
        self.cache: dict[object, bytes] = {}  # answers that are the same for everybody, see `remember`
        self.life = Life.LOADING
        self.loaded: trio.Event | None = trio.Event()  # until it is ready
        self.seen = 0  # highest offset in the news while loading
        self.pins = 0  # tasks that will use it after a wait
        self._shelf = shelf
        self._max_count = ring_messages
        self._max_bytes = ring_bytes

    def end_loading(self, life: Life) -> None:
        """Say how it ended to all who wait for that."""
        self.life = life
        if self.loaded is not None:
            self.loaded.set()
            self.loaded = None

    @property
    def last(self) -> int:
        """The newest offset."""
        return self.ring.last

    @property
    def empty(self) -> bool:
        """Whether nobody would miss it in memory."""
        # Not `pending` or `walk`: they hold the room themselves, and nobody would look again when they end.
        return not (self.members or self.holds or self.pins or self.presence)

    @property
    def due(self) -> Due:
        """What its members may lack, or its publishers wait for."""
        if self.ring.last > self.offered or self.paused:
            return Due.NEWS
        return Due.NOTICE

    @property
    def congested(self) -> bool:
        """Whether half a ring, by count or bytes, is published and not yet offered to the members, or to held polls.

        A poll that the ring laps while it waits for its answer is answered from the log, by a task of its own.
        """
        reached, reached_bytes = self.offered, self.offered_bytes
        if self.waking is not None:
            reached, reached_bytes = min(reached, self.told), min(reached_bytes, self.told_bytes)
        elif not self.members:
            return False
        count = self.ring.last - reached + self.pending
        size = self.ring.written - reached_bytes + self.pending_bytes
        return count * CONGESTED_SHARE > self._max_count or size * CONGESTED_SHARE > self._max_bytes

    def walked(self, *, reaches: int, written: int) -> None:
        """Every member was offered what was there when a walk began."""
        self.offered, self.offered_bytes = reaches, written

    def wake(self) -> None:
        """Begin to answer all polls that are held now. They know what the last walk or waking began with: those who
        were held at that time were answered, and the others came when it was there.
        """
        self.told = max(self.woken, self.offered)
        self.told_bytes = max(self.woken_bytes, self.offered_bytes)
        self.woken, self.woken_bytes = self.ring.last, self.ring.written
        self.waking = deque(self.holds)

    def remember(self, key: object, answer: bytes) -> None:
        """Keep an answer for all who will ask the same until the next message. How many, the caller bounds."""
        self.cache[key] = answer
        self._shelf.used += len(answer)

    def forget_answers(self) -> None:
        """They are not what would be answered now."""
        if self.cache:
            self._shelf.used -= sum(map(len, self.cache.values()))
            self.cache.clear()

    def cut(self, most: int) -> None:
        """Keep no more bytes than this."""
        self.forget_answers()
        self.ring.cut(most)
