"""The words of a text; every engine finds the same before and after a message is indexed."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chatserver.log import words as words_module
from chatserver.log.index import Question
from chatserver.log.interface import Log, Stored
from chatserver.log.memory import MemoryLog
from chatserver.log.postgres import PostgresLog
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_index import SqliteIndex
from chatserver.log.sqlite_indexing import index_rooms
from chatserver.log.words import Matcher, spaced_words, words_of
from tests.log.support import draft, running, submit_all
from tests.log.test_index import never
from tests.support.examples import examples

#: Thousands of equivalent ideographs, syllables and private characters: every 16th is enough.
ALIKE = ((0x3400, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0xF900), (0x12000, 0x16800), (0x17000, 0x1B000))
#: Scripts with accents, points and vowel signs; letters whose other case is two letters or another; non-letters.
ODD = (
    "aA\xe9\xc9e\u0301\u0345\u0308\xdf\u1e9esS\u017ft\ufb01\ufb05\u0130I\u0131i\u0307"  # Latin
    "\u01c5\u01c6\u0149\uff21\uff41\u212b"
    "\u03c2\u03c3\u03a3\u03cc\u03bf\xb5\u03bc"  # Greek
    "\u0435\u0451\u0439\u0419\u0438\u0306\u0457\u0488"  # Cyrillic
    "\u05e9\ufb2a\u05c1\u05b8\u0645\u064f\u0623\u0627\u0654"  # Hebrew, Arabic
    "\u0939\u093f\u0928\u094d\u0958\u0f43\u0e01\u0e34"  # India, Tibet, Thailand
    "\u304b\u3099\u304c\uff76\uff9e\u6771\uf91d\u3005\u309b\ud55c\u1112\u1161"  # Japan, Korea
    "\u10a0\u10d0\u1c90\u13a0\uab70"  # Georgia, Cherokee
    "\xbd\xb2\u2167\U0001d400\U00010400\U0001faef\ue000"  # numbers, private, new
    " _-.'\u2019\U0001f44b\u2764\ufe0f\u200d\u200c\xad\u20e3\n"  # no letters
)
#: The server refuses a message with NUL, which PostgreSQL cannot hold.
ANY = st.characters(codec="utf-8", exclude_characters="\0")
parts = st.text(st.sampled_from(ODD), max_size=8) | st.text(ANY, max_size=8)
texts = st.lists(parts, min_size=1, max_size=6).map(" ".join)


def characters() -> list[str]:
    return [
        chr(number)
        for number in range(1, 0x20000)
        if not 0xD800 <= number < 0xE000
        and (number % 16 == 0 or not any(first <= number < end for first, end in ALIKE))
    ]


@given(texts, texts)
def test_neighbouring_characters_do_not_change_a_word(text: str, other: str) -> None:
    words = words_of(text)
    assert [words_of(word) for word in words] == [[word] for word in words]
    assert set(words_of(f"{other} {text}, {other}")) == {*words, *words_of(other)}
    assert not words or Matcher(words, prefix=True).score(f"{other} {text}, {other}") > 0


@given(texts)
def test_a_snippet_marks_the_words(text: str) -> None:
    words = words_of(text)
    if words:
        assert any(is_hit for _, is_hit in Matcher(words[:1], prefix=False).snippet(text))


def test_a_snippet_begins_at_a_word_shortly_before_the_first_hit() -> None:
    for text, snippet in [
        ("needle", [("needle", True)]),
        ("before " * 9 + "needle", [("…", False), ("before " * 5, False), ("needle", True)]),
        ("-" * 60 + "needle", [("…", False), ("-" * 40, False), ("needle", True)]),
        ("needle " + "x" * 153, [("needle", True), (" " + "x" * 153, False)]),
        ("needle " + "x" * 154, [("needle", True), (" " + "x" * 153 + "…", False)]),
    ]:
        assert Matcher(["needle"], prefix=False).snippet(text) == snippet


def test_a_snippet_folds_a_text_once_and_marks_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """To fold each of 2,700 ideographs made a search twice as long, in a thread that competes with the loop."""
    folded: list[str] = []
    fold = words_module.fold

    def noted(text: str) -> str:
        folded.append(text)
        return fold(text)

    monkeypatch.setattr(words_module, "fold", noted)
    for text, hits in [
        ("\u4eac" * 2_700 + " Caf\xe9", ["Caf\xe9"]),
        ("\u6771\u3099 cafe", ["\u6771\u3099", "cafe"]),  # with a mark that does not belong to it
        ("\u0301\u20e3 \u6771 cafe", ["\u6771", "cafe"]),  # after marks without a letter
        ("\u30ab\u3099\u30fc\u30c8\u3099 cafe", ["cafe"]),  # katakana as macOS writes it in the names of files
        ("\u30a2\u3099" * 3 + "! cafe", ["cafe"]),  # a scream in katakana, which is not one character with its mark
    ]:
        folded.clear()
        snippet = Matcher(["\u6771", "cafe"], prefix=False).snippet(text)
        assert [piece for piece, is_hit in snippet if is_hit] == hits
        assert folded == [text]


def test_snippets_and_words_agree_on_every_character() -> None:
    for character in characters():
        text = f"x{character}y"
        assert len(words_module._UNFOLDED_WORD.findall(text.replace("_", " "))) == len(words_of(text)), text


def test_the_index_of_sqlite_has_the_words_of_every_character(connection: sqlite3.Connection) -> None:
    """FTS5 must neither split nor fold any character."""
    connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, search, instance)")
    connection.execute("BEGIN")
    rows = ((number, spaced_words(f"A{character}B")) for number, character in enumerate(characters()))
    connection.executemany("INSERT INTO search(rowid, text) VALUES (?, ?)", rows)
    found = set(connection.execute("SELECT doc, term FROM vocabulary").fetchall())
    assert found == {
        (number, word) for number, character in enumerate(characters()) for word in words_of(f"A{character}B")
    }


# -- before and after


class Logs:
    """Logs of every engine with the same messages, in one room for each example."""

    def __init__(self, sqlite: SqliteLog, others: Sequence[Log]) -> None:
        self._sqlite = sqlite
        self._others = others
        self._examples = 0

    async def answers(self, said: Sequence[str], asked: str) -> list[set[int]]:
        """The offsets that each engine finds: SQLite before and after indexing, then the others."""
        self._examples += 1
        room = f"room-{self._examples}"
        question = Question(tuple(words_of(asked)), room=room)
        for log in (self._sqlite, *self._others):
            outcomes = await submit_all(log, [draft(text, room=room) for text in said])
            assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes
        answers = [await self._find(self._sqlite, question)]
        await self._sqlite.change("indexing", partial(index_rooms, [room]))
        for log in (self._sqlite, *self._others):
            answers.append(await self._find(log, question))  # noqa: PERF401
        return answers

    async def _find(self, log: Log, question: Question) -> set[int]:
        return {hit.record.offset for hit in (await log.index.find(question)).hits}


async def test_every_engine_finds_the_same_before_and_after_indexing(
    path: Path, postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteIndex, "run", never)
    sqlite = SqliteLog(str(path))
    async with running(sqlite), running(MemoryLog()) as memory, running(PostgresLog(postgres_tables)) as postgres:
        logs = Logs(sqlite, [memory, postgres])

        @examples(60)
        @given(st.lists(texts, min_size=1, max_size=5), st.data())
        def check(said: list[str], data: st.DataObject) -> None:
            text = data.draw(st.sampled_from(said) | texts)
            asked = text[data.draw(st.integers(0, len(text))) :][: data.draw(st.integers(1, 12))]
            if words_of(asked):
                first, *others = trio.from_thread.run(logs.answers, said, asked)
                assert others == [first] * len(others)
                assert first == {
                    offset for offset, each in enumerate(said, 1)
                    if Question(tuple(words_of(asked))).matcher().score(each)
                }  # fmt: skip

        await trio.to_thread.run_sync(check)
