"""Make a database of ten years: 10,000,000 messages, with what is stored beside them, as the server writes it.

    python -m tests.bench.decade chat.db
    python -m tests.bench.decade chat.db --into postgresql://USER@HOST/DATABASE

The first takes 4 minutes and 1.8 GB. Rooms and words follow Zipf's law, but for one room with three tenths of all. The
second copies such a file, and takes 5 minutes and the time of an index of words. Its tables must be empty, as after a
first start.
"""

import random
import sqlite3
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from itertools import accumulate, count
from pathlib import Path
from time import time
from typing import NamedTuple

import psycopg

from chatserver.log.interface import Kind, MessageState, Reaction, Record
from chatserver.log.postgres_schema import MIGRATIONS
from chatserver.log.rows import COLUMNS, OFFSET_BITS, more_of
from chatserver.log.sqlite_file import connect_writer, create_private
from chatserver.log.sqlite_schema import AUTHOR_OF, BASE, OFFSETS
from chatserver.log.words import words_of
from tests.bench.search import Language

ROOMS, USERS, YEARS_MS = 20_000, 200_000, 10 * 365 * 86_400_000
#: Of a thousand records: reactions, edits and deletions.
REACTIONS, EDITS, DELETIONS = 88, 20, 5
#: A step of the making: later records alter earlier ones of the same step.
STEP = 50_000
FOREIGN = ("Grüße aus Köln", "déjà vu encore", "привет всем", "東京は今日も雨", "😀 schön", "Ωμέγα τέλος")
EMOJI = "👍😂🎉👀"


class Row(NamedTuple):
    place: int
    record: Record


