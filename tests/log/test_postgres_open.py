"""Opening a database: each error is one sentence without the password."""

import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from chatserver.log import open_log, postgres_readers
from chatserver.log import postgres as log_module
from chatserver.log import postgres_connection as connection_module
from chatserver.log import postgres_index as index_module
from chatserver.log import postgres_schema as schema_module
from chatserver.log.index import Question
from chatserver.log.interface import LogOpenError, LogUnavailable, Range
from chatserver.log.postgres import PostgresLog
from tests.log.support import draft, ignore, running
from tests.log.test_sanctions import ENTRY, sanction
from tests.log.test_signouts import sign_out
from tests.support.groups import append
from tests.support.ports import steady_port
from tests.support.postgres import PostgresServer, private_server
from tests.support.serving import eventually

SECRET = "correct-horse"


async def complaint(url: str) -> str:
    """The error with which this log is refused."""
    with pytest.raises(LogOpenError) as caught, trio.fail_after(60):
        await PostgresLog(url).run(ignore)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def with_password(url: str) -> str:
    return url.replace("@", f":{SECRET}@")


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_a_host_that_accepts_and_does_not_answer() -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    with listener, trio.fail_after(60):
        assert "timeout expired" in await complaint(f"postgresql://ann@127.0.0.1:{listener.getsockname()[1]}/chat")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@127.0.0.1/chat?no=such",
        f"postgresql://ann:12/{SECRET}/chat?password={SECRET}&x",
    ],
)
async def test_malformed_urls_are_refused(url: str) -> None:
    assert "it is no URL of a database" in await complaint(url)


