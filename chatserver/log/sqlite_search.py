"""One search in SQLite: the messages that the index has, and the newest of those that it does not have yet.

Owns: the queries, and how long they may take. May not: write, or know when messages are indexed. It runs in a thread.
"""

import sqlite3
from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import Any

import msgspec

from chatserver.log.index import CANDIDATES, RANKED_BYTES, SEARCH_BUDGET, TAIL, Found, Question, ranked
from chatserver.log.interface import Record
from chatserver.log.rows import COLUMNS, IS_MESSAGE, OFFSET_BITS, record_of
from chatserver.log.sqlite_schema import BASE, IN_ROOM, OFFSETS
from chatserver.log.words import author_word

#: Seconds that a search may last including waits, as on a slow disk.
SLOWEST_SEARCH = 2.0
#: Instructions of SQLite's virtual machine between two calls of the progress handler, which needs the interpreter lock.
PROGRESS_INSTRUCTIONS = 500
#: Entries of the index from which on a prefix is not looked up there; counting them takes 20 ms. FTS5 would list
#: them all before it finds the first message, even in a small room, and cannot be interrupted meanwhile.
MAX_LISTED = 100_000
#: Newest messages that are compared with such a prefix instead, and records among which they are. One in ten of a
#: million has it: 100 hits.
COMPARED, COMPARED_RECORDS = 1_000, 5_000

# Only constants of this package are formatted into statements. Each returns one row (see sqlite_rows.py).
_RECORD = f"json_array(name, place % {OFFSETS}, {COLUMNS})"


def _records_of(table: str, order: str) -> str:
    """The records of a table as JSON: the first in this order, if they have more text than is ranked.

    500 of the longest texts are 8 MB of JSON, and the loop would wait 10 ms while they are decoded.
    """
    size = f"sum(length(CAST(text AS BLOB))) OVER (ORDER BY {order}) AS size"
    return f"""coalesce(
        (SELECT CASE WHEN sum(length(text)) <= {RANKED_BYTES} THEN json_group_array({_RECORD}) END FROM {table}),
        (SELECT json_group_array({_RECORD}) FROM (SELECT *, {size} FROM {table}) WHERE size <= {RANKED_BYTES})
    )"""  # noqa: S608


def _find(places: str) -> str:
    """The newest messages at some places, and the place below which there may be more."""
    return f"""
    WITH found AS MATERIALIZED ({places} DESC LIMIT :most), taken AS MATERIALIZED (
        SELECT name, place, {COLUMNS}
        FROM found CROSS JOIN messages USING (place) CROSS JOIN rooms ON rooms.id = place >> {OFFSET_BITS}
        WHERE {IS_MESSAGE} ORDER BY place DESC LIMIT :candidates
    )
    SELECT {_records_of("taken", "place DESC")}, CASE
        WHEN (SELECT count(*) FROM taken) = :candidates THEN (SELECT min(place) FROM taken)
        WHEN (SELECT count(*) FROM found) = :most THEN (SELECT min(place) FROM found)
    END
    """  # noqa: S608


_FIND = _find("""
    SELECT rowid AS place FROM search WHERE search MATCH :words AND rowid BETWEEN :low AND :high ORDER BY rowid
""")
_FIND_ANY = _find("SELECT place FROM messages WHERE place BETWEEN :low AND :high ORDER BY place")
_LISTED = """
    SELECT count(*) FROM
        (SELECT 1 FROM search_entries WHERE term >= :prefix AND term < :prefix || char(0x10FFFF) LIMIT :most)
"""
_TAIL = f"""
    WITH unindexed AS MATERIALIZED (
        SELECT name, place, {COLUMNS}
        FROM json_each(:rooms) AS asked CROSS JOIN rooms ON rooms.name = asked.value
        CROSS JOIN messages ON place < {BASE} + :before AND place > max({BASE} + indexed, :each_newest + coalesce(
            (SELECT max(place) FROM messages WHERE {IN_ROOM}), 0))
            AND {IS_MESSAGE}
    )
    SELECT {_records_of("unindexed", "time DESC, place DESC")}
"""  # noqa: S608

