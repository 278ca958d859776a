"""Edits, deletions and reactions of one group: what they are about is read first, and written last.

Owns: the records that a group alters, as they are taken up one after the other. May not: know an engine, which reads
and writes the rows; or decide what may happen, which `changes` does.

A few statements serve a whole group. What one of its drafts alters, the next one finds so: they happen in offset order.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from chatserver.log import changes
from chatserver.log.interface import Draft, Kind, Record, Refused, Stored

Place: TypeAlias = tuple[str, int]  # room, offset
Reacted: TypeAlias = tuple[str, int, str, str]  # room and offset of the message, emoji, user


class End(Protocol):
    """Where the next record of a room goes."""

    last: int
    time: int


class Rows(Protocol):
    """The rows of an engine, in the transaction of the group. None of these is called with nothing to do."""

    def records(self, places: Collection[Place]) -> Iterable[Record]:
        """Those of these records that there are."""

    def reactions(self, asked: Collection[Reacted]) -> Iterable[Reacted]:
        """Those of these reactions that there are."""

    def rewrite(self, records: Sequence[Record]) -> None:
        """These have another text, and another state."""

    def restate(self, records: Sequence[Record]) -> None:
        """These have another state alone."""

    def react(self, reactions: Sequence[Reacted]) -> None:
        """Keep these."""

    def unreact(self, reactions: Sequence[Reacted]) -> None:
        """Remove these."""

    def forget_reactions(self, messages: Sequence[Place]) -> None:
        """Remove all that these messages have."""


class Changes:
    """The drafts of a group that are about other records."""

    def __init__(self, rows: Rows, rooms: Mapping[str, End], drafts: Sequence[Draft]) -> None:
        self._rows = rows
        targets = [draft for draft in drafts if draft.room in rooms and 0 < draft.target <= rooms[draft.room].last]
        self._records: dict[Place, Record] = {}  # what the group is about, and what it has made
        self._read({(draft.room, draft.target) for draft in targets})
        self._read({(place[0], edit) for place, record in self._records.items() if (edit := changes.last_edit(record))})
        self._rewritten: set[Place] = set()
        self._restated: set[Place] = set()  # the index of texts need not know of these
        asked = {_reacted(draft) for draft in targets if draft.kind is Kind.REACTION}
        self._reacted = dict.fromkeys(rows.reactions(asked) if asked else (), True)
        self._switched: set[Reacted] = set()
        self._deleted: list[Place] = []

    def _read(self, places: set[Place]) -> None:
        if places:
            self._records.update(((record.room, record.offset), record) for record in self._rows.records(places))

    def instead(self, draft: Draft, room: End | None, now: int) -> Stored | Refused | None:
        """What a draft is answered with that is not stored; None: it is."""
        if not (draft.target or draft.kind):
            return None
        message = self._records.get((draft.room, draft.target))
        reacted = self._reacted.get(_reacted(draft), False)
        refusal = changes.refusal(draft, message, now, reacted=reacted)
        if refusal is not None:
            return Refused(refusal)
        if draft.kind is Kind.REACTION and draft.on == reacted:
            assert room is not None
            assert message is not None
            return Stored(changes.unchanged(draft, room.last, room.time, message), fresh=False)
        return None

    def make(self, draft: Draft, offset: int, time: int) -> Record:
        """The record of a draft that may happen."""
        if not draft.kind:
            record = changes.plain(draft, offset, time)
        else:
            message = self._records[draft.room, draft.target]
            edit = self._records.get((draft.room, changes.last_edit(message)))
            record = changes.happened(draft, offset, time, message, edit)
            altered = {(draft.room, each.offset): each for each in record.alters}
            self._records |= altered
            (self._restated if draft.kind is Kind.REACTION else self._rewritten).update(altered)
            if draft.kind is Kind.REACTION:
                self._reacted[_reacted(draft)] = draft.on
                self._switched.add(_reacted(draft))
            elif draft.kind is Kind.DELETE:
                self._deleted.append((draft.room, draft.target))
        self._records[draft.room, offset] = record
        return record

    def write(self) -> None:
        """Bring what was altered up to date, behind the group's own records."""
        rows = self._rows
        if self._rewritten:
            rows.rewrite([self._records[place] for place in self._rewritten])
        if restated := self._restated - self._rewritten:
            rows.restate([self._records[place] for place in restated])
        if made := [reaction for reaction in self._switched if self._reacted[reaction]]:
            rows.react(made)
        if ended := [reaction for reaction in self._switched if not self._reacted[reaction]]:
            rows.unreact(ended)
        if self._deleted:
            rows.forget_reactions(self._deleted)


def _reacted(draft: Draft) -> Reacted:
    return draft.room, draft.target, draft.emoji, draft.user_id
