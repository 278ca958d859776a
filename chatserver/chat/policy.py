"""Who may do what in which room.

Owns: the rights that somebody brings along, the policy of a room, and the decision. May not: know who it is, or what a
token looks like.

    access = Access(Policies(settings.rooms), Guests.FULL)
    access.may(rights, Action.WRITE, "staff-only")

The same answer for a room that exists and one that does not: only the name is looked at.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from fnmatch import translate
from functools import lru_cache, partial

import msgspec

from chatserver.settings.rooms import Guests, RoomPolicy, Who

#: Rooms whose policy is remembered; finding it again costs 0.3 µs for each pattern before the one that fits.
ROOMS_REMEMBERED = 4096
#: Rights that several people have alike, as one object: tokens of one issuer say the same of most.
RIGHTS_REMEMBERED = 1024
#: Patterns of rooms in one token, and characters of each: a room's name has at most 64.
MAX_GRANTS = 100
MAX_GRANT_CHARS = 64
#: Of these, such as are more than a name or the beginning of names: each is 0.1 ms of work.
MAX_COSTLY_GRANTS = 10

_SPECIAL = re.compile(r"[*?\[]")


class Action(Enum):
    """What may be allowed in a room."""

    READ = auto()
    WRITE = auto()
    MODERATE = auto()


class Policies:
    """The policies of all rooms: the first pattern in the file's order that fits a name counts."""

    def __init__(self, rooms: Sequence[tuple[str, RoomPolicy]] = ()) -> None:
        self._rules = [(matcher(pattern), policy) for pattern, policy in rooms]
        self._default = RoomPolicy()
        self.of: Callable[[str], RoomPolicy] = lru_cache(ROOMS_REMEMBERED)(self._find)

    @property
    def retain(self) -> bool:
        """Whether some rooms keep their messages by a rule of their own."""
        return any(policy.retain_count is not None or policy.retain_age is not None for _, policy in self._rules)

    def keeps(self, messages: int, age_ms: int, room: str) -> tuple[int, int]:
        """How many messages a room keeps, and for how many ms, where others keep these; 0: no bound."""
        policy = self.of(room)
        count = messages if policy.retain_count is None else policy.retain_count
        return count, age_ms if policy.retain_age is None else int(policy.retain_age * 1000)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def _find(self, room: str) -> RoomPolicy:
        for matches, policy in self._rules:
            if matches(room):
                return policy
        return self._default


def matcher(pattern: str) -> Callable[[str], object]:
    """What tells whether a room's name fits a pattern; a regular expression, 0.1 ms to make, for those that need it."""
    if not _SPECIAL.search(pattern):
        return pattern.__eq__
    if _is_prefix(pattern):
        return partial(_begins, pattern[:-1])
    return re.compile(translate(pattern)).match


def _is_prefix(pattern: str) -> bool:
    return pattern.endswith("*") and not _SPECIAL.search(pattern, endpos=len(pattern) - 1)


def _begins(prefix: str, room: str) -> bool:
    return room.startswith(prefix)


class Rights(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What somebody may, as far as that depends on who it is."""

    who: Who
    allowed: frozenset[Action]  # at most, in any room
    #: the rooms that a token names and what is allowed in each; None: it names none, and none is closed to it
    grants: tuple[tuple[Callable[[str], object], frozenset[Action]], ...] | None = None
    #: patterns of the rooms that it moderates, to be told; what counts is `grants`
    moderates: tuple[str, ...] = ()

    def standing(self, action: Action, room: str) -> int:
        """The rank of `Who` that it has for this in a room; -1: none at all."""
        if action not in self.allowed:
            return -1
        if self.grants is None:
            return self.who.rank
        for matches, granted in self.grants:
            if action in granted and matches(room):
                return max(self.who.rank, Who.GRANTED.rank)
        return -1


_READ = frozenset((Action.READ,))
_WRITE = frozenset((Action.WRITE,))
_GUESTS = {
    Guests.FULL: Rights(Who.EVERYONE, _READ | _WRITE),
    Guests.READ: Rights(Who.EVERYONE, _READ),
    Guests.NONE: Rights(Who.EVERYONE, frozenset()),
}


def rights_of(role: str | None = None, rooms: tuple[tuple[str, str], ...] | None = None) -> Rights:
    """What a token's claim gives: a role, and what is allowed in which rooms, in letters. Raises ValueError."""
    return _rights_of(role, rooms)


@lru_cache(RIGHTS_REMEMBERED)
def _rights_of(role: str | None, rooms: tuple[tuple[str, str], ...] | None) -> Rights:
    if role not in (None, "moderator"):
        raise ValueError("role: only `moderator` is known")
    who = Who.SIGNED_IN if role is None else Who.MODERATORS
    if rooms is None:
        return Rights(who, frozenset(Action), moderates=("*",) if who is Who.MODERATORS else ())
    if len(rooms) > MAX_GRANTS:
        raise ValueError(f"rooms: {len(rooms)} patterns, limit {MAX_GRANTS}")
    if sum(1 for pattern, _ in rooms if _SPECIAL.search(pattern) and not _is_prefix(pattern)) > MAX_COSTLY_GRANTS:
        raise ValueError(f"rooms: more than {MAX_COSTLY_GRANTS} patterns that are not like team or team-*")
    grants, moderates = [], []
    for pattern, letters in rooms:
        if letters not in ("r", "w", "rw") or not 0 < len(pattern) <= MAX_GRANT_CHARS:
            raise ValueError("rooms: a pattern, and r, w or rw for each")
        granted = (_READ if "r" in letters else frozenset()) | (_WRITE if "w" in letters else frozenset())
        if who is Who.MODERATORS and "w" in letters:  # a moderator of a room that it may write in, and of no other
            granted |= {Action.MODERATE}
            moderates.append(pattern)
        grants.append((matcher(pattern), granted))
    return Rights(who, frozenset(Action), tuple(grants), tuple(moderates))


class Access:
    """The decision; one for the server."""

    def __init__(self, policies: Policies, guests: Guests = Guests.FULL, *, sign_in: bool = False) -> None:
        self.policies = policies
        self.guests = _GUESTS[guests]  # the rights of a guest
        self.closed_to_guests = guests is Guests.NONE
        self.sign_in = sign_in  # there is a way to be somebody else than a guest
        self._open = not policies and guests is Guests.FULL

    def may(self, rights: Rights, action: Action, room: str) -> bool:
        """Whether somebody with these rights may do this in this room."""
        if self._open and rights is self.guests:
            return action is not Action.MODERATE  # nearly every publish of most servers
        standing = rights.standing(action, room)
        if action is Action.MODERATE:
            return standing == Who.MODERATORS.rank
        policy = self.policies.of(room)
        return standing >= (policy.read if action is Action.READ else policy.write).rank

    def sees_all(self, rights: Rights) -> bool:
        """Whether no room is hidden from it."""
        return not self.policies and rights.grants is None and Action.READ in rights.allowed

    def lists(self, rights: Rights, room: str) -> bool:
        """Whether a list of rooms shows it this one."""
        return self.may(rights, Action.READ, room) or self.policies.of(room).list


#: Where nothing was decided: guests may everything but moderate.
OPEN = Access(Policies())
