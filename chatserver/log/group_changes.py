"""Edits, deletions and reactions of one group: their targets are read first, and written last.

Owns: the records that a group alters, while its drafts are applied one by one. May not: know an engine, which reads and
writes the rows; or decide what may happen, which `changes` does.

A few statements serve a whole group. Its drafts apply in offset order, each to the result of those before it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from chatserver.log import changes
from chatserver.log.interface import Draft, Kind, Record, Refused, Stored

Place: TypeAlias = tuple[str, int]  # room, offset
Reacted: TypeAlias = tuple[str, int, str, str]  # room and offset of the message, emoji, user

_DELETE, _REACTION = Kind.DELETE, Kind.REACTION  # bound once: looking them up takes longer than comparing them


class End(Protocol):
    """Where the next record of a room goes."""

    last: int
    time: int


class Rows(Protocol):
    """The rows of an engine, in the transaction of the group. No method is called with an empty collection."""

    def records(self, places: Collection[Place]) -> dict[Place, Record]:
        """The records at these places, where they exist."""

    def reactions(self, asked: Collection[Reacted]) -> set[Reacted]:
        """Those of the asked reactions that exist."""

    def rewrite(self, messages: Sequence[Record], emptied: Sequence[Place]) -> None:
        """Store a new text and state for `messages`, and empty the edits at `emptied`."""

    def restate(self, messages: Sequence[Record]) -> None:
        """Store a new state for messages whose text stays."""

    def react(self, reactions: Sequence[Reacted]) -> None:
        """Insert these reactions."""

    def unreact(self, reactions: Sequence[Reacted]) -> None:
        """Delete these reactions."""

    def forget_reactions(self, messages: Sequence[Place]) -> None:
        """Delete all reactions to these messages."""


class Changes:
    """Applies the drafts of a group that may refer to other records."""

    def __init__(self, rows: Rows, rooms: Mapping[str, End], drafts: Sequence[Draft]) -> None:
        self._rows = rows
        places: set[Place] = set()
        reactions: set[Reacted] = set()
        for draft in drafts:
            name, target = draft.room, draft.target
            room = rooms.get(name)
            if room is None or not 0 < target <= room.last:
                continue
            places.add((name, target))
            if draft.kind is _REACTION:
                reactions.add((name, target, draft.emoji, draft.user_id))
        #: The targets of the group's drafts, and the messages that the group itself has made.
        self._records: dict[Place, Record] = rows.records(places) if places else {}
        self._reacted = rows.reactions(reactions) if reactions else set()  # before the group
        self._switched: dict[Reacted, bool] = {}  # reactions that the group has added (True) or removed
        self._altered: dict[Place, bool] = {}  # messages, and whether their text changes; else the index stays
        self._emptied: list[Place] = []
        self._deleted: list[Place] = []

    def take(self, draft: Draft, room: End | None, now: int) -> Stored | Refused:
        """Append the record of a draft to its room, or return the answer that it gets instead."""
        kind, name, target = draft.kind, draft.room, draft.target
        if not kind and not target:
            assert room is not None, "its first message makes it"
            return self._append(draft, room, now)
        place = name, target
        message = self._records.get(place)
        reacted = False
        if kind is _REACTION:
            reaction = name, target, draft.emoji, draft.user_id
            switched = self._switched.get(reaction)
            reacted = reaction in self._reacted if switched is None else switched
        refusal = changes.refusal(draft, message, now, reacted=reacted)
        if refusal is not None:
            return Refused(refusal)
        assert message is not None, "else it is refused"
        assert room is not None, "it has the message"
        if not kind:
            return self._append(draft, room, now)
        if kind is _REACTION:
            if draft.on == reacted:
                return Stored(changes.unchanged(draft, room.last, room.time, message), fresh=False)
            self._switched[reaction] = draft.on
            self._altered.setdefault(place, False)
        else:
            self._altered[place] = True
        room.last = offset = room.last + 1
        room.time = time = max(now, room.time)
        record = changes.happened(draft, offset, time, message)
        self._records[place] = record.alters[0]
        if record.empties:
            self._emptied.append((name, record.empties))
        if kind is _DELETE:
            self._deleted.append(place)
        return Stored(record, fresh=True)

    def _append(self, draft: Draft, room: End, now: int) -> Stored:
        """Append a message."""
        room.last = offset = room.last + 1
        room.time = time = max(now, room.time)
        record = self._records[draft.room, offset] = changes.plain(draft, offset, time)
        return Stored(record, fresh=True)

    def write(self) -> None:
        """Write what the group altered, after its own records are inserted."""
        rows, records = self._rows, self._records
        if rewritten := [records[place] for place, has_text in self._altered.items() if has_text]:
            rows.rewrite(rewritten, self._emptied)
        if restated := [records[place] for place, has_text in self._altered.items() if not has_text]:
            rows.restate(restated)
        if made := [reaction for reaction, on in self._switched.items() if on]:
            rows.react(made)
        if ended := [reaction for reaction, on in self._switched.items() if not on]:
            rows.unreact(ended)
        if self._deleted:
            rows.forget_reactions(self._deleted)
