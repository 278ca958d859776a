"""The tables in SQLite, and the identity of the log in them.

Owns: the schema, its migrations, and the place of a record. May not: open a file, or store or read messages.
"""

import sqlite3

from chatserver.log.interface import Identity, new_identity
from chatserver.log.rows import OFFSET_BITS
from chatserver.log.words import AUTHOR, VERSION

#: "chat": marks the file as ours, for `file` and for this server.
APPLICATION_ID = 0x63686174

#: The rowid of a message, its place, is the room's id times this plus the offset. So the messages of a room lie side by
#: side without an index, and a rowid of 63 bits leaves 134 million ids.
OFFSETS = 1 << OFFSET_BITS
MOST_ROOMS = (1 << 63 - OFFSET_BITS) - 1
#: In statements: the place of offset 0 of the room in the row of `rooms`, and whether a place is in that room.
BASE = f"(rooms.id << {OFFSET_BITS})"
IN_ROOM = f"place BETWEEN {BASE} + 1 AND {BASE} + {OFFSETS} - 1"

#: The first and the last offset that such a room keeps. An emptied room goes on after the offsets that it had.
FIRST_KEPT = "rooms.forgotten + 1"
LAST_KEPT = f"coalesce((SELECT max(place) FROM messages WHERE {IN_ROOM}) % {OFFSETS}, rooms.forgotten)"  # noqa: S608

#: In a trigger: whether the old row is a message (kind 0) that the index has.
_IS_INDEXED = f"""
    old.kind = 0 AND old.place % {OFFSETS} <= (SELECT indexed FROM rooms WHERE id = old.place >> {OFFSET_BITS})
"""  # noqa: S608

#: `words.spaced_words` of the text in a trigger; not called for ASCII, since a call waits for the interpreter lock.
_WORDS = "iif(length({0}) = length(CAST({0} AS BLOB)), {0}, spaced_words({0}))"
_OLD_WORDS, _NEW_WORDS = _WORDS.format("old.text"), _WORDS.format("new.text")
#: In statements: `words.author_word` of a row, behind a space.
AUTHOR_OF = f"char(32, {ord(AUTHOR)}) || hex({{0}}.user_id)"
# The author's word stays when a text is edited, since FTS5 removes just the words that it is given.
_CHANGED = f"""CREATE TRIGGER message_changed AFTER UPDATE OF text ON messages WHEN {_IS_INDEXED} BEGIN
    INSERT INTO search(search, rowid, text) VALUES ('delete', old.place, {_OLD_WORDS});
    INSERT INTO search(rowid, text) VALUES (new.place, {_NEW_WORDS});
    UPDATE search_debris SET deletions = deletions + 1;
END"""  # noqa: S608
_REMOVED = f"""CREATE TRIGGER message_removed AFTER DELETE ON messages WHEN {_IS_INDEXED} BEGIN
    INSERT INTO search(search, rowid, text) VALUES ('delete', old.place, {_OLD_WORDS} || {AUTHOR_OF.format("old")});
    UPDATE search_debris SET removals = removals + 1;
END"""  # noqa: S608

# Another program that removes or renames a room makes the server give its offsets again, so that begins an epoch.
_ROOM_GOES = """CREATE TRIGGER room_{} AFTER {} ON rooms BEGIN
    UPDATE identity SET epoch = lower(hex(randomblob(3)));
END"""

