"""Notices of a room besides messages and presence: who types, and how far a user has read.

Owns: the notices that wait, and how often they are sent. May not: send, or read a clock.

Notices are never stored, and a connection that is behind misses them. A pass over the members takes all that wait, at
most once a second, so that a room costs the same whether one person types or fifty.
"""

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from chatserver.chat.principal import Principal
from chatserver.log.interface import MESSAGE, Record

#: Seconds between two passes for the notices of a room.
NOTICE_EVERY = 1.0
#: Seconds for which a person's typing is not announced again, unless a message of theirs came in between, and after
#: which an unsent notice of it is dropped.
TYPING_EVERY = 3.0
#: People announced as typing in one pass: clients name two or three. Of a stranger's crowd that types, eight with long
#: names took 2 KB a second of each member's line.
MAX_TYPING = 3
#: People whose typing is remembered in a room: 100 a second.
MAX_REMEMBERED = 300
#: Users whose read marker is sent in one pass (only users with another connection in the room are noted).
MAX_READS = 1_000


class Move(NamedTuple):
    """A read marker that was moved, and the connection that moved it, which needs no notice."""

    offset: int
    connection: object


class Notices:
    """The notices of one room; most rooms have no such object."""

    __slots__ = ("_sent_at", "_typed", "announced", "reads", "typing")

    def __init__(self) -> None:
        self.typing: dict[str, Principal] = {}  # by id: people whose typing is not announced yet
        self.reads: dict[int, Move] = {}
        self.announced: float | None = None  # since when they wait for the next pass
        self._typed: dict[str, float] = {}  # when each person typed, the earliest first
        self._sent_at = -math.inf

    def types(self, principal: Principal, now: float) -> None:
        """A user types; ignored if that was noted less than TYPING_EVERY ago."""
        self._forget(now)
        user = principal.author.id
        if user not in self._typed and len(self._typed) < MAX_REMEMBERED:
            self._typed[user] = now
            self.typing[user] = principal

    def written(self, records: Sequence[Record]) -> None:
        """Drop the typing of the authors of new messages: a notice of it would come after the message."""
        for record in records:
            if record.kind is MESSAGE:
                self._typed.pop(record.user_id, None)
                self.typing.pop(record.user_id, None)

    def moved(self, number: int, offset: int, connection: object) -> None:
        before = self.reads.get(number)
        if before is None and len(self.reads) >= MAX_READS:
            return
        if before is None or before.offset < offset:
            self.reads[number] = Move(offset, connection)

    def _forget(self, now: float) -> None:
        for user in list(takewhile(lambda each: self._typed[each] + TYPING_EVERY <= now, self._typed)):
            del self._typed[user]
            self.typing.pop(user, None)

    def may_send(self, now: float) -> bool:
        """Whether there are notices, and the last pass was long enough ago."""
        self._forget(now)
        return bool(self.typing or self.reads) and now >= self._sent_at + NOTICE_EVERY

    def announce(self, now: float) -> None:
        """Leave the notices to the next pass."""
        self.announced = self._sent_at = now

    def take(self) -> tuple[list[Principal], dict[int, Move]]:
        """Take the notices: people who type (more than MAX_TYPING wait for the next pass), and moved markers."""
        self.announced = None
        users = list(self.typing)[:MAX_TYPING]
        reads, self.reads = self.reads, {}
        return [self.typing.pop(user) for user in users], reads

    def idle(self, now: float) -> bool:
        """Whether the object can be dropped without losing anything."""
        self._forget(now)
        return not (self._typed or self.reads) and now >= self._sent_at + NOTICE_EVERY
