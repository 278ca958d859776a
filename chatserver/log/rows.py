"""Rows: the form of a record in the tables of every database.

Owns: the columns of messages, and the content of `more`. May not: know a database. In a plain message the last three
columns are empty, so that other records cost it nothing.
"""

import msgspec

from chatserver.log.interface import Kind, MessageState, Range, Reaction, Record

#: The columns of a record in the table of messages, in the order of the parameters of `record_of`.
COLUMNS = "time, user_id, user_name, text, kind, target, more"
#: The same, where other tables have columns of these names.
OF_MESSAGES = ", ".join(f"messages.{column}" for column in COLUMNS.split(", "))
#: The condition for a record that is a message.
IS_MESSAGE = f"kind = {Kind.MESSAGE:d}"
#: Bits of an offset: 68 thousand million records a room. The room's id is above them in SQLite's table, and in the
#: `go_on` of a search in PostgreSQL.
OFFSET_BITS = 36
#: The highest offset there can be.
HIGHEST = (1 << OFFSET_BITS) - 1


def bounds_of(wanted: Range) -> tuple[int, int]:
    """The lowest and the highest offset in a range, within those that there can be; none is, if the first is higher."""
    high = HIGHEST if wanted.before is None else wanted.before - 1
    return min(max(wanted.after, 0), HIGHEST) + 1, max(min(high, HIGHEST), 0)


class _More(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The fields that few records have, as JSON."""

    mentions: tuple[str, ...] = ()
    state: MessageState | None = None
    reaction: Reaction | None = None


_NOTHING = _More()
#: The state of a message to which nothing has happened.
UNTOUCHED = MessageState()
_KINDS = tuple(Kind)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_More).decode


def more_of(record: Record) -> str:
    """The value of the column `more`."""
    if not (record.mentions or record.state or record.reaction):
        return ""
    return _encode(_More(record.mentions, record.state, record.reaction)).decode()


def state_of(more: str) -> MessageState:
    return (_decode(more).state if more else None) or UNTOUCHED


def record_of(
    room: str, offset: int, time: int, user_id: str, user_name: str, text: str, kind: int, target: int, more: str
) -> Record:
    if not (kind or target or more):
        return Record(room, offset, time, user_id, user_name, text)
    rest = _decode(more) if more else _NOTHING
    return Record(
        room, offset, time, user_id, user_name, text, _KINDS[kind], target, rest.mentions, rest.state, rest.reaction
    )
