"""One step of indexing, over many rooms."""

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chatserver.log import retention, sqlite_file, sqlite_indexing, sqlite_retention
from chatserver.log.interface import Draft, Stored
from chatserver.log.sqlite_indexing import index_rooms
from chatserver.log.sqlite_rows import execute_rows
from chatserver.log.sqlite_writer import SqliteWriter
from tests.log.support import draft
from tests.log.test_records import edit
from tests.support.examples import examples


class Database:
    """A new file with messages in rooms."""

    def __init__(self, path: Path, rooms: str, text: str = "apple") -> None:
        self.connection, _ = sqlite_file.connect_writer(path)
        self.chunks: list[int] = []  # the number of messages in each statement that adds some to the index
        self._writer = SqliteWriter(self.connection, lambda: 1, lambda: None)
        if rooms:
            self.write(*[draft(text, room=room) for room in rooms])

    def write(self, *drafts: Draft) -> None:
        """Store these in one group."""
        assert all(isinstance(outcome, Stored) for outcome in self._writer.commit(drafts))

    def index(self, rooms: str) -> str:
        """Run one step over these rooms. Returns the rooms that are fully indexed then."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite_indexing, "execute_rows", self._execute_rows)
            return "".join(self._writer.change("indexing", lambda connection: index_rooms([*rooms], connection)))

    def _execute_rows(
        self, connection: sqlite3.Connection, statement: str, rows: Iterable[Iterable[object]], width: int
    ) -> sqlite3.Cursor:
        cursor = execute_rows(connection, statement, rows, width)
        if "INSERT INTO search" in statement:
            self.chunks.append(cursor.rowcount)
        return cursor

    def retain(self, kept: int) -> None:
        """Remove messages beyond so many in each room, in one step."""
        step = partial(retention.step, sqlite_retention, lambda _: (kept, 0), 0, 1)
        self._writer.change("retention", step)

    def pages_written(self, work: Callable[[], object]) -> int:
        """The number of pages of the index that this work writes."""
        statements: list[str] = []
        self.connection.set_trace_callback(statements.append)
        work()
        self.connection.set_trace_callback(None)
        return sum("REPLACE INTO" in statement for statement in statements)

    def indexed(self) -> dict[str, int]:
        """The indexed offset of each room."""
        return dict(self.connection.execute("SELECT name, indexed FROM rooms WHERE indexed"))

    def found(self) -> int:
        """The number of messages in the index."""
        (count,) = self.connection.execute("SELECT count(*) FROM search WHERE search MATCH 'apple'").fetchone()
        return int(count)


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_indexing, "INDEX_CHUNK", 4)
        patch.setattr(sqlite_indexing, "perf_counter", lambda: 0.0)  # the time of a step never ends
        yield


@examples(25)
@given(
    written=st.text("abcdef", max_size=40),
    asked=st.permutations("abcdefz"),
    text=st.sampled_from(["apple", "apple pie", "apple é"]),
)
def test_each_message_of_the_rooms_is_indexed_once_a_few_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, written: str, asked: list[str], text: str
) -> None:
    path = tmp_path_factory.mktemp("indexing") / "chat.db"
    database = Database(path, written, text)
    with closing(database.connection), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_indexing, "INDEX_CHUNK_BYTES", 4 * len("apple"))
        for _ in range(2):  # the second time there is nothing to do
            assert database.index("".join(asked)) == "".join(asked)
        assert database.indexed() == Counter(written)
        assert database.found() == sum(database.chunks) == len(written)
        assert max(database.chunks) <= (4 if text == "apple" else 3)


def test_a_step_out_of_time_reports_the_fully_indexed_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last room of a chunk may have more messages."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += sqlite_indexing.INDEX_STEP * 0.6  # time for one chunk
        return now

    monkeypatch.setattr(sqlite_indexing, "perf_counter", clock)
    database = Database(tmp_path / "chat.db", "aabbbbbc")
    with closing(database.connection):
        assert database.index("cxab") == "cxa"
        assert database.indexed() == {"c": 1, "a": 2, "b": 1}
        assert database.index("b") == ""
        assert database.index("b") == "b"
        assert database.indexed() == {"c": 1, "a": 2, "b": 5}
        assert database.found() == sum(database.chunks) == 8


@pytest.mark.parametrize("how", ["editing", "retaining"])
def test_a_commit_writes_few_pages_of_an_index_of_any_size(tmp_path: Path, how: str) -> None:
    """FTS5 would merge hundreds in one commit now and then; and all at once what no commit has merged."""
    most, many, chance = 2 * sqlite_indexing.MERGE_PAGES, 120, random.Random(1)
    database = Database(tmp_path / "chat.db", "")
    with closing(database.connection):
        for _ in range(many):
            database.write(draft(" ".join(f"{chance.getrandbits(64):x}" for _ in range(500)), room="a"))  # four pages
            assert database.pages_written(partial(database.index, "a")) <= most
        for number in range(1, many):
            written = database.pages_written(
                partial(database.write, replace(edit(number, str(number)), room="a"))
                if how == "editing"
                else partial(database.retain, many - number)
            )
            assert written <= most
