"""What an edit, a deletion or a reaction does to a message, and when it is refused: the same for every engine.

Owns: these rules, as plain functions over records, and `Changes`, which applies the drafts of one group in order. May
not: know an engine, which finds and stores the rows.

An edit empties the edit before it, so that a pasted password is gone once it is edited out. At most one record besides
the message holds its text. A group reads its targets with a few statements before its drafts apply, and writes them
after that.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from chatserver.log.interface import (
    DELETE,
    EDIT,
    KEY_LIFETIME_MS,
    MAX_EMOJI,
    MAX_GROUP_TEXT,
    MAX_REACTIONS,
    MESSAGE,
    REACTION,
    TEXTS_CHANGED,
    Draft,
    LogError,
    LogUnavailable,
    MessageState,
    Reaction,
    Record,
    RefusalReason,
    Refused,
    Stored,
    counted_text,
)
from chatserver.log.rows import HIGHEST, UNTOUCHED, record_of

#: Rooms of which a writer keeps the end or the id in memory: 10 to 15 MB.
MAX_CACHED_ROOMS = 50_000

Place: TypeAlias = tuple[str, int]  # room, offset
Reacted: TypeAlias = tuple[str, int, str, str]  # room and offset of the message, emoji, user
Key: TypeAlias = tuple[str, str, str]  # room, user, key


def refusal(draft: Draft, message: Record | None, now: int, *, reacted: bool) -> RefusalReason | None:
    """Why the target does not allow this draft, or None. `reacted`: the user already has this reaction."""
    if draft.is_blind and not draft.as_moderator and (message is None or message.user_id != draft.user_id):
        return RefusalReason.NOT_AUTHOR
    if message is None or message.kind is not MESSAGE:
        return RefusalReason.MISSING
    kind = draft.kind
    if kind is MESSAGE:
        return None  # a reply; its target may be deleted
    state = message.state or UNTOUCHED
    if state.deleted:
        return RefusalReason.DELETED
    if kind is REACTION:
        return None if reacted or not draft.on else _too_many(draft, state.reactions)
    if kind is DELETE and draft.as_moderator:
        return None
    if message.user_id != draft.user_id:
        return RefusalReason.NOT_AUTHOR
    # The clock may have been set back since: an edit window of 0 is over all the same.
    return RefusalReason.TOO_LATE if max(now - message.time, 0) >= draft.window_ms else None


def used_keys(found: Iterable[tuple[Draft, int, int, Sequence[Any]]], now: int) -> dict[Key, Record]:
    """The keys that were used within their lifetime, with the records they were used for.

    Of each key found: the draft that has it now, the offset and time of its use, and the row of that record. If
    retention has removed the record, it is made from the draft, which is the same message again.
    """
    used: dict[Key, Record] = {}
    for draft, offset, time, row in found:
        if draft.key is not None and abs(now - time) < KEY_LIFETIME_MS:
            record = plain(draft, offset, time) if row[0] is None else record_of(draft.room, offset, *row)
            used[draft.room, draft.user_id, draft.key] = record
    return used


def take_text(records: Sequence[Record]) -> bool:
    """Whether one of these records takes a text away."""
    return any(record.kind is EDIT or record.kind is DELETE for record in records)


def hints_of(records: Sequence[Record]) -> dict[str, int]:
    """The hints of a group of records for other processes, in whose caches there may be a text that is gone."""
    hints = {record.room: record.offset for record in records}
    return hints | {TEXTS_CHANGED: 0} if take_text(records) else hints


def _too_many(draft: Draft, reactions: tuple[tuple[str, int], ...]) -> RefusalReason | None:
    """Whether a message with these reactions may have no more of them."""
    if len(reactions) >= MAX_EMOJI and draft.emoji not in dict(reactions):
        return RefusalReason.TOO_MANY_EMOJI
    if sum([count for _, count in reactions]) >= MAX_REACTIONS:
        return RefusalReason.TOO_MANY_REACTIONS
    return None


def plain(draft: Draft, offset: int, time: int) -> Record:
    """The record of a draft that alters nothing."""
    return Record(
        draft.room, offset, time, draft.user_id, draft.user_name, draft.text, draft.kind, draft.target, draft.mentions
    )


def alteration(draft: Draft, offset: int, time: int, message: Record) -> Record:
    """The record of an edit, a deletion or a reaction to this message.

    Each record is made by one call of its constructor, because `replace` takes twice as long.
    """
    state = message.state or UNTOUCHED
    text, mentions, reaction, empties = message.text, message.mentions, None, state.edit
    if draft.kind is REACTION:
        counts = dict(state.reactions)
        count = counts[draft.emoji] = counts.get(draft.emoji, 0) + (1 if draft.on else -1)
        if not count:
            del counts[draft.emoji]
        reaction = Reaction(draft.emoji, draft.on, count)
        state = MessageState(state.edited, state.edit, False, tuple(counts.items()))
        empties = 0
    elif draft.kind is EDIT:
        text, state = draft.text, MessageState(time, offset, False, state.reactions)
    else:
        text, mentions, state = "", (), MessageState(deleted=True)
    altered = Record(
        message.room, message.offset, message.time, message.user_id, message.user_name, text, MESSAGE,
        message.target, mentions, None if state == UNTOUCHED else state,
    )  # fmt: skip
    return Record(
        draft.room, offset, time, draft.user_id, draft.user_name, draft.text, draft.kind, draft.target, (), None,
        reaction, (altered,), empties,
    )  # fmt: skip


def unchanged(draft: Draft, offset: int, time: int, message: Record) -> Record:
    """The answer to a reaction that changes nothing: the present count, with the room's last offset."""
    count = dict((message.state or UNTOUCHED).reactions).get(draft.emoji, 0)
    return replace(plain(draft, offset, time), reaction=Reaction(draft.emoji, draft.on, count))


