"""Who may do what in which room.

Owns: the rights of a principal, the policy of a room, and the decision. May not: know who the principal is, or what a
token looks like.

    access = Access(Policies(settings.rooms), Guests.FULL)
    access.may(rights, Action.WRITE, "staff-only")

The answer does not depend on whether a room exists: only its name is looked at.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum, auto
from fnmatch import translate
from functools import lru_cache

import msgspec

from chatserver.settings.rooms import Audience, Guests, RoomPolicy

#: Rooms whose policy is cached; finding it again costs 0.3 µs for each pattern before the match.
CACHED_ROOM_POLICIES = 4096
#: Rights kept as shared objects: one issuer gives most people the same rights.
CACHED_RIGHTS = 1024
#: Decisions that are cached, in 1 MB; to make one costs 0.5 µs, and with a token of many patterns more.
CACHED_DECISIONS = 4096
#: Patterns of rooms in one token, and characters of each: a room's name has at most 64.
MAX_GRANTS = 100
MAX_GRANT_CHARS = 64
#: Characters of all patterns in one token that are neither a name nor a prefix (`team-*`): to compile them takes 0.2 to
#: 0.4 ms, when the token is first seen.
MAX_COSTLY_CHARS = 160

_NAME_OR_PREFIX = re.compile(r"[^*?\[]*\*?")
_NOTHING = "(?!)"  # a regular expression that matches no text


class Action(IntEnum):
    """What may be allowed in a room. An IntEnum, since hashing it costs no Python call."""

    READ = auto()
    WRITE = auto()
    MODERATE = auto()


#: For each request: to look up `Action.WRITE` costs CPython 3.11 some 900 instructions, and a global hardly any.
READ, WRITE, MODERATE = Action


class Policies:
    """The policies of all rooms: the first pattern in the file that matches a name counts."""

    def __init__(self, rooms: Sequence[tuple[str, RoomPolicy]] = ()) -> None:
        self._rules = [(_matcher([pattern]), policy) for pattern, policy in rooms]
        self._default = RoomPolicy()
        self.of: Callable[[str], RoomPolicy] = lru_cache(CACHED_ROOM_POLICIES)(self._find)

    @property
    def retain(self) -> bool:
        """Whether some rooms have their own retention."""
        return any(policy.retain_count is not None or policy.retain_age is not None for _, policy in self._rules)

    def keeps(self, messages: int, age_ms: int, room: str) -> tuple[int, int]:
        """How many messages a room keeps, and for how many ms, given the defaults; 0: no bound."""
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


def _matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """A predicate on room names: whether one of these patterns matches."""
    return re.compile("|".join(map(translate, patterns)) or _NOTHING).match


class Granted(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The rooms in which a token allows an action: 0.5 µs for a room and 100 names or prefixes."""

    names: frozenset[str]
    prefixes: tuple[str, ...]
    others: Callable[[str], object]  # whether a pattern matches that is neither

    def __contains__(self, room: str) -> bool:
        return room in self.names or room.startswith(self.prefixes) or self.others(room) is not None


class Rights(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The part of a decision that depends on the principal."""

    who: Audience
    allowed: frozenset[Action]  # upper bound in every room
    #: the rooms that a token names; None: it names none, and is not restricted to rooms
    grants: Mapping[Action, Granted] | None = None
    #: patterns of the rooms that it moderates; about one room `grants` decide, and "*" here is all rooms
    moderates: tuple[str, ...] = ()

    @property
    def named(self) -> list[str]:
        """The rooms that a token names for reading, without those of patterns."""
        return [] if self.grants is None else sorted(self.grants[READ].names)

    def standing(self, action: Action, room: str) -> int:
        """Its rank (see `Audience`) for an action in a room; -1: the action is not allowed."""
        if action not in self.allowed:
            return -1
        if self.grants is None:
            return self.who.rank
        return max(self.who.rank, Audience.GRANTED.rank) if room in self.grants[action] else -1


_GUESTS = {
    Guests.FULL: Rights(Audience.EVERYONE, frozenset((READ, WRITE))),
    Guests.READ: Rights(Audience.EVERYONE, frozenset((READ,))),
    Guests.NONE: Rights(Audience.EVERYONE, frozenset()),
}


@lru_cache(CACHED_RIGHTS)
def rights_of(role: str | None, rooms: tuple[tuple[str, str], ...] | None) -> Rights:
    """The rights that a token claims: a role, and pairs of a room pattern and letters (r, w). Raises ValueError."""
    if role not in (None, "moderator"):
        raise ValueError("role: only `moderator` is known")
    who = Audience.SIGNED_IN if role is None else Audience.MODERATORS
    if rooms is None:
        return Rights(who, frozenset(Action), moderates=("*",) if who is Audience.MODERATORS else ())
    if len(rooms) > MAX_GRANTS:
        raise ValueError(f"rooms: {len(rooms)} patterns, limit {MAX_GRANTS}")
    if sum(len(pattern) for pattern, _ in rooms if not _NAME_OR_PREFIX.fullmatch(pattern)) > MAX_COSTLY_CHARS:
        raise ValueError(f"rooms: more than {MAX_COSTLY_CHARS} characters of patterns that are not like team or team-*")
    if any(letters not in ("r", "w", "rw") or not 0 < len(pattern) <= MAX_GRANT_CHARS for pattern, letters in rooms):
        raise ValueError("rooms: a pattern, and r, w or rw for each")
    readable = tuple(pattern for pattern, letters in rooms if "r" in letters)
    writable = tuple(pattern for pattern, letters in rooms if "w" in letters)
    moderates = writable if who is Audience.MODERATORS else ()  # only rooms that it may write in
    grants = {READ: _granted(readable), WRITE: _granted(writable), MODERATE: _granted(moderates)}
    return Rights(who, frozenset(Action), grants, moderates)


@lru_cache(CACHED_RIGHTS)  # most tokens grant two actions in the same rooms
def _granted(patterns: tuple[str, ...]) -> Granted:
    others = [pattern for pattern in patterns if not _NAME_OR_PREFIX.fullmatch(pattern)]
    plain = frozenset(patterns).difference(others)
    prefixes = [pattern for pattern in plain if pattern.endswith("*")]
    return Granted(plain.difference(prefixes), tuple(pattern[:-1] for pattern in prefixes), _matcher(others))


class Access:
    """The decision; one object for the server."""

    def __init__(self, policies: Policies, guests: Guests = Guests.FULL, *, sign_in: bool = False) -> None:
        self.policies = policies
        self.guests = _GUESTS[guests]  # the rights of a guest
        self.closed_to_guests = guests is Guests.NONE
        self.sign_in = sign_in  # whether users can sign in
        #: whether these rights allow an action in a room
        self.may: Callable[[Rights, Action, str], bool] = lru_cache(CACHED_DECISIONS)(self._may)

    def _may(self, rights: Rights, action: Action, room: str) -> bool:
        standing = rights.standing(action, room)
        if action is MODERATE:
            return standing == Audience.MODERATORS.rank
        policy = self.policies.of(room)
        return standing >= (policy.read if action is READ else policy.write).rank

    def sees_all(self, rights: Rights) -> bool:
        """Whether no room is hidden from these rights."""
        return not self.policies and rights.grants is None and READ in rights.allowed


#: Without any policy: guests may do everything but moderate.
OPEN = Access(Policies())