@pytest.fixture
def user(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[str]:
    """A user with a password and without tables."""
    name = postgres_schema.rpartition("/")[2]
    execute(postgres_schema, f"CREATE ROLE u_{name} LOGIN PASSWORD '{SECRET}' IN ROLE locked")
    yield f"u_{name}"
    execute(postgres_schema, f"DROP OWNED BY u_{name}", f"DROP ROLE u_{name}")


async def test_a_wrong_password_is_refused_and_not_shown(
    postgres_server: PostgresServer, postgres_schema: str, user: str
) -> None:
    url = postgres_schema.replace("postgres@", f"{user}:{SECRET}x@")
    assert f'password authentication failed for user "{user}"' in await complaint(url)


async def test_a_user_without_the_right_to_make_tables(postgres_schema: str, user: str) -> None:
    url = postgres_schema.replace("postgres@", f"{user}:{SECRET}@")
    assert "permission denied" in await complaint(url)
    execute(postgres_schema, f"CREATE SCHEMA chatserver AUTHORIZATION {user}")
    async with running(PostgresLog(url)) as log:
        assert (await append(log, draft())).record.offset == 1


async def test_a_user_that_may_write_only_some_tables(postgres_schema: str, user: str) -> None:
    """The server was ready, and each publish got 503."""
    async with running(PostgresLog(postgres_schema)):
        pass
    url, tables = postgres_schema.replace("postgres@", f"{user}:{SECRET}@"), "ALL TABLES IN SCHEMA chatserver"
    execute(postgres_schema, f"GRANT USAGE ON SCHEMA chatserver TO {user}", f"GRANT ALL ON {tables} TO {user}")
    execute(postgres_schema, f"REVOKE INSERT ON chatserver.keys, chatserver.rooms FROM {user}")
    assert "this user may not write its tables rooms, keys; let this user own the" in await complaint(url)
    execute(postgres_schema, f"GRANT INSERT ON chatserver.keys, chatserver.rooms TO {user}")
    async with running(PostgresLog(url)) as log:
        assert (await append(log, draft())).record.offset == 1


async def test_too_few_connections_are_missing_for_reading_and_not_for_storing(postgres_schema: str, user: str) -> None:
    """The readers had taken them all when the first message came: each publish got 503, and the server was ready."""
    execute(postgres_schema, f"CREATE SCHEMA chatserver AUTHORIZATION {user}", f"ALTER ROLE {user} CONNECTION LIMIT 4")

    async def read() -> None:
        with suppress(LogUnavailable):
            await log.ask(lambda connection: connection.execute("SELECT pg_sleep(0.05)").close())

    async with running(PostgresLog(postgres_schema.replace("postgres@", f"{user}:{SECRET}@"))) as log:
        async with trio.open_nursery() as nursery:
            for _ in range(postgres_readers.READERS):
                nursery.start_soon(read)
        await append(log, draft())
        await log.change("a test", lambda connection: None)
        assert len(await log.read(Range("lobby", 10))) == 1


async def test_a_user_that_does_not_own_the_tables_tries_to_merge_its_list_once(
    postgres_schema: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tried every ten seconds."""
    monkeypatch.setattr(index_module, "MERGE_RETRY", 0.01)
    monkeypatch.setattr(index_module, "MERGE_INTERVAL", 0.01)
    async with running(PostgresLog(postgres_schema)) as log:
        await append(log, draft("plum"))
    tables = "ALL TABLES IN SCHEMA chatserver"
    execute(postgres_schema, f"GRANT USAGE ON SCHEMA chatserver TO {user}", f"GRANT ALL ON {tables} TO {user}")
    async with running(PostgresLog(postgres_schema.replace("postgres@", f"{user}:{SECRET}@"))) as log:
        with mock.patch.object(log.index, "_note_failure") as failed:
            await append(log, draft("plum"))
            await eventually(lambda: failed.call_count > 0)
            assert "must be owner" in str(failed.call_args)
            assert len((await log.index.find(Question(("plum",)))).hits) == 2
            await trio.sleep(0.1)
            assert failed.call_count == 1


async def test_the_encoding_of_a_connection_is_not_what_the_url_says(postgres_tables: str) -> None:
    """A text with an emoji failed, and with it all others of its group."""
    async with running(PostgresLog(f"{postgres_tables}?client_encoding=latin1")) as log:
        await append(log, draft("😀"))
        assert [record.text for record in await log.read(Range("lobby", 9, last=True))] == ["😀"]


async def test_a_database_that_may_not_be_written(postgres_schema: str) -> None:
    name = postgres_schema.rpartition("/")[2]
    execute(postgres_schema, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    message = await complaint(with_password(postgres_schema))
    assert "read-only" in message
    assert "pooler that is not in session mode" in message, "in transaction mode a reading connection makes others so"


POOLER = """
[databases]
* = host=127.0.0.1 port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
"""


@asynccontextmanager
async def pooler(server: PostgresServer, mode: str) -> AsyncIterator[int]:
    """PgBouncer in front of a server; yields its port."""
    with tempfile.TemporaryDirectory(prefix="chat-pooler-") as folder:
        port = steady_port()
        path = Path(folder) / "pgbouncer.ini"
        path.write_text(POOLER.format(server_port=server.port, port=port, mode=mode))
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:  # it refuses root
            shutil.chown(folder, "postgres")
            as_user = {"user": "postgres", "group": "postgres", "extra_groups": ()}
        process = subprocess.Popen(  # noqa: ASYNC220  it takes a millisecond
            ["pgbouncer", "-q", path], stderr=subprocess.DEVNULL, **as_user
        )
        try:
            await eventually(lambda: is_listening(port))
            yield port
        finally:
            process.kill()
            process.wait()


def is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.skipif(
    shutil.which("pgbouncer") is None and "REQUIRE_SERVERS" not in os.environ, reason="no pgbouncer on this machine"
)
async def test_a_pooler_in_session_mode_is_used_and_one_in_transaction_mode_refused(
    postgres_server: PostgresServer, postgres_schema: str
) -> None:
    """The server started, could store nothing, and made the connections of the pooler's other clients read-only."""
    async with pooler(postgres_server, "transaction") as port:
        with trio.fail_after(60):
            message = await complaint(postgres_schema.replace(str(postgres_server.port), str(port)))
        assert "a connection pooler in front of it is in transaction mode" in message
    async with (
        pooler(postgres_server, "session") as port,
        running(PostgresLog(postgres_schema.replace(str(postgres_server.port), str(port)))) as log,
    ):
        assert (await append(log, draft())).record.offset == 1


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")
async def test_a_pooler_that_has_known_the_database_read_only(postgres_server: PostgresServer) -> None:
    """It tells each client what it was told first: of a standby that was promoted since, that it is read-only."""
    with private_server(postgres_server) as standby:
        signal = standby.data / "standby.signal"
        signal.touch()
        shutil.chown(signal, standby.data.owner())
        standby.start(max_wal_senders="10")  # as many as when the cluster was made
        async with pooler(standby, "session") as port:
            assert "session is read-only" in await complaint(standby.url(port=port))
            standby.execute("SELECT pg_promote()")
            async with running(PostgresLog(standby.url(port=port))) as log:
                assert (await append(log, draft())).record.offset == 1


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")
async def test_a_pooler_in_transaction_mode_is_noticed_beside_its_other_clients(
    postgres_server: PostgresServer, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two connections had different processes, since another client had taken the first one's meanwhile."""
    async with pooler(postgres_server, "transaction") as port:
        url = postgres_schema.replace(str(postgres_server.port), str(port))
        with psycopg.connect(url) as client:

            def process_of(connection: connection_module.Connection) -> int:
                found = connection_module.process_of(connection)
                client.execute("SELECT")  # begins a transaction, which keeps its process until the end
                return found

            monkeypatch.setattr(log_module, "process_of", process_of)
            with trio.fail_after(60):
                assert "in transaction mode" in await complaint(url)


async def test_a_database_in_another_encoding(postgres_server: PostgresServer) -> None:
    name = f"chat_latin_{os.getpid()}"
    made = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' STRATEGY file_copy"
    postgres_server.execute(made)
    try:
        assert "its encoding is LATIN1, UTF8 is needed" in await complaint(postgres_server.url(name))
    finally:
        postgres_server.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE chatserver.version (colour text)",
        "CREATE TABLE chatserver.version (version integer); INSERT INTO chatserver.version VALUES (1)",
        "CREATE TABLE chatserver.rooms (door text)",
    ],
    ids=("another program's", "half of ours", "a table with the name of one of ours"),
)
async def test_a_schema_with_other_tables(postgres_schema: str, statement: str) -> None:
    execute(postgres_schema, "CREATE SCHEMA chatserver", *statement.split("; "))
    message = await complaint(with_password(postgres_schema))
    assert "its schema chatserver has not the tables that a server makes: " in message
    assert message.endswith("; restore it whole, or name another database")


@pytest.mark.parametrize("table", ["audit", "old_words"])
async def test_a_table_that_was_dropped_is_named(postgres_schema: str, table: str) -> None:
    async with running(PostgresLog(postgres_schema)):
        pass
    execute(postgres_schema, f"DROP TABLE chatserver.{table}")
    message = await complaint(postgres_schema)
    assert f'relation "{table}" does not exist' in message
    assert message.endswith("; restore it whole, or name another database")


async def test_the_next_ids_are_beyond_those_in_the_tables(postgres_tables: str) -> None:
    """Logical replication copies no sequences: after it, a group with a new room failed, and so did each sanction."""
    for number in (1, 2):
        async with running(PostgresLog(postgres_tables)) as log:
            await append(log, draft(room=f"room-{number}"))
            assert (await log.sanctions.add(sanction(f"u_{number}"), ENTRY)).id == number
            await log.signouts.add(sign_out(number))
        sequences = "SELECT setval(oid, 1, false) FROM pg_class WHERE relnamespace = 'chatserver'::regnamespace"
        execute(postgres_tables, f"{sequences} AND relkind = 'S'")


@pytest.mark.parametrize("minutes", [5, -5])
async def test_a_clock_that_differs_is_logged(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    with capture_logs() as logs:
        async with running(PostgresLog(postgres_tables)):
            pass
        assert logs == []
        monkeypatch.setattr(connection_module, "time", lambda: time.time() - minutes * 60)
        async with running(PostgresLog(postgres_tables)):
            pass
    [line] = logs
    assert (line["event"], line["log_level"]) == ("clocks_differ", "warning")
    assert abs(line["database_ahead"] - minutes * 60) < 30


async def test_a_changed_epoch_ends_a_running_server(postgres_tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MERGE_INTERVAL", math.inf)  # its connection is checked as well
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with running(PostgresLog(postgres_tables)) as log:
            await append(log, draft())
            async with running(PostgresLog(postgres_tables)) as other:
                assert other.identity == log.identity
                await append(log, draft())  # the server goes on
            execute(postgres_tables, "UPDATE chatserver.identity SET epoch = 'zzzzzz'")
            async with running(PostgresLog(postgres_tables)) as other:
                assert other.identity.epoch == "zzzzzz"
                with trio.fail_after(30):
                    await trio.sleep_forever()
    assert caught.group_contains(LogOpenError, match="the database has another history")


async def test_a_server_that_is_too_old(postgres_tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MINIMUM_VERSION", 99_00_00)
    assert "is too old, 99 is needed" in await complaint(postgres_tables)


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "chatserver.log.postgres", None)
    with pytest.raises(LogOpenError, match=r"the driver is missing .*pip install '\.\[postgresql\]' in the source"):
        open_log("postgresql://ann@db/chat")


def test_an_epoch_ends_where_another_history_is_known(postgres_tables: str) -> None:
    """Not where this user may ask for the system's identifier for the first time, or may do so no more."""
    with closing(connection_module.Server(postgres_tables).connect(60)) as connection:
        schema_module.migrate(connection)
        for known, asked, ends in (("", "one", False), ("one", "one", False), ("one", "", False), ("one", "two", True)):
            connection.execute("UPDATE identity SET cluster = %s", (known,))
            (before,) = connection.row("SELECT epoch FROM identity")
            identity = schema_module._identify(connection, asked)
            assert (identity.epoch != before) == ends
            assert connection.row("SELECT epoch, cluster FROM identity") == (identity.epoch, asked or known)
