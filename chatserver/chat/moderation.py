"""The sanctions in force: mutes and bans, of a user or a network, in one room or all, with their end.

Owns: the table of them, and the answer to one question: may this principal do this here, now. May not: wait, store
a sanction, or know a connection; `apply` is called with each enforcement.

Nothing is kept for an idle connection. A publish of somebody against whom nothing is in force costs two lookups in a
dict, however many sanctions there are.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec
import trio

from chatserver.chat.policy import MODERATE, WRITE, Action
from chatserver.chat.principal import Principal, number_behind
from chatserver.log.interface import system_ms
from chatserver.log.sanctions import EVERYWHERE, Penalty, Sanction

#: Sanctions checked for expiry once a second: 0.1 ms. An expired one has no effect even before it is removed.
SWEEP = 500

#: The number of a principal, or a network.
_Key: TypeAlias = int | str
#: Sanctions by that key, then by room.
_Table: TypeAlias = dict[_Key, dict[str, tuple[Sanction, ...]]]


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The reason for a refusal, and the seconds until it ends; None: when it is lifted."""

    sentence: str
    seconds_left: float | None


class Enforcement:
    """What a mute, ban or kick does to open connections of a user or a network; `over` is set once it is done."""

    def __init__(self, *, kind: Penalty | None, room: str, key: _Key, refusal: Refusal) -> None:
        self.kind = kind  # None: a kick
        self.room = room
        self.refusal = refusal  # the message to the user
        self._key = key
        self.ended = 0  # memberships, held polls and connections that were ended, leases of lost ones included
        self.over = trio.Event()

    def concerns(self, principal: Principal) -> bool:
        """Whether this principal, or its network, is meant."""
        return self._key in (principal.number, principal.network)

    def applies(self, principal: Principal, room: str) -> bool:
        """Whether it applies to a principal that it concerns in this room."""
        return self.room in (room, EVERYWHERE) and (principal.number == self._key or not _is_spared(principal, room))


