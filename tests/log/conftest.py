"""Fixtures: every engine, closed and running, for the suites that hold for all engines."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from chatserver.log import postgres_connection, postgres_index, postgres_news
from chatserver.log.interface import Log, Record
from chatserver.log.postgres import PostgresLog
from chatserver.log.sqlite_file import connect_writer, create_private
from tests.log.support import ENGINES, Clock, Disk, running
from tests.support.postgres import (
    cleared_database,
    emptied_database,
    postgres_schema,
    postgres_server,
    postgres_tables,
)

__all__ = ["cleared_database", "emptied_database", "postgres_schema", "postgres_server", "postgres_tables"]


#: Seconds for one job of PostgreSQL, however busy the machine is.
DATABASE_PATIENCE = 40


@pytest.fixture(autouse=True)
def _patient_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of these deadlines sets short ones."""
    for module in (postgres_connection, postgres_news):
        monkeypatch.setattr(module, "JOB_DEADLINE", float(DATABASE_PATIENCE))
    monkeypatch.setattr(postgres_news, "CHECK_DEADLINE", float(DATABASE_PATIENCE))
    for name in ("IDLE_IN_TRANSACTION_MS", "LOCK_MS", "STATEMENT_MS"):
        monkeypatch.setattr(postgres_connection, name, DATABASE_PATIENCE * 1000)
    longest, *others = postgres_index.SETTINGS
    assert longest.startswith("statement_timeout")
    monkeypatch.setattr(postgres_index, "SETTINGS", (f"statement_timeout = '{DATABASE_PATIENCE}s'", *others))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database."""
    return tmp_path / "chat.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The writing connection to a new database."""
    create_private(path)
    connection, _ = connect_writer(path)
    with closing(connection):
        yield connection


@pytest.fixture
def news() -> list[list[Record]]:
    return []


def _maker(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Callable[[], Log]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_tables")
        return lambda: PostgresLog(url, wall_ms=clock)
    return lambda: ENGINES[request.param](folder, clock)


@pytest.fixture(params=[*ENGINES, "postgresql"])
def closed_log(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Log:
    return _maker(request, tmp_path, clock)()


@pytest.fixture(params=["sqlite", "postgresql"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[[], Disk]:
    """Opens the same log at each call, of each engine that keeps its records."""
    return cast(Callable[[], Disk], _maker(request, tmp_path, clock))


@pytest.fixture
async def log(closed_log: Log, news: list[list[Record]]) -> AsyncIterator[Log]:
    def note(records: Sequence[Record]) -> None:
        news.append(list(records))

    async with running(closed_log, note):
        yield closed_log
