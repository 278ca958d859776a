"""The rows that edits, deletions and reactions alter, in PostgreSQL.

Owns: their statements. May not: begin or end a transaction, or decide what may happen; `changes` does. The caller holds
the locks on the rooms of its group, so no other server alters these rows meanwhile.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from chatserver.log.changes import Place, Reacted
from chatserver.log.interface import Record
from chatserver.log.postgres_connection import Connection
from chatserver.log.postgres_index import vectors
from chatserver.log.postgres_rows import plain_array, text_array
from chatserver.log.rows import COLUMNS, more_of, record_of

# Only constants of this package are formatted into statements.
_FIND_RECORDS = f"""
    SELECT room, place, {COLUMNS}
    FROM unnest(%s::bigint[], %s::bigint[]) AS asked (room, place) JOIN messages USING (room, place)
"""  # noqa: S608
_REACTED = "unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) AS asked (room, place, emoji, user_id)"
_FIND_REACTIONS = (
    f"SELECT room, place, emoji, user_id FROM {_REACTED} JOIN reactions USING (room, place, emoji, user_id)"  # noqa: S608
)
_RESTATE = """
    UPDATE messages SET more = altered.more
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS altered (room, place, more)
    WHERE messages.room = altered.room AND messages.place = altered.place
"""
_REWRITE = """
    UPDATE messages SET more = altered.more, text = altered.text, words = nullif(altered.words, '')::tsvector
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[])
        AS altered (room, place, more, text, words)
    WHERE messages.room = altered.room AND messages.place = altered.place
"""
EMPTY = """
    UPDATE messages SET text = '' FROM unnest(%s::bigint[], %s::bigint[]) AS asked (room, place)
    WHERE messages.room = asked.room AND messages.place = asked.place
"""
_REACT = f"INSERT INTO reactions (room, place, emoji, user_id) SELECT * FROM {_REACTED} ON CONFLICT DO NOTHING"  # noqa: S608
_UNREACT = f"""
    DELETE FROM reactions USING {_REACTED}
    WHERE (reactions.room, reactions.place, reactions.emoji, reactions.user_id)
        = (asked.room, asked.place, asked.emoji, asked.user_id)
"""  # noqa: S608
FORGET_REACTIONS = """
    DELETE FROM reactions USING unnest(%s::bigint[], %s::bigint[]) AS asked (room, place)
    WHERE reactions.room = asked.room AND reactions.place = asked.place
"""


class PostgresChanges:
    """`Rows`. `ids` are those of the group's rooms."""

    def __init__(self, connection: Connection, ids: Mapping[str, int]) -> None:
        self._connection = connection
        self._ids = ids

    def records(self, places: Collection[Place]) -> Callable[[], dict[Place, Record]]:
        """Ask for the records at these places, where they exist; call the result after the pipeline."""
        if not places:
            return dict
        found = self._connection.execute(_FIND_RECORDS, self._arrays(places))
        names = {id_: name for name, id_ in self._ids.items()}
        return lambda: {(names[id_], place): record_of(names[id_], place, *row) for id_, place, *row in found}

    def reactions(self, asked: Collection[Reacted]) -> Callable[[], set[Reacted]]:
        """Ask which of these reactions exist; call the result after the pipeline."""
        if not asked:
            return set
        found = self._connection.execute(_FIND_REACTIONS, self._reacted(asked))
        names = {id_: name for name, id_ in self._ids.items()}
        return lambda: {(names[id_], place, emoji, user_id) for id_, place, emoji, user_id in found}

    def rewrite(self, messages: Sequence[Record], emptied: Sequence[Place]) -> None:
        texts = text_array([message.text for message in messages])
        self._connection.execute(_REWRITE, (*self._states(messages), texts, vectors(messages)))
        if emptied:
            self._connection.execute(EMPTY, self._arrays(emptied))

    def restate(self, messages: Sequence[Record]) -> None:
        self._connection.execute(_RESTATE, self._states(messages))

    def react(self, reactions: Sequence[Reacted]) -> None:
        self._connection.execute(_REACT, self._reacted(reactions))

    def unreact(self, reactions: Sequence[Reacted]) -> None:
        self._connection.execute(_UNREACT, self._reacted(reactions))

    def forget_reactions(self, messages: Sequence[Place]) -> None:
        self._connection.execute(FORGET_REACTIONS, self._arrays(messages))

    def _arrays(self, places: Collection[Place]) -> tuple[str, str]:
        return plain_array(self._ids[room] for room, _ in places), plain_array(offset for _, offset in places)

    def _states(self, records: Sequence[Record]) -> tuple[str, ...]:
        places = self._arrays([(record.room, record.offset) for record in records])
        return *places, text_array([more_of(record) for record in records])

    def _reacted(self, reactions: Collection[Reacted]) -> tuple[str, ...]:
        places = self._arrays([(room, offset) for room, offset, _, _ in reactions])
        emoji = [each for _, _, each, _ in reactions]
        return *places, text_array(emoji), text_array([user_id for *_, user_id in reactions])