_decode = msgspec.json.Decoder(list[tuple[str, int, int, str, str, str, int, int, str]]).decode


class Search:
    """One search. The loop sets `in_vain` when no caller waits for it any more."""

    def __init__(self, question: Question, behind: Sequence[str], now_ms: int) -> None:
        self._question = question
        self._behind = behind
        self._now_ms = now_ms
        self.in_vain = False

    def run(self, connection: sqlite3.Connection) -> Found:
        """Search unindexed messages first: a message that is indexed meanwhile is found twice rather than missed."""
        connection.set_progress_handler(self._stopwatch(), PROGRESS_INSTRUCTIONS)
        try:
            found = _find_in_tail(self._question, self._behind, connection)
            records, go_on = _find_in_index(self._question, connection)
        finally:
            connection.set_progress_handler(None, 0)
        found |= {(record.room, record.offset): record for record in records}
        return Found(ranked(found.values(), self._question, self._now_ms), go_on)

    def _stopwatch(self) -> Callable[[], bool]:
        """SQLite's progress handler: whether to stop. The budget counts work of this thread, not waits."""
        work_ends, ends = thread_time() + SEARCH_BUDGET, perf_counter() + SLOWEST_SEARCH
        return lambda: self.in_vain or thread_time() > work_ends or perf_counter() > ends


def _find_in_tail(
    question: Question, behind: Sequence[str], connection: sqlite3.Connection
) -> dict[tuple[str, int], Record]:
    if not behind or question.go_on is not None:
        return {}
    parameters = {
        "rooms": msgspec.json.encode(behind).decode(),
        "before": OFFSETS if question.before is None else min(question.before, OFFSETS),
        "each_newest": -max(TAIL // len(behind), 1),
    }
    (rows,) = connection.execute(_TAIL, parameters).fetchone()
    score = question.matcher().score
    return {
        (record.room, record.offset): record
        for record in _records(rows)
        if question.user in (None, record.user_id) and score(record.text)
    }


def _find_in_index(question: Question, connection: sqlite3.Connection) -> tuple[list[Record], int | None]:
    low, high = 0, (1 << 63) - 1
    if question.room is not None:
        row = connection.execute("SELECT id FROM rooms WHERE name = ?", (question.room,)).fetchone()
        if row is None:
            return [], None
        low = row[0] << OFFSET_BITS
        high = low + min(OFFSETS if question.before is None else question.before, OFFSETS) - 1
    parameters: dict[str, Any] = {
        "low": low,
        "high": high if question.go_on is None else min(question.go_on - 1, high),
        "most": CANDIDATES,
        "candidates": CANDIDATES,
    }
    author = () if question.user is None else (author_word(question.user),)
    *others, last = (f'"{word}"' for word in (*author, *question.words))

    def find(*words: str) -> tuple[list[Record], int | None]:
        statement = _FIND if words else _FIND_ANY
        rows, lowest = connection.execute(statement, {**parameters, "words": " ".join(words)}).fetchone()
        return _records(rows), lowest

    # First with the last word as a whole word: if that finds enough, the costlier search by prefix is not needed.
    records, lowest = find(*others, last)
    if question.prefix and lowest is None:
        prefix = {"prefix": question.words[-1], "most": MAX_LISTED}
        (listed,) = connection.execute(_LISTED, prefix).fetchone()
        if listed < MAX_LISTED:
            more, lowest = find(*others, last + "*")
        else:
            parameters |= {"most": COMPARED_RECORDS, "candidates": COMPARED}
            more, lowest = find(*others)
        records += more
    return records, lowest


def _records(rows: str) -> list[Record]:
    return [record_of(*row) for row in _decode(rows)]
