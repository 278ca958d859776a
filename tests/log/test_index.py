"""Searching: one suite for all engines, with all messages in the index or none."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.log import postgres_index
from chatserver.log.index import MAX_HITS, Found, Question
from chatserver.log.interface import Log
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import Connection
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_index import SqliteIndex
from chatserver.log.words import words_of
from tests.log.support import ENGINES, Clock, draft, running, submit_all, texts
from tests.log.test_records import delete, edit
from tests.support.groups import append
from tests.support.serving import eventually

MONTH = 30 * 86_400_000


async def never(*_: object) -> None:
    """Index nothing."""
    await trio.sleep_forever()


_merge = postgres_index._merge


def _leave(connection: Connection) -> None:
    """Leave everything in the list of pending merges."""


@pytest.fixture(params=["memory", "sqlite", "sqlite, not indexed", "postgresql", "postgresql, merged"])
async def searched(
    tmp_path: Path, clock: Clock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Log]:
    monkeypatch.setattr("chatserver.log.sqlite_index.INDEX_INTERVAL", 0)
    engine, _, how = request.param.partition(", ")
    if how == "not indexed":
        monkeypatch.setattr(SqliteIndex, "run", never)
    if engine == "postgresql":
        monkeypatch.setattr(postgres_index, "_merge", _merge if how else _leave)
        closed: Log = PostgresLog(request.getfixturevalue("postgres_tables"), wall_ms=clock)
    else:
        closed = ENGINES[engine](tmp_path, clock)
    async with running(closed) as log:
        yield log


async def indexed(log: Log) -> None:
    """Wait until everything is in the index, unless the case indexes nothing."""
    if isinstance(log, SqliteLog) and SqliteIndex.run is not never:
        await eventually(lambda: not log.index.behind)
    if isinstance(log, PostgresLog):
        await log.change("merging", postgres_index._merge)  # does nothing in one of the cases


async def find(log: Log, words: str, **more: Any) -> list[str]:
    return texts([hit.record for hit in (await search(log, words, **more)).hits])


async def search(log: Log, words: str, **more: Any) -> Found:
    return await log.index.find(Question(tuple(words_of(words)), **more))


# -- words


async def test_words_match_in_any_case_and_the_last_as_a_prefix(searched: Log) -> None:
    """Words match in any case and with any accent; the last also matches as a prefix of two letters or more."""
    said = [
        "Hello wörld",
        "the worldly hello, again",
        "hell",
        "CAFÉ (au lait)",
        "x",
        "lol\U0001f923 a_b foo-bar",
        "Привет, мир",
        "say \"cheese\" AND smile* OR NEAR(one two) NOT ^col:on",
        "\ud55c\uae00 \u304c\u304e",
        "Ещё один ΟΔΌΣ, nga\u0300y mai, nguyễn",
        "Große STRASSE in 5 µs",
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "x\u0345y and \u1980\u19b0\u1981",  # an index may split these words
        "1\ufe0f\u20e3 \u2764\ufe0f \U0001f44b \u0301 _",  # one digit, and no letter
        "明日は東京タワーに行きますか",
        "我们明天去北京吧。好吗",
    ]  # fmt: skip
    await submit_all(searched, [draft(text) for text in said])
    await indexed(searched)
    for words, expected in (
        ("hello", {0, 1}),
        ("hel", {0, 1, 2}),
        ("world hello", {0}),
        ("hello wor", {0, 1}),
        ("hello world", {0, 1}),
        ("cafe", {3}),
        ("café au", {3}),
        ("x", {4}),
        ("h", set()),
        ("lol", {5}),
        ("bar foo", {5}),
        ("b", {5}),
        ("привет", {6}),
        ("мир", {6}),
        ("cheese", {7}),
        ("near", {7}),
        ("and or not", {7}),
        ("on", {7}),
        ("\ud55c\uae00", {8}),
        ("\u304c\u304e", {8}),
        ("еще", {9}),
        ("ЕЩЁ", {9}),
        ("οδος", {9}),
        ("οδό", {9}),
        ("ngày nguyen", {9}),
        ("grosse straße", {10}),
        ("5 \u03bcs", {10}),
        ("\u05e9\u05dc\u05d5\u05dd", {11}),
        ("\u0645\u062d\u0645\u062f", {11}),
        ("\u0939\u093f\u0928\u094d", {12}),
        ("x\u0345y", {13}),
        ("\u1980\u19b0\u1981", {13}),
        ("1", {14}),
        ("東京", {15}),
        ("タワ", {15}),
        ("に行き", {15}),
        ("京", {15, 16}),
        ("去北京", {16}),
        ("北京塔", set()),
        ("\u0939\u0928", set()),
        ("\u304b\u304e", set()),
        ("hello nobody", set()),
        ("zzz", set()),
    ):
        assert words_of(words)
        assert set(await find(searched, words)) == {said[number] for number in expected}, words


async def test_filters_by_room_user_and_cursor(searched: Log) -> None:
    drafts = [draft(f"apple {n}", room=room, user=user) for n in range(3) for room in ("a", "b") for user in ("u", "v")]
    await submit_all(searched, drafts)
    await indexed(searched)
    assert len(await find(searched, "apple")) == 12
    assert len(await find(searched, "apple", room="a")) == 6
    assert sorted(await find(searched, "apple", room="b", user="v")) == ["apple 0", "apple 1", "apple 2"]
    assert await find(searched, "apple", room="a", before=2) == ["apple 0"]
    for before, count in ((1, 0), (0, 0), (7, 6), (2**52, 6)):
        assert len(await find(searched, "apple", room="a", before=before)) == count
    assert await find(searched, "apple", room="nobody") == []
    assert await find(searched, "apple", user="nobody") == []


async def test_newer_and_shorter_messages_come_first(searched: Log, clock: Clock) -> None:
    long = "a ship in a sentence of a good many words is one word among very many others"
    for text in ("ship it first", "ship it next", "ship it last"):
        await append(searched, draft(text))
        clock.ms += MONTH
    await append(searched, draft(long))
    await indexed(searched)
    assert await find(searched, "ship") == ["ship it last", long, "ship it next", "ship it first"]


async def test_a_hit_has_a_snippet_with_marked_words(searched: Log) -> None:
    """More of snippets: test_words.py."""
    await append(searched, draft("is Élan, or elan, plain?"))
    await indexed(searched)
    [hit] = (await search(searched, "elan pl")).hits
    marked = [("is ", False), ("Élan", True), (", or ", False), ("elan", True), (", ", False), ("plain", True)]
    assert hit.snippet == [*marked, ("?", False)]


async def test_words_longer_than_a_query(searched: Log) -> None:
    """PostgreSQL indexes only the beginning of such a word."""
    await append(searched, draft("s" * 300))
    await append(searched, draft("s" * 3_000))
    await append(searched, draft("ß" * 190 + " x"))
    await indexed(searched)
    assert await find(searched, "ß" * 200) == ["s" * 3_000]
    assert await find(searched, "ß" * 190 + " x") == ["ß" * 190 + " x"]


# -- removal


async def test_messages_removed_by_retention_are_not_found(searched: Log, clock: Clock) -> None:
    await submit_all(searched, [draft(f"pear {n}") for n in range(10)])
    await indexed(searched)
    await searched.retain(lambda _: (3, 0))
    assert sorted(await find(searched, "pear")) == ["pear 7", "pear 8", "pear 9"]
    await append(searched, draft("pear 10"))
    await indexed(searched)
    assert len(await find(searched, "pear")) == 4


async def test_only_the_present_texts_of_messages_are_found(searched: Log) -> None:
    """The record of an edit has a text too, until a later edit follows."""
    for text in ("apple", "apple tart"):
        await append(searched, draft(text))
    await indexed(searched)
    for change in (edit(1, "plum"), delete(2)):
        await append(searched, change)
    await indexed(searched)
    for user in (None, "u_ann"):
        assert [hit.record.offset for hit in (await search(searched, "plum", user=user)).hits] == [1]
        assert await find(searched, "apple", user=user) == []


# -- bounds


async def test_answers_are_bounded_and_the_next_continues(searched: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("index", "sqlite_search", "postgres_index"):
        monkeypatch.setattr(f"chatserver.log.{module}.CANDIDATES", 20, raising=False)
    await submit_all(searched, [draft(f"plum {n}") for n in range(MAX_HITS + 7)])
    await indexed(searched)
    found = await search(searched, "plum")
    seen = {hit.record.offset for hit in found.hits}
    assert len(found.hits) <= MAX_HITS
    while found.go_on is not None:
        found = await search(searched, "plum", go_on=found.go_on)
        more = {hit.record.offset for hit in found.hits}
        assert not more & seen
        seen |= more
    assert len(seen) >= MAX_HITS


async def test_messages_of_one_user_are_found_among_many_matches(
    searched: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite_search", "postgres_index"):
        monkeypatch.setattr(f"chatserver.log.{module}.CANDIDATES", 20)
    await append(searched, draft("plum", user="Ü: Ben"))
    await submit_all(searched, [draft("plum Ben", user=user) for user in ("ü: ben", "Ü:", "Ben") for _ in range(15)])
    await indexed(searched)
    found = await search(searched, "plum", user="Ü: Ben")
    assert [hit.record.offset for hit in found.hits] == [1]
    assert found.go_on is None