_SANCTIONS_AND_AUDIT = (
    # AUTOINCREMENT: the id of a sanction that was lifted is never reused.
    """CREATE TABLE sanctions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, room TEXT NOT NULL, kind TEXT NOT NULL, user TEXT NOT NULL,
        network TEXT NOT NULL, until INTEGER NOT NULL, reason TEXT NOT NULL, by_id TEXT NOT NULL,
        by_name TEXT NOT NULL, time INTEGER NOT NULL, UNIQUE (room, kind, user, network)
    ) STRICT""",
    "CREATE INDEX sanctions_by_end ON sanctions (until)",
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, by_id TEXT NOT NULL, by_name TEXT NOT NULL,
        network TEXT NOT NULL, action TEXT NOT NULL, room TEXT NOT NULL, target TEXT NOT NULL,
        detail TEXT NOT NULL, minor INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX audit_by_weight ON audit (minor, id)",
)
_SIGN_OUTS = (
    # id: ascends in the order of the sign-outs.
    """CREATE TABLE signouts (
        id INTEGER PRIMARY KEY, number INTEGER NOT NULL UNIQUE, guest INTEGER NOT NULL, time INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX signouts_by_end ON signouts (until)",
)
_NAMES = (
    "ALTER TABLE sanctions ADD COLUMN user_name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE audit ADD COLUMN target_name TEXT NOT NULL DEFAULT ''",
)
#: The statements that make the tables beside the messages.
BESIDE_MESSAGES = (*_SANCTIONS_AND_AUDIT, *_SIGN_OUTS, *_NAMES)

# A migration is a tuple of statements; the n-th makes schema n out of schema n-1. Only ever add at the end.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE identity (epoch TEXT NOT NULL, secret BLOB NOT NULL) STRICT",
        # forgotten: the last offset that retention removed; the room keeps those after it. forgotten_time: its time.
        """CREATE TABLE rooms (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
            forgotten INTEGER NOT NULL DEFAULT 0, forgotten_time INTEGER NOT NULL DEFAULT 0
        ) STRICT""",
        """CREATE TABLE messages (
            place INTEGER PRIMARY KEY, time INTEGER NOT NULL,
            user_id TEXT NOT NULL, user_name TEXT NOT NULL, text TEXT NOT NULL
        ) STRICT""",
        # id: ascends in order of use, so that the oldest keys are found without an index on time.
        """CREATE TABLE keys (
            id INTEGER PRIMARY KEY, room INTEGER NOT NULL, user_id TEXT NOT NULL, key TEXT NOT NULL,
            place INTEGER NOT NULL, time INTEGER NOT NULL, UNIQUE (room, user_id, key)
        ) STRICT""",
    ),
    _SANCTIONS_AND_AUDIT,
    (
        # The columns of records other than plain messages; `target` is an offset.
        "ALTER TABLE messages ADD COLUMN kind INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE messages ADD COLUMN target INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE messages ADD COLUMN more TEXT NOT NULL DEFAULT ''",
        # Who has reacted with what; the counts are in `more` of the message.
        """CREATE TABLE reactions (
            place INTEGER NOT NULL, emoji TEXT NOT NULL, user_id TEXT NOT NULL, PRIMARY KEY (place, emoji, user_id)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # How far each user has read; the index finds the markers that moved longest ago.
        """CREATE TABLE markers (
            user_id TEXT NOT NULL, room INTEGER NOT NULL, read INTEGER NOT NULL, moved INTEGER NOT NULL,
            PRIMARY KEY (user_id, room)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX markers_by_move ON markers (moved)",
    ),
    (
        # indexed: the offsets up to this one are in the index.
        "ALTER TABLE rooms ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0",
        # Removals from the index since it was last merged: by edits and deletions, and by retention.
        "CREATE TABLE search_debris (deletions INTEGER NOT NULL, removals INTEGER NOT NULL) STRICT",
        "INSERT INTO search_debris VALUES (0, 0)",
    ),
    _SIGN_OUTS,
    (
        # An earlier server's schema 5 had an index of FTS5's own words, which differ for texts that are not ASCII.
        "DROP TRIGGER IF EXISTS message_changed",
        "DROP TRIGGER IF EXISTS message_removed",
        "DROP TABLE IF EXISTS search",
        # Phrases are not searched for and ranking is done elsewhere, so positions and lengths are left out. That halves
        # the cost of a message.
        "CREATE VIRTUAL TABLE search USING fts5(text, content = '', detail = none, columnsize = 0, tokenize = 'ascii')",
        # The version of `words` that made the words in the index.
        "CREATE TABLE search_words (version TEXT NOT NULL) STRICT",
        "INSERT INTO search_words VALUES ('')",
    ),
    _NAMES,
    ("INSERT INTO search(search, rank) VALUES ('automerge', 0)",),  # see sqlite_indexing.py
    (
        # The index has the authors as well.
        "DROP TRIGGER IF EXISTS message_changed",
        "DROP TRIGGER IF EXISTS message_removed",
        _CHANGED,
        _REMOVED,
        "UPDATE search_words SET version = ''",
    ),
    (_ROOM_GOES.format("removed", "DELETE"), _ROOM_GOES.format("renamed", "UPDATE OF id, name")),
)
#: Segments of one level of the index from which on they are merged. With FTS5's usual 4 each word is written on more
#: levels, and an edit costs the writing thread 6% more; a search costs the same.
MERGE_FROM = 6
# Removing a text from the index needs the same words that were put in. So with a new version of `words` the index is
# emptied, and filled again in the background.
_INDEX_ANEW = (
    "INSERT INTO search(search) VALUES ('delete-all')",
    f"INSERT INTO search(search, rank) VALUES ('usermerge', {MERGE_FROM})",  # noqa: S608
    "UPDATE rooms SET indexed = 0",
    "UPDATE search_debris SET deletions = 0, removals = 0",
)


def migrate(connection: sqlite3.Connection) -> Identity | None:
    """Bring the schema up to date in one transaction, which is begun in any case to see that the file is not locked.

    None: the identity is missing, so the file is damaged.
    """
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version == 0:
        made = new_identity()
        connection.execute("INSERT INTO identity VALUES (?, ?)", (made.epoch, made.secret))
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    if connection.execute("SELECT version FROM search_words").fetchone() != (VERSION,):
        for statement in _INDEX_ANEW:
            connection.execute(statement)
        connection.execute("UPDATE search_words SET version = ?", (VERSION,))
    row = connection.execute("SELECT epoch, secret FROM identity").fetchone()
    connection.execute("COMMIT")
    return None if row is None else Identity(epoch=row[0], secret=row[1])