class Decade:
    def __init__(self, messages: int) -> None:
        self.random = random.Random(7)
        self.records = int(messages * 1000 / (1000 - REACTIONS - EDITS - DELETIONS))
        self.now = int(time() * 1000)
        self.rooms = ["big", *(f"room-{number}" for number in range(1, ROOMS))]
        self.weights = list(accumulate([0.3, *(0.067 / number for number in range(1, ROOMS))]))
        self.ids = [f"u_{number:06}" if number % 4 else f"g_{number:015x}" for number in range(USERS)]
        self.user_weights = list(accumulate((number + 20) ** -0.8 for number in range(USERS)))
        self.last = [0] * ROOMS
        language = Language(3)
        self.phrases = [" ".join(language.words(self.random.randint(1, 7))) for _ in range(80_000)]
        self._rare = count(1)

    def text(self) -> str:
        text = f"{self.random.choice(self.phrases)} {self.random.choice(self.phrases)}"
        kind = self.random.random()
        if kind < 0.03:
            return f"{text} {self.random.choice(FOREIGN)}"
        return f"{text} rareword{next(self._rare)}" if kind < 0.031 else text

    def step(self, first: int) -> tuple[list[Row], list[tuple[int, str, str]]]:
        """The next STEP records, the first being this one of all, and who reacted with what."""
        size = min(STEP, self.records - first)
        rows: list[Row] = []
        messages: list[int] = []  # where those are in `rows`
        reacted: dict[tuple[int, str, str], None] = {}
        rooms = self.random.choices(range(ROOMS), cum_weights=self.weights, k=size)
        users = self.random.choices(self.ids, cum_weights=self.user_weights, k=size)
        for number, (room, user) in enumerate(zip(rooms, users, strict=True)):
            now = self.now - YEARS_MS + YEARS_MS * (first + number) // self.records
            kind = self.random.randrange(1000)
            if kind < REACTIONS + EDITS + DELETIONS and messages:
                at = self.random.choice(messages[-4000:])
                place, target = rows[at]
                if not (target.state and target.state.edit) and not (target.state and target.state.deleted):
                    there = (place >> OFFSET_BITS) - 1
                    record, altered = self._change(kind, target, self.last[there] + 1, user, now)
                    if record.reaction is not None:
                        if (place, record.reaction.emoji, user) in reacted:
                            continue
                        reacted[place, record.reaction.emoji, user] = None
                    self.last[there] = record.offset
                    rows[at] = Row(place, altered)
                    rows.append(Row(place - target.offset + record.offset, record))
                    continue
            self.last[room] += 1
            record = Record(self.rooms[room], self.last[room], now, user, f"Person {user[-6:]}", self.text())
            messages.append(len(rows))
            rows.append(Row(((room + 1) << OFFSET_BITS) + record.offset, record))
        deleted = {place for place, record in rows if record.state and record.state.deleted}
        return rows, [each for each in reacted if each[0] not in deleted]

    def _change(self, kind: int, target: Record, offset: int, user: str, now: int) -> tuple[Record, Record]:
        """A reaction, an edit or a deletion, and the message after it."""
        before = target.state or MessageState()
        text, reaction = target.text, None
        if kind < REACTIONS:
            emoji = self.random.choice(EMOJI)
            counts = dict(before.reactions)
            counts[emoji] = counts.get(emoji, 0) + 1
            state = MessageState(reactions=tuple(counts.items()))
            made, reaction, written = Kind.REACTION, Reaction(emoji, True, counts[emoji]), ""
        elif kind < REACTIONS + EDITS:
            text = written = f"{self.random.choice(self.phrases)} edited"
            user, made, state = target.user_id, Kind.EDIT, MessageState(now, offset, False, before.reactions)
        else:
            text = written = ""
            user, made, state = target.user_id, Kind.DELETE, MessageState(deleted=True)
        record = Record(
            target.room, offset, now, user, f"Person {user[-6:]}", written, made, target.offset, reaction=reaction
        )
        return record, Record(
            target.room, target.offset, target.time, target.user_id, target.user_name, text, state=state
        )

    def markers(self) -> Iterator[tuple[str, int, int, int]]:
        """Two million: each user's in a few rooms, and `heavy` in 2,000."""
        for _ in range(self.records // 6):
            room = self.random.randrange(ROOMS)
            moved = self.now - int(self.random.random() ** 2 * YEARS_MS)
            yield self.random.choice(self.ids), room + 1, self.random.randint(0, self.last[room]), moved
        for room in range(0, 2_000 * 9, 9):
            yield "heavy", room + 1, max(0, self.last[room] - self.random.choice((0, 3, 50, 2_000))), self.now

    def sanctions(self) -> Iterator[tuple[object, ...]]:
        for number in range(50_000):
            until = number % 3 and self.now + self.random.randint(60_000, 400 * 86_400_000)
            yield (
                self.rooms[number % ROOMS],
                "mute",
                self.ids[number],
                "",
                until,
                "spam",
                "mod",
                "Mod",
                self.now,
                "Name",
            )

    def entries(self) -> Iterator[tuple[object, ...]]:
        for number in range(50_000):
            yield self.now - (50_000 - number) * 600_000, "mod", "Mod", "", "mute", "big", self.ids[number], "spam", 0

    def sign_outs(self) -> Iterator[tuple[int, ...]]:
        for number in range(100_000):
            yield number * 1_152_921_504_606, 0, self.now, self.now + self.random.randint(60_000, 400 * 86_400_000)


def make(path: Path, messages: int) -> None:
    create_private(path)
    database, _ = connect_writer(path)
    decade = Decade(messages)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -800000"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("BEGIN")
    triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'messages'")
    kept = triggers.fetchall()
    for name, _ in kept:
        database.execute(f"DROP TRIGGER {name}")

    def insert(into: str, rows: Iterable[tuple[object, ...]]) -> None:
        marks = ", ".join("?" * (into.count(",") + 1))
        database.executemany(f"INSERT OR IGNORE INTO {into} VALUES ({marks})", rows)

    insert("rooms (id, name)", enumerate(decade.rooms, 1))
    for first in range(0, decade.records, STEP):
        rows, reactions = decade.step(first)
        insert(f"messages (place, {COLUMNS})", (
            (place, each.time, each.user_id, each.user_name, each.text, int(each.kind), each.target, more_of(each))
            for place, each in rows
        ))  # fmt: skip
        insert("reactions (place, emoji, user_id)", reactions)
    insert("markers (user_id, room, read, moved)", sorted(decade.markers()))
    columns = "room, kind, user, network, until, reason, by_id, by_name, time, user_name"
    insert(f"sanctions ({columns})", decade.sanctions())
    insert("audit (time, by_id, by_name, network, action, room, target, detail, minor)", decade.entries())
    insert("signouts (number, guest, time, until)", decade.sign_outs())
    text = "iif(length(text) = length(CAST(text AS BLOB)), text, spaced_words(text))"
    database.execute(f"""INSERT INTO search (rowid, text) SELECT place, {text} || {AUTHOR_OF.format("messages")}
        FROM messages WHERE kind = 0 ORDER BY place""")
    database.execute(f"""UPDATE rooms SET indexed = coalesce((SELECT max(place) FROM messages
        WHERE place BETWEEN {BASE} + 1 AND {BASE} + {OFFSETS} - 1) % {OFFSETS}, 0)""")
    for _, trigger in kept:
        database.execute(trigger)
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()


def copy(path: Path, url: str) -> None:
    """Copy a file into the empty tables of a database that a server has made."""
    file = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    room, offset = f"place >> {OFFSET_BITS}", f"place % {OFFSETS}"
    ends = f"SELECT {room} AS room, max(place) % {OFFSETS} AS last, time FROM messages GROUP BY 1"
    tables = {
        "rooms (id, name, last, time)": f"SELECT id, name, last, time FROM rooms JOIN ({ends}) ON room = id",
        f"messages (room, place, {COLUMNS}, words)": f"SELECT {room}, {offset}, {COLUMNS} FROM messages ORDER BY time",
        "reactions": f"SELECT {room}, {offset}, emoji, user_id FROM reactions",
        "markers": "SELECT * FROM markers",
    }
    with psycopg.connect(url, options="-c search_path=chatserver") as database:
        database.execute("DROP INDEX messages_words")
        for table, query in tables.items():
            with database.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as rows:
                for row in file.execute(query):
                    words = (None if row[6] else " ".join(words_of(row[5])),) if "words" in table else ()
                    rows.write_row((*row, *words))
        [index] = [each for each in MIGRATIONS[6] if "CREATE INDEX" in each]
        database.execute(index)
        database.execute("ANALYZE")


if __name__ == "__main__":
    parser = ArgumentParser(description="Make a database of ten years.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--into", help="copy the file into this database of PostgreSQL")
    given = parser.parse_args()
    if given.into:
        copy(given.path, given.into)
    else:
        make(given.path, given.messages)