class RoomEnd(msgspec.Struct, gc=False):
    """Where the next record of a room goes. The collector does not visit it: there may be 50,000 of them."""

    base: int  # the room in its database: in PostgreSQL its id, in SQLite the place of its offset 0
    last: int
    time: int


class Rows(Protocol):
    """The rows of an engine, in the transaction of the group. No method is called with an empty collection."""

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


class Group(NamedTuple):
    """What came of the drafts of a group."""

    outcomes: list[Stored | LogError | None]  # one for each draft; None: the group has no place for it
    fresh: list[Record]
    keys: dict[Key, Record]  # keys that fresh records have used


def targets_of(drafts: Iterable[Draft], rooms: Container[str]) -> list[Reacted]:
    """The reactions that drafts set in these rooms, and for other drafts the place they refer to, with empty texts."""
    asked: dict[Reacted, None] = {}
    for draft in drafts:
        name, target = draft.room, draft.target
        if 0 < target <= HIGHEST and name in rooms:
            is_reaction = draft.kind is REACTION
            asked[(name, target, draft.emoji, draft.user_id) if is_reaction else (name, target, "", "")] = None
    return list(asked)


class Changes:
    """Applies the drafts of one group."""

    def __init__(
        self, rows: Rows, rooms: Mapping[str, RoomEnd], asked: Sequence[Reacted], found: Iterable[Sequence[Any]]
    ) -> None:
        """`asked` are their targets, as `targets_of` names them, and `found` is what exists of these: of each message
        the number of the target, whether that is a reaction that exists, and the row of the message.
        """
        self._rows = rows
        self._rooms = rooms
        self._records: dict[Place, Record] = {}  # the targets, and the messages that the group itself has made
        self._reacted: set[Reacted] = set()  # before the group
        for number, is_there, *row in found:
            room, offset, _, _ = reaction = asked[number]
            if is_there:
                self._reacted.add(reaction)
            if (room, offset) not in self._records:
                self._records[room, offset] = record_of(room, offset, *row)
        self._switched: dict[Reacted, bool] = {}  # reactions that the group has added (True) or removed
        self._altered: dict[Place, bool] = {}  # messages, and whether their text changes; else the index stays
        self._emptied: list[Place] = []
        self._deleted: list[Place] = []
        self._removed = 0  # characters of the texts that edits and deletions have removed

    def apply(self, drafts: Sequence[Draft], used: Mapping[Key, Record], now: int) -> Group:
        """Append the records of drafts to their rooms; one with a key that is `used` gets the record of that key.

        Edits and deletions behind MAX_GROUP_TEXT of removed text are left for the next group. To take a text out of the
        index lasts as long as to add it, and its length is known only here: 64 deletions would take 0.15 s.
        """
        outcomes: list[Stored | LogError | None] = []
        fresh: list[Record] = []
        keys: dict[Key, Record] = {}
        rooms = self._rooms
        for draft in drafts:
            key = None
            if draft.key is not None:
                key = draft.room, draft.user_id, draft.key
                first = used.get(key) or keys.get(key)
                if first is not None:
                    outcomes.append(Stored(first, False))
                    continue
            room = rooms.get(draft.room)
            outcome: Stored | LogError | None
            if room is not None and room.last >= HIGHEST:  # the next place in SQLite's table is another room's
                outcome = LogUnavailable(f"the log has no place for one more message in room {draft.room}")
            elif draft.kind or draft.target:
                outcome = self._take(draft, room, now)
            else:
                outcome = self._append(draft, room, now)
            outcomes.append(outcome)
            if isinstance(outcome, Stored) and outcome.fresh:
                fresh.append(outcome.record)
                if key is not None:
                    keys[key] = outcome.record
        return Group(outcomes, fresh, keys)

    def _take(self, draft: Draft, room: RoomEnd | None, now: int) -> Stored | Refused | None:
        """Append the record of a draft that refers to another one, or return what it gets instead."""
        kind, name, target = draft.kind, draft.room, draft.target
        place = name, target
        message = self._records.get(place)
        reaction = name, target, draft.emoji, draft.user_id
        reacted = self._switched.get(reaction, reaction in self._reacted)
        reason = refusal(draft, message, now, reacted=reacted)
        if reason is not None:
            return Refused(reason)
        assert message is not None, "else it is refused"
        assert room is not None, "it has the message"
        if not kind:
            return self._append(draft, room, now)
        if kind is REACTION:
            if draft.on == reacted:
                return Stored(unchanged(draft, room.last, room.time, message), fresh=False)
            self._switched[reaction] = draft.on
            self._altered.setdefault(place, False)
        else:
            if self._removed >= MAX_GROUP_TEXT:
                return None
            self._removed += counted_text(message.text)
            self._altered[place] = True
        room.last = offset = room.last + 1
        room.time = time = now if now > room.time else room.time  # noqa: FURB136  `max` takes five times as long
        record = alteration(draft, offset, time, message)
        self._records[place] = record.alters[0]
        if record.empties:
            self._emptied.append((name, record.empties))
        if kind is DELETE:
            self._deleted.append(place)
        return Stored(record, fresh=True)

    def _append(self, draft: Draft, room: RoomEnd | None, now: int) -> Stored:
        assert room is not None, "its first message makes it"
        room.last = offset = room.last + 1
        room.time = time = now if now > room.time else room.time  # noqa: FURB136  as in `_take`
        record = self._records[draft.room, offset] = plain(draft, offset, time)
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
