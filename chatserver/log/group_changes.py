"""Edits, deletions and reactions of one group: what they are about is read first, and written last.

Owns: the records that a group alters, as they are taken up one after the other. May not: know an engine, which reads
and writes the rows; or decide what may happen, which `changes` does.

A few statements serve a whole group. What one of its drafts alters, the next one finds so: they happen in offset order.
"""

from collections.abc import Collection, Mapping, Sequence
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

    def records(self, places: Collection[Place]) -> dict[Place, Record]:
        """Those of these records that there are."""

    def reactions(self, asked: Collection[Reacted]) -> set[Reacted]:
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
        places: set[Place] = set()
        rewritten: set[Place] = set()  # messages whose last edit loses its text
        reactions: set[Reacted] = set()
        for draft in drafts:
            room = rooms.get(draft.room)
            if room is None or not 0 < draft.target <= room.last:
                continue
            place = (draft.room, draft.target)
            places.add(place)
            if draft.kind is Kind.REACTION:
                reactions.add(_reacted(draft))
            elif draft.kind:
                rewritten.add(place)
        #: Messages and edits: what the group is about, and what it has made.
        self._records: dict[Place, Record] = rows.records(places) if places else {}
        edits = {(place[0], edit) for place in rewritten if (edit := changes.last_edit(self._records.get(place)))}
        if edits:
            self._records |= rows.records(edits)
        self._reacted = rows.reactions(reactions) if reactions else set()
        self._switched: dict[Reacted, bool] = {}  # reactions that came or went, as they are now
        self._rewritten: dict[Place, None] = {}
        self._restated: dict[Place, None] = {}  # the index of texts need not know of these
        self._deleted: list[Place] = []

    def take(self, draft: Draft, room: End | None, now: int) -> Stored | Refused:
        """Put the record of a draft behind the others of its room, or say what it is answered with instead."""
        if draft.target or draft.kind:
            message = self._records.get((draft.room, draft.target))
            reacted = draft.kind is Kind.REACTION and _reacted(draft) in self._reacted
            refusal = changes.refusal(draft, message, now, reacted=reacted)
            if refusal is not None:
                return Refused(refusal)
            if draft.kind is Kind.REACTION and draft.on == reacted:
                assert room is not None, "it has the message"
                assert message is not None, "else it is refused"
                return Stored(changes.unchanged(draft, room.last, room.time, message), fresh=False)
        assert room is not None, "its first message makes it"
        room.last = offset = room.last + 1
        room.time = time = max(now, room.time)
        return Stored(self._make(draft, offset, time), fresh=True)

    def _make(self, draft: Draft, offset: int, time: int) -> Record:
        if not draft.kind:
            record = self._records[draft.room, offset] = changes.plain(draft, offset, time)
            return record
        place = (draft.room, draft.target)
        message = self._records[place]
        edit = None if draft.kind is Kind.REACTION else self._records.get((draft.room, changes.last_edit(message)))
        record = changes.happened(draft, offset, time, message, edit)
        self._records[place] = record.alters[0]
        if draft.kind is Kind.REACTION:
            self._restated[place] = None
            reaction = _reacted(draft)
            self._switched[reaction] = draft.on
            if draft.on:
                self._reacted.add(reaction)
            else:
                self._reacted.remove(reaction)
            return record
        self._rewritten[place] = None
        if edit is not None:
            earlier = (draft.room, edit.offset)
            self._records[earlier] = record.alters[1]
            self._rewritten[earlier] = None
        if draft.kind is Kind.EDIT:
            self._records[draft.room, offset] = record
        else:
            self._deleted.append(place)
        return record

    def write(self) -> None:
        """Bring what was altered up to date, behind the group's own records."""
        rows, records = self._rows, self._records
        if self._rewritten:
            rows.rewrite([records[place] for place in self._rewritten])
        if restated := [records[place] for place in self._restated if place not in self._rewritten]:
            rows.restate(restated)
        if made := [reaction for reaction, on in self._switched.items() if on]:
            rows.react(made)
        if ended := [reaction for reaction, on in self._switched.items() if not on]:
            rows.unreact(ended)
        if self._deleted:
            rows.forget_reactions(self._deleted)


def _reacted(draft: Draft) -> Reacted:
    return draft.room, draft.target, draft.emoji, draft.user_id
