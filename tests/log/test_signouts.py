"""Sign-outs of every engine: one for each user while it has an effect, and a bounded number of guests."""

import sqlite3
from functools import partial
from typing import Any

import pytest

from chatserver.log import signouts as signouts_module
from chatserver.log import tables as tables_module
from chatserver.log.interface import Log
from chatserver.log.signouts import SignOut
from chatserver.log.sqlite_rows import SqliteTables
from tests.log.support import START_MS, steps_of


def sign_out(number: int, *, time: int = START_MS, lasts: int = 1000, guest: bool = False) -> SignOut:
    return SignOut(number, guest, time, time + lasts)


async def loaded(log: Log, now_ms: int = START_MS) -> list[SignOut]:
    found, _ = await log.signouts.load(now_ms)
    return found


async def numbers(log: Log, now_ms: int = START_MS) -> list[int]:
    return [each.number for each in await loaded(log, now_ms)]


async def test_the_last_of_a_user_counts_and_those_without_effect_are_removed(log: Log) -> None:
    assert await loaded(log) == []
    largest = (1 << 60) - 1
    kept = [sign_out(0, lasts=10, guest=True), sign_out(largest, time=START_MS + 5)]
    for each in (sign_out(largest), *kept):
        await log.signouts.add(each)
    assert await loaded(log, START_MS + 6) == kept
    assert await numbers(log, START_MS + 10) == [largest]
    await log.signouts.add(sign_out(3, time=START_MS + 20))
    assert await numbers(log, START_MS) == [largest, 3]


async def test_a_sign_out_that_is_stored_late_does_not_replace_a_later_one(log: Log) -> None:
    """Two at the same time, or one with a token from an issuer whose clock is ahead: its token was valid again."""
    late = sign_out(1, time=START_MS + 5)
    for each in (late, sign_out(1)):
        await log.signouts.add(each)
    assert await loaded(log) == [late]


async def test_those_after_an_id_are_all_that_were_stored_since(log: Log) -> None:
    """Also when the last one is replaced, or has ended: SQLite gives the id of a last row that is gone again."""
    assert await log.signouts.load(START_MS, after=7) == ([], 7)
    last = 0
    for each in (
        sign_out(1), sign_out(2), sign_out(3), sign_out(2), sign_out(3), sign_out(3, lasts=5),
        sign_out(4, time=START_MS + 2000), sign_out(4, time=START_MS + 2001),
    ):  # fmt: skip
        await log.signouts.add(each)
        found, last = await log.signouts.load(START_MS, last)
        assert [it.number for it in found] == [each.number]
    assert await log.signouts.load(START_MS, last) == ([], last)


async def test_of_many_that_have_ended_some_are_removed_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 100,000 had ended, messages in SQLite waited 1.7 s for the next."""
    monkeypatch.setattr(tables_module, "EXPIRED_AT_ONCE", 2, raising=False)
    for number in range(5):
        await log.signouts.add(sign_out(number, lasts=10 - number))
    for left in ([0, 1, 2, 9], [0, 9], [9]):
        await log.signouts.add(sign_out(9, time=START_MS + 10))
        assert sorted(await numbers(log, 0)) == left


async def test_they_are_read_some_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query of a million took longer than it may on a busy machine, and the server did not start."""
    monkeypatch.setattr(signouts_module, "LOAD_STEP", 2, raising=False)
    for number in range(5):
        await log.signouts.add(sign_out(number, lasts=5 if number in {2, 3} else 1000))
    steps, load = [], signouts_module._load

    def counted(*arguments: Any) -> tuple[list[SignOut], int]:
        steps.append(load(*arguments))
        return steps[-1]

    monkeypatch.setattr(signouts_module, "_load", counted)
    assert await numbers(log, START_MS + 10) == [0, 1, 4]
    assert [len(found) for found, _ in steps] == [2, 0, 1, 0]


async def test_the_latest_of_guests_are_kept(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sign-out of another user is dropped for them."""
    monkeypatch.setattr(signouts_module, "MAX_GUESTS", 2)
    monkeypatch.setattr(signouts_module, "TRIM_EVERY", 1)
    await log.signouts.add(sign_out(9))
    for number in range(5):
        await log.signouts.add(sign_out(number, guest=True))
    assert await numbers(log) == [9, 3, 4]


def test_a_sign_out_does_not_visit_all_others(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    for number in range(1, 1_001):
        signouts_module._add(sign_out(number, guest=True), SqliteTables(connection))
    add = partial(signouts_module._add, sign_out(0, guest=True), SqliteTables(connection))
    assert steps_of(connection, add) < 500
