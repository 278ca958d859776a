"""What an edit, a deletion or a reaction does to a message, and when it is refused: the same for every engine.

Owns: these rules, as plain functions over records. May not: store or find anything.

An edit empties the edit before it, so that a pasted password is gone once it is edited out. At most one record besides
the message holds its text.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from chatserver.log.interface import (
    MAX_EMOJI,
    MAX_REACTIONS,
    TEXTS_CHANGED,
    Draft,
    Kind,
    Reaction,
    Record,
    RefusalReason,
    State,
)

_UNTOUCHED = State()
# Bound once, because looking up a member of an enumeration takes as long as making a record.
_MESSAGE, _EDIT, _DELETE, _REACTION = Kind


def refusal(draft: Draft, message: Record | None, now: int, *, reacted: bool) -> RefusalReason | None:
    """Why the target does not allow this draft, or None. `reacted`: the user already has this reaction."""
    if message is None or message.kind is not _MESSAGE:
        return RefusalReason.MISSING
    kind = draft.kind
    if kind is _MESSAGE:
        return None  # a reply; its target may be deleted
    state = message.state or _UNTOUCHED
    if state.deleted:
        return RefusalReason.DELETED
    if kind is _REACTION:
        return None if reacted or not draft.on else _too_many(draft, state.reactions)
    if kind is _DELETE and draft.as_moderator:
        return None
    if message.user_id != draft.user_id:
        return RefusalReason.NOT_AUTHOR
    return RefusalReason.TOO_LATE if now - message.time >= draft.window_ms else None


def take_text(records: Sequence[Record]) -> bool:
    """Whether one of these records takes a text away."""
    return any(record.kind is _EDIT or record.kind is _DELETE for record in records)


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


def happened(draft: Draft, offset: int, time: int, message: Record) -> Record:
    """The record of an edit, a deletion or a reaction to this message.

    Each record is made by one call of its constructor, because `replace` takes twice as long.
    """
    state = message.state or _UNTOUCHED
    text, mentions, reaction, empties = message.text, message.mentions, None, state.edit
    if draft.kind is _REACTION:
        counts = dict(state.reactions)
        count = counts[draft.emoji] = counts.get(draft.emoji, 0) + (1 if draft.on else -1)
        if not count:
            del counts[draft.emoji]
        reaction = Reaction(draft.emoji, draft.on, count)
        state = State(state.edited, state.edit, False, tuple(counts.items()))
        empties = 0
    elif draft.kind is _EDIT:
        text, state = draft.text, State(time, offset, False, state.reactions)
    else:
        text, mentions, state = "", (), State(deleted=True)
    altered = Record(
        message.room, message.offset, message.time, message.user_id, message.user_name, text, _MESSAGE,
        message.target, mentions, None if state == _UNTOUCHED else state,
    )  # fmt: skip
    return Record(
        draft.room, offset, time, draft.user_id, draft.user_name, draft.text, draft.kind, draft.target, (), None,
        reaction, (altered,), empties,
    )  # fmt: skip


def unchanged(draft: Draft, offset: int, time: int, message: Record) -> Record:
    """The answer to a reaction that changes nothing: the present count, with the room's last offset."""
    count = dict((message.state or _UNTOUCHED).reactions).get(draft.emoji, 0)
    return replace(plain(draft, offset, time), reaction=Reaction(draft.emoji, draft.on, count))
