"""The policies of rooms in a TOML file: `[rooms."staff-*"]`, a table for each pattern.

Owns: `RoomPolicy`, its values and bounds, and the complaint about an invalid table. May not: import trio or our modules
except spec.py, or know a room; chat/policy.py finds the policy of one.

    [rooms."staff-*"]
    read = "granted"
    write = "moderators"
"""

import re
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Annotated

import msgspec

from chatserver.settings.spec import DAY, ConfigError

#: Patterns in one file: each new name of a room is matched against them, 0.3 µs each.
MAX_PATTERNS = 500

#: A pattern that may match a room. With a bracket that is not closed it would match none, and its policy protect none.
PATTERN = re.compile(r"(?![._-]|.{65})(?:[a-z0-9._*?-]|\[!?[a-z0-9._-]+\])+")
PATTERN_RULE = "a pattern is a room's name (a-z 0-9 . _ -) with * ? or [abc] in it"


class Guests(StrEnum):
    """What people may do without signing in."""

    FULL = "full"
    READ = "read"
    NONE = "none"


class Audience(Enum):
    """Who may do something in a room. Each value also includes the people of those below it."""

    EVERYONE = "everyone"
    SIGNED_IN = "signed-in"
    GRANTED = "granted"  # a token names the room
    MODERATORS = "moderators"

    def __init__(self, word: str) -> None:
        self.rank = len(type(self).__members__)


class RoomPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules in the rooms of one pattern."""

    read: Audience = Audience.EVERYONE
    write: Audience = Audience.EVERYONE
    list: bool = False  # `GET /rooms` shows it also to people who may not read it
    slow_mode: Annotated[float, msgspec.Meta(ge=0, le=DAY)] = 0.0  # s between two messages of a user
    #: number and age in seconds of the messages that are kept; None: as in other rooms, 0: all
    retain_count: Annotated[int, msgspec.Meta(ge=0, le=10**12)] | None = None
    retain_age: Annotated[float, msgspec.Meta(ge=0, le=1e10)] | None = None


def room_policies(tables: object, source: str) -> tuple[tuple[str, RoomPolicy], ...]:
    """The patterns and their policies, in the order of the file. Raises ConfigError."""
    if not isinstance(tables, Mapping):
        raise ConfigError("config", f'{source}: rooms is a table for each pattern, like [rooms."staff-*"]')
    if len(tables) > MAX_PATTERNS:
        raise ConfigError("config", f"{source}: {len(tables)} patterns of rooms, limit {MAX_PATTERNS}")
    found = []
    for pattern, table in tables.items():
        where = f'{source}: [rooms."{pattern}"]'
        if not PATTERN.fullmatch(pattern):
            raise ConfigError("config", f"{where}: {PATTERN_RULE}")
        try:
            policy = msgspec.convert(table, RoomPolicy)
        except msgspec.ValidationError as error:
            known = f"none of {', '.join(each.value for each in Audience)}:"
            raise ConfigError("config", f"{where}: {error}".replace("Invalid enum value", known)) from None
        found.append((pattern, policy))
    return tuple(found)
