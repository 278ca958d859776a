"""Adding messages to the full-text table: a few statements for many rooms; and merging its segments.

Owns: which messages one step adds, how many, and how much it merges. May not: know when. It runs in the writing thread,
in a transaction.

Each commit that changes the index leaves a segment, and segments are merged in levels. FTS5 would merge hundreds of
pages in one commit now and then, for which others waited 35 ms. So its `automerge` is off, and each merges a few.
"""

import sqlite3
from collections.abc import Sequence
from itertools import accumulate
from time import perf_counter

import msgspec

from chatserver.log.rows import IS_MESSAGE, OFFSET_BITS
from chatserver.log.sqlite_rows import execute_rows
from chatserver.log.sqlite_schema import AUTHOR_OF, BASE, MERGE_FROM, OFFSETS
from chatserver.log.words import author_word, spaced_words

#: Seconds of one step, for which a commit may have to wait. With 10 ms, and 256 messages between two looks at the
#: clock, users wait 35 ms beside 600 peers that publish and reset, instead of 25.
INDEX_STEP = 0.003
#: Messages between two looks at the clock in a step, and the bytes with which it takes no further one: 1 to 4 ms, and
#: 12 ms for one text of 8,000 different ideographs, each of which is a word. Each statement leaves a segment to be
#: merged: a publish costs 2% more than with 256.
INDEX_CHUNK, INDEX_CHUNK_BYTES = 64, 16 * 1024
#: Pages of the index that one commit merges, in 2 ms: several times as many as a commit writes.
MERGE_PAGES = 16
#: Segments of one level from which on they are merged during a cleaning, the least that FTS5 allows.
MERGE_ALL_FROM = 2

# Only ? marks and constants of this package are formatted into statements.
# The next records of rooms: the number of the room among those asked, the place, the bytes of text.
_CHUNK = f"""
    SELECT json_group_array(json_array(key, place, length(CAST(text AS BLOB)), length(text))) FROM (
        SELECT key, place, text FROM json_each(?) AS asked CROSS JOIN rooms ON rooms.name = asked.value
        CROSS JOIN messages ON place > {BASE} + indexed AND place < {BASE} + {OFFSETS} LIMIT ?
    )
"""  # noqa: S608
# The + keeps SQLite from building an automatic index on the kinds of all messages, which it does for 256 rows.
_FIND_TEXTS = f"""
    SELECT json_group_array(json_array(place, text, user_id)) FROM (ROWS)
    CROSS JOIN messages ON place > column1 AND place <= column2 AND +{IS_MESSAGE}
"""  # noqa: S608
_BRING_ASCII = f"""
    INSERT INTO search(rowid, text) SELECT place, text || {AUTHOR_OF.format("messages")} FROM (ROWS)
    CROSS JOIN messages ON place > column1 AND place <= column2 AND +{IS_MESSAGE}
"""  # noqa: S608
_BRING = "INSERT INTO search(rowid, text) SELECT * FROM (ROWS) WHERE column1 > 0"
_MERGE = "INSERT INTO search(search, rank) VALUES (?, ?)"
_MARK = "UPDATE rooms SET indexed = column2 FROM (ROWS) WHERE id = column1"


_decode_chunk = msgspec.json.Decoder(list[tuple[int, int, int, int]]).decode
_decode_texts = msgspec.json.Decoder(list[tuple[int, str, str]]).decode


def index_rooms(rooms: Sequence[str], connection: sqlite3.Connection) -> Sequence[str]:
    """Index messages of these rooms for INDEX_STEP; returns the rooms that are fully indexed."""
    ends = perf_counter() + INDEX_STEP
    left = rooms
    while left and perf_counter() < ends:
        left = _index_chunk(left, connection)
        merge(MERGE_PAGES, connection)
    return rooms[: len(rooms) - len(left)]


def merge(pages: int, connection: sqlite3.Connection) -> bool:
    """Merge this many pages; returns whether there may be more. Without any, SQLite changes less than two rows."""
    before = connection.total_changes
    connection.execute(_MERGE, ("merge", pages))
    return connection.total_changes - before >= 2


def begin_cleaning(connection: sqlite3.Connection) -> None:
    """Combine all segments into one merge, which each `merge` continues until `end_cleaning`.

    FTS5 turns to a level that got more segments meanwhile than this merge has. Too few for a merge of their own, they
    would stop all merging: two new segments were enough, and the words of removed texts stayed in the file.
    """
    connection.execute(_MERGE, ("usermerge", MERGE_ALL_FROM))
    connection.execute(_MERGE, ("merge", -MERGE_PAGES))


def end_cleaning(connection: sqlite3.Connection) -> None:
    """See `begin_cleaning`."""
    connection.execute(_MERGE, ("usermerge", MERGE_FROM))


def _index_chunk(rooms: Sequence[str], connection: sqlite3.Connection) -> Sequence[str]:
    """Index the next messages of these rooms; returns the rooms that may have more.

    Messages are inserted in the order of their places, because FTS5 begins a new segment at each one out of order.
    """
    asked = msgspec.json.encode(rooms).decode()
    chunk = _decode_chunk(connection.execute(_CHUNK, (asked, INDEX_CHUNK)).fetchone()[0])
    sizes = accumulate(length for _, _, length, _ in chunk)
    taken = chunk[: 1 + sum(size < INDEX_CHUNK_BYTES for size in sizes)]
    places: dict[int, list[int]] = {}  # by room
    for _, place, _, _ in taken:
        places.setdefault(place >> OFFSET_BITS, []).append(place)
    ranges = [(each[0] - 1, each[-1]) for _, each in sorted(places.items())]
    if all(length == characters for _, _, length, characters in taken):
        execute_rows(connection, _BRING_ASCII, ranges, 2)
    else:
        (texts,) = execute_rows(connection, _FIND_TEXTS, ranges, 2).fetchone()
        found = _decode_texts(texts)
        words = [(place, f"{spaced_words(text)} {author_word(user_id)}") for place, text, user_id in found]
        execute_rows(connection, _BRING, words, 2)
    marks = [(last >> OFFSET_BITS, last % OFFSETS) for _, last in ranges]
    execute_rows(connection, _MARK, marks, 2)
    if len(taken) == len(chunk) < INDEX_CHUNK:
        return ()
    return rooms[taken[-1][0] :]
