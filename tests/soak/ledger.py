"""The acts, acknowledgements and received records of the clients, and the rules that the cluster must keep.

Owns: the rules. May not: do I/O, or know what was killed. A broken rule raises `Violation` at once.

Every act has a name, which is its key and is also in its text. So a record that is stored twice, in the wrong place or
not at all is not confused with one that was edited or deleted later.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MESSAGE, EDIT, DELETE, REACTION = "message", "edit", "delete", "reaction"


class Violation(Exception):  # noqa: N818  it is what the cluster did, not what we did
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Act:
    """An act of a publisher. `name` is unique in its room, and the idempotency key."""

    kind: str
    room: str
    name: str
    target: int = 0
    target_name: str = ""
    emoji: str = ""

    @property
    def text(self) -> str:
        """The name; for an edit the name of its message before it."""
        return f"{self.target_name} {self.name}" if self.kind == EDIT else self.name


class Fact(NamedTuple):
    """The fields of a record that never change."""

    kind: str
    time: str
    user: str
    target: int


@dataclass(slots=True)
class Shown:
    """The state that a record must have in the end."""

    text: str
    deleted: bool = False
    reactions: Counter[str] = field(default_factory=Counter)
    last_edit: int = 0


class Room:
    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: dict[int, Fact] = {}  # by offset, as are the next two
        self.names: dict[int, str] = {}
        self.acts: dict[int, Act] = {}  # acknowledged ones
        self.offsets: dict[str, int] = {}  # by name
        self.acknowledged: set[str] = set()  # names
        self.top = 0  # the last offset that any client was told of
        self.checked = 0  # up to this offset the log was read

    def agree(self, offset: int, fact: Fact, name: str, who: str) -> None:
        """Check a record at an offset against what others were told."""
        known = self.facts.setdefault(offset, fact)
        if known != fact:
            raise Violation(f"{self.name}/{offset} is {fact} for {who}, and was {known}")
        if name:
            if self.names.setdefault(offset, name) != name:
                raise Violation(f"{self.name}/{offset} has {name} for {who}, and had {self.names[offset]}")
            if self.offsets.setdefault(name, offset) != offset:
                raise Violation(f"{name} is at {self.name}/{offset} for {who}, and also at {self.offsets[name]}")
        self.top = max(self.top, offset)

    def shown(self) -> dict[int, Shown]:
        """The final state of each record: all acts, applied in the order of their offsets."""
        found: dict[int, Shown] = {}
        for offset, act in sorted(self.acts.items()):
            found[offset] = Shown(act.text if act.kind in (MESSAGE, EDIT) else "")
            target = found.get(act.target)
            if act.kind == MESSAGE:
                continue
            if target is None:
                raise Violation(f"{act.name} at {self.name}/{offset} is about {act.target}, where nothing is before it")
            if act.kind == REACTION:
                target.reactions[act.emoji] += 1
                continue
            if target.last_edit:
                found[target.last_edit].text = ""
            if act.kind == EDIT:
                target.text, target.last_edit = act.text, offset
            else:
                target.text, target.deleted = "", True
                target.reactions.clear()
                target.last_edit = 0
        return found


class Ledger:
    def __init__(self) -> None:
        self.epoch = ""
        self.rooms: dict[str, Room] = {}
        self.acknowledged = 0  # acts
        self.repeated = 0  # acts that were acknowledged once more, as before
        self.seen = 0  # records that listeners were given
        self.told_of_loss = 0

    def room(self, name: str) -> Room:
        return self.rooms.setdefault(name, Room(name))

    def acknowledge(self, act: Act, user: str, answer: Any) -> None:
        """Record an acknowledgement; the same act may be acknowledged again."""
        room, offset = self.room(act.room), answer["offset"]
        self._check_cursor(answer["cursor"], offset, act.name)
        other = room.acts.setdefault(offset, act)
        if other is not act:
            raise Violation(f"{act.name} and {other.name} are both acknowledged at {act.room}/{offset}")
        room.agree(offset, Fact(act.kind, answer["time"], user, act.target), act.name, "its publisher")
        if act.name in room.acknowledged:
            self.repeated += 1
        else:
            self.acknowledged += 1
            room.acknowledged.add(act.name)

    def see(self, room: Room, record: Any, who: str) -> int:
        """Record that a client received a record; its offset."""
        offset: int = record["offset"]
        self._check_cursor(record["cursor"], offset, who)
        kind = record.get("type", MESSAGE)
        words = record.get("text", "").split()
        name = "" if not words else words[-1] if kind == EDIT else words[0]
        room.agree(offset, Fact(kind, record["time"], record["user"]["id"], record.get("target", 0)), name, who)
        return offset

    def _check_cursor(self, cursor: str, offset: int, who: str) -> None:
        epoch, _, place = cursor.rpartition("-")
        self.epoch = self.epoch or epoch
        if (epoch, int(place)) != (self.epoch, offset):
            raise Violation(f"{who}: the cursor of {offset} is {cursor} in epoch {self.epoch}")

    # -- the end ------------------------------------------------------------------------------------------------------

    def check_log(self, room: Room, records: Iterable[Any], *, after: int = 0) -> None:
        """Check the log behind an offset: each acknowledged record once, no hole, nothing else."""
        last = after
        for record in records:
            offset = self.see(room, record, "the log")
            if offset != last + 1:
                raise Violation(f"in the log of {room.name} {offset} comes after {last}")
            last = offset
            if offset not in room.acts:
                raise Violation(f"nobody was told of {room.name}/{offset}, a {record.get('type', MESSAGE)}")
        if last < room.top:
            raise Violation(f"the log of {room.name} ends at {last}, and {room.top} was acknowledged or seen")

    def check_shown(self, room: Room, records: Sequence[Any], who: str) -> None:
        """Check that these records have the state that all acts together lead to."""
        shown = room.shown()
        for record in records:
            offset = self.see(room, record, who)
            expected = shown.get(offset)
            if expected is None:
                raise Violation(f"nobody was told of {room.name}/{offset} that {who} shows")
            found = Shown(record.get("text", ""), record.get("deleted", False), Counter(record.get("reactions", {})))
            found.last_edit = expected.last_edit
            if found != expected:
                raise Violation(f"{room.name}/{offset} reads {found} at {who}, and should read {expected}")


class Position:
    """The position of one listener: it gets each record once, in order, or is told of a loss."""

    def __init__(self, ledger: Ledger, room: str, who: str) -> None:
        self.ledger = ledger
        self.room = ledger.room(room)
        self.who = who
        self.at = 0
        self.cursor = "0"
        self._told = False

    def take(self, record: Any) -> None:
        """Check the next record."""
        offset = self.ledger.see(self.room, record, self.who)
        if not self._told and offset <= self.at:
            raise Violation(f"{self.who} was given {self.room.name}/{offset} again, after {self.at}")
        if not self._told and offset != self.at + 1:
            raise Violation(f"{self.who} was given {self.room.name}/{offset} after {self.at}, and told of no gap")
        self.at, self.cursor, self._told = offset, record["cursor"], False
        self.ledger.seen += 1

    def told_of_loss(self, cursor: str) -> None:
        """The listener was told of a loss and continues from this cursor."""
        self.ledger.told_of_loss += 1
        self.cursor, self._told = cursor, True