class Moderation:
    """See the module. `secret` is the log's."""

    def __init__(
        self, secret: bytes = b"", *, apply: Callable[[Enforcement], None] = lambda enforcement: None,
        wall_ms: Callable[[], int] = system_ms,
    ) -> None:  # fmt: skip
        self.wall_ms = wall_ms
        self._secret = secret
        self.apply = apply
        self.in_force: dict[int, Sanction] = {}  # by id
        self.refused: dict[Penalty, int] = dict.fromkeys(Penalty, 0)
        self._by_key: _Table = {}  # the same, where they are looked for
        self._unswept: list[Sanction] = []  # those that `sweep` has not checked yet
        self._changed: set[int] | None = None  # ids made or lifted since a read of the log began, while there is one

    def check(self, principal: Principal, action: Action, room: str) -> Refusal | None:
        """Refuse an action that is forbidden in this room now, which counts; None: it is allowed."""
        found = self.sanction_on(principal, action, room)
        if found is None:
            return None
        self.refused[found.kind] += 1
        return self.refusal(found)

    def sanction_on(self, principal: Principal, action: Action, room: str) -> Sanction | None:
        """What forbids an action in this room now."""
        if not self.concerns(principal):
            return None
        found = self._find(principal.number, action, room)
        if found is None and not _is_spared(principal, room):
            found = self._find(principal.network, action, room)
        return found

    def concerns(self, principal: Principal) -> bool:
        """Whether anything is in force against this user or network, in whatever room."""
        return principal.number in self._by_key or principal.network in self._by_key

    def _find(self, key: _Key, action: Action, room: str) -> Sanction | None:
        """The sanction that forbids an action for the longest time."""
        by_room = self._by_key.get(key)
        if by_room is None:
            return None
        now = self.wall_ms()
        found = None
        for place in (room, EVERYWHERE):
            for each in by_room.get(place, ()):
                if (each.kind is Penalty.BAN or action is WRITE) and not each.expired(now):
                    found = each if found is None else max(found, each, key=_end)
        return found

    def refusal(self, sanction: Sanction) -> Refusal:
        """The message about a sanction to its user."""
        where = "here" if sanction.room == EVERYWHERE else f"in {sanction.room}"
        what = f"you may not write {where}" if sanction.kind is Penalty.MUTE else f"you are banned {where}"
        left = max(0.0, (sanction.until - self.wall_ms()) / 1000) if sanction.until else None
        until = "" if left is None else f" for another {_in_words(left)}"
        reason = f": {sanction.reason}" if sanction.reason else ""
        return Refusal(f"{what}{until}{reason}", left)

    def enforce(self, sanction: Sanction) -> Enforcement | None:
        """Put a sanction in force, in place of an earlier one of its kind, key and room, and apply it."""
        key = self._key(sanction)
        for each in self._by_key.get(key, {}).get(sanction.room, ()):
            if each.kind is sanction.kind:
                if each.id > sanction.id:
                    return None  # a later sanction was put in force first, since its task resumed earlier
                self.lift(each.id)
        self._add(sanction)
        enforcement = Enforcement(kind=sanction.kind, room=sanction.room, key=key, refusal=self.refusal(sanction))
        self.apply(enforcement)
        return enforcement

    def kick(self, user: str, room: str, reason: str) -> Enforcement:
        """Take a user out of a room; the user may come back."""
        why = f": {reason}" if reason else ""
        sentence = f"a moderator has taken you out of this room{why}; you may come back"
        key = self.number_behind(user)
        enforcement = Enforcement(kind=None, room=room, key=key, refusal=Refusal(sentence, None))
        self.apply(enforcement)
        return enforcement

    def restore(self, sanctions: Iterable[Sanction]) -> None:
        """Put back the sanctions from before a restart, when there are no connections yet."""
        for each in sanctions:
            self._add(each)

    def before_read(self) -> None:
        """Note that a read of the log begins; `renew` gets its result."""
        self._changed = set()

    def renew(self, sanctions: Iterable[Sanction]) -> Iterator[None]:
        """Adopt the sanctions read from the log, one after the other.

        Sanctions made or lifted here since the read began stay as they are here.
        """
        changed, found = self._changed, set()
        assert changed is not None, "`before_read` was called"
        for each in sanctions:
            found.add(each.id)
            if each.id not in self.in_force and each.id not in changed:
                self.enforce(each)
            yield
        for id_ in list(self.in_force):
            if id_ not in found and id_ not in changed:
                self.lift(id_)
            yield
        self._changed = None

    def lift(self, id_: int) -> None:
        """Lift a sanction; harmless if it was not in force."""
        if self._changed is not None:
            self._changed.add(id_)
        sanction = self.in_force.pop(id_, None)
        if sanction is None:
            return
        key = self._key(sanction)
        by_room = self._by_key[key]
        left = tuple(each for each in by_room[sanction.room] if each.id != id_)
        if left:
            by_room[sanction.room] = left
            return
        del by_room[sanction.room]
        if not by_room:
            del self._by_key[key]

    def sweep(self) -> None:
        """Remove some of the expired sanctions; called once a second."""
        if not self._unswept:
            self._unswept = list(self.in_force.values())
        now = self.wall_ms()
        for each in self._unswept[-SWEEP:]:
            if each.expired(now):
                self.lift(each.id)
        del self._unswept[-SWEEP:]

    def _add(self, sanction: Sanction) -> None:
        if self._changed is not None:
            self._changed.add(sanction.id)
        self.in_force[sanction.id] = sanction
        by_room = self._by_key.setdefault(self._key(sanction), {})
        by_room[sanction.room] = (*by_room.get(sanction.room, ()), sanction)

    def _key(self, sanction: Sanction) -> _Key:
        return sanction.network or self.number_behind(sanction.user)

    def number_behind(self, user: str) -> int:
        """The number of the user or guest with this id."""
        return number_behind(user, self._secret)


def _in_words(seconds: float) -> str:
    """A length of time, rounded up, in the largest unit of which there are two."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds > 1.95 * size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{math.ceil(seconds)} s"


def _is_spared(principal: Principal, room: str) -> bool:
    """Whether sanctions of its network spare a principal: in a room that it moderates.

    A moderator of any room may do what concerns no room, such as opening a WebSocket.
    """
    return bool(principal.rights.moderates) if room == EVERYWHERE else principal.may(MODERATE, room)


def _end(sanction: Sanction) -> float:
    return sanction.until or math.inf
