"""Groups in PostgreSQL: how often the writer waits for the database."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest
import trio

from chatserver.log.interface import DELETE, EDIT, REACTION, Draft
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import Connection
from tests.log.support import Clock, draft, running
from tests.support.groups import append

#: Changes of the first message.
CHANGES = [
    Draft("lobby", "u_ben", "Ben", "", key="1", kind=REACTION, target=1, emoji="x"),
    Draft("lobby", "u_ann", "Ann", "new", kind=EDIT, target=1, window_ms=1000),
    Draft("lobby", "u_ann", "Ann", "newer", kind=EDIT, target=1, window_ms=1000),
    Draft("lobby", "u_ann", "Ann", "", kind=DELETE, target=1, window_ms=1000),
]


@pytest.mark.parametrize("drafts", [[draft("hi"), draft("hi", key="1")], CHANGES], ids=["messages", "changes"])
async def test_a_group_is_two_round_trips(
    postgres_tables: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, drafts: Sequence[Draft]
) -> None:
    """The targets of edits and reactions were two more, while other servers waited for the room."""
    trips: list[str] = []
    pipeline = Connection.pipeline

    async with running(PostgresLog(postgres_tables, wall_ms=clock)) as log:
        await append(log, draft("one"))
        writing = log._opened.writer._session._connection  # type: ignore[union-attr]

        @contextmanager
        def noted(connection: Connection) -> Iterator[psycopg.Pipeline]:
            with pipeline(connection) as inner:
                yield inner
            if connection is writing:
                trips.append("pipeline")

        def execute(connection: Connection, *arguments: object) -> object:
            if connection is writing and not connection.pgconn.pipeline_status:
                trips.append("statement")
            return psycopg.Connection.execute(connection, *arguments)  # type: ignore[call-overload]

        monkeypatch.setattr(Connection, "pipeline", noted)
        monkeypatch.setattr(Connection, "execute", execute)
        for each in drafts:
            trips.clear()
            assert (await append(log, each)).fresh
            assert trips == ["pipeline", "pipeline"]


async def test_a_group_does_not_wait_for_another_change(postgres_tables: str) -> None:
    """Such as a step of retention, or a merge of the index."""
    began, go_on = threading.Event(), threading.Event()

    def wait(connection: Connection) -> None:
        began.set()
        assert go_on.wait(60), "the group waited"

    async with running(PostgresLog(postgres_tables)) as log, trio.open_nursery() as nursery:
        nursery.start_soon(log.change, "waiting", wait)
        await trio.to_thread.run_sync(began.wait)
        assert (await append(log, draft())).fresh
        go_on.set()
