"""The tables of PostgreSQL that servers make, and migrate from those of an earlier version."""

import os
import socket
from contextlib import closing
from unittest import mock

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from chatserver.log import postgres as log_module
from chatserver.log import postgres_connection as connection_module
from chatserver.log import postgres_index as index_module
from chatserver.log import postgres_schema as schema_module
from chatserver.log.index import Question
from chatserver.log.interface import Identity, LogUnavailable, Range
from chatserver.log.postgres import PostgresLog
from tests.log.support import draft, ignore, running
from tests.log.test_postgres_open import complaint, execute
from tests.support.groups import append
from tests.support.serving import eventually, until


async def test_words_of_an_older_version_are_renewed(postgres_schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "RENEW_STEP", 2)
    said = ["straße", "street", "ΟΔΟΣ x", "...", "ﬂ", "strand"]
    async with running(PostgresLog(postgres_schema)) as log:
        for text in said:
            await append(log, draft(text))
    for old, text in (("straße", "straße"), ("οδος", "ΟΔΟΣ%"), ("ﬂ", "ﬂ%")):
        execute(postgres_schema, f"UPDATE chatserver.messages SET words = '{old}'::tsvector WHERE text LIKE '{text}'")
    execute(postgres_schema, "UPDATE chatserver.identity SET words = '0'")
    async with running(PostgresLog(postgres_schema)) as log:
        old = "SELECT FROM old_words"
        await until(lambda: log.ask(lambda it: it.execute(old).fetchall()), lambda rows: not rows)
        for asked, found in (("strasse", said[:1]), ("οδοσ", said[2:3]), ("fl", said[4:5]), ("street", said[1:2])):
            assert [hit.record.text for hit in (await log.index.find(Question((asked,)))).hits] == found


async def make_tables(version: int, url: str, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """Make the tables of an earlier version, with a message."""
    with monkeypatch.context() as earlier:
        earlier.setattr(schema_module, "MIGRATIONS", schema_module.MIGRATIONS[:version])
        async with running(PostgresLog(url)) as log:
            await append(log, draft("plum"))
            return log.identity


async def test_a_publication_of_all_tables_does_not_keep_a_server_from_its_start(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables without a key cannot be updated then: no server started after an upgrade, or after a promotion."""
    identity = await make_tables(9, postgres_schema, monkeypatch)
    execute(
        postgres_schema,
        "CREATE PUBLICATION everything FOR TABLES IN SCHEMA chatserver",  # so that it is empty for the next test
        # As the data of a dump, restored over the tables of a first start.
        *(f"INSERT INTO chatserver.{table} SELECT * FROM chatserver.{table}" for table in ("identity", "version")),
    )
    async with running(PostgresLog(postgres_schema)) as log:
        assert log.identity == identity
    execute(postgres_schema, "UPDATE chatserver.identity SET cluster = '00000001/1', words = '0'")
    async with running(PostgresLog(postgres_schema)) as log:
        assert log.identity.epoch != identity.epoch
        await until(lambda: log.ask(lambda it: it.execute("SELECT FROM old_words").fetchall()), lambda rows: not rows)


async def test_a_second_identity_is_refused(postgres_schema: str) -> None:
    """The restore of a dump's data over the tables of a first start went unnoticed."""
    async with running(PostgresLog(postgres_schema)):
        pass
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(
            postgres_schema,
            "INSERT INTO chatserver.identity (epoch, secret, cluster) VALUES ('k3f9ab', '', '')",
        )


async def test_a_migration_that_waits_for_a_dump_lets_others_go_on(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests of the servers that ran waited behind it, and got 503, until the dump had ended."""
    monkeypatch.setattr(schema_module, "LOCK_TRY", 0.05)
    monkeypatch.setattr(schema_module, "LOCK_PAUSE", 0.01)
    old, new = PostgresLog(postgres_schema), PostgresLog(postgres_schema)
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as earlier:
            earlier.setattr(schema_module, "MIGRATIONS", schema_module.MIGRATIONS[:9])
            await nursery.start(old.run, ignore)
        with psycopg.connect(postgres_schema) as dump:
            async with trio.open_nursery() as starting:
                dump.execute("LOCK TABLE chatserver.rooms, chatserver.messages IN ACCESS SHARE MODE")
                starting.start_soon(nursery.start, new.run, ignore)
                await eventually(lambda: bool(dump.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall()))
                for text in ("one", "two"):
                    await append(old, draft(text))
                assert len(await old.read(Range("lobby", 9))) == 2
                assert new._opened is None
                dump.rollback()
        assert (await append(new, draft())).record.offset == 3
        assert (await append(old, draft())).record.offset == 4
        nursery.cancel_scope.cancel()


async def test_no_index_depends_on_the_collation_of_the_database(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system with other collations, rooms were not found by their names, and made again with the same offsets."""
    indexes = """SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relnamespace = 'chatserver'::regnamespace AND '"default"'::regcollation::oid = ANY(indcollation)"""
    identity = await make_tables(9, postgres_schema, monkeypatch)
    async with running(PostgresLog(postgres_schema)) as log:
        assert log.identity == identity
        assert await log.ask(lambda it: it.execute(indexes).fetchall()) == []
        assert (await append(log, draft())).record.offset == 2


async def test_an_index_of_an_earlier_version_is_made_anew(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had no authors, so a common word of one user was looked up message by message."""
    await make_tables(6, postgres_schema, monkeypatch)
    execute(
        postgres_schema,
        "CREATE INDEX messages_words ON chatserver.messages USING gin (words) WHERE words IS NOT NULL",
        "CREATE INDEX messages_unused ON chatserver.messages (time)",
    )
    async with running(PostgresLog(postgres_schema)) as log:
        made = "SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'messages%' ORDER BY indexname"
        [_, (words,)] = await log.ask(lambda it: it.execute(made).fetchall())
        assert "(words, (ARRAY[user_id])) WITH (fastupdate='on', gin_pending_list_limit='2147483647')" in words
        assert len((await log.index.find(Question(("plum",)))).hits) == 1


async def test_a_newer_server_migrates_the_tables_and_those_that_run_go_on(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens in a rolling update. Afterwards the older version does not start any more."""
    added = (*schema_module.MIGRATIONS, ("ALTER TABLE rooms ADD COLUMN colour text",))
    async with running(PostgresLog(postgres_schema)) as old:
        await append(old, draft("one", key="1"))
        assert len(await old.read(Range("lobby", 9, last=True))) == 1
        with monkeypatch.context() as newer:
            newer.setattr(schema_module, "MIGRATIONS", added)
            async with running(PostgresLog(postgres_schema)) as new:
                assert new.identity == old.identity
                execute(postgres_schema, "SELECT colour FROM chatserver.rooms")
                for log, text in ((old, "two"), (new, "three"), (old, "four")):
                    await append(log, draft(text, key=text))
                for log in (old, new):
                    found = await log.read(Range("lobby", 9))
                    assert [each.text for each in found] == ["one", "two", "three", "four"]
                    assert [each.last for each in await log.rooms(9)] == [4]
            async with running(PostgresLog(postgres_schema)) as again:
                assert again.identity == old.identity
    message = await complaint(postgres_schema)
    assert f"its tables have version {len(added)}, this server knows up to {len(added) - 1}: " in message
    assert message.endswith(": a newer server has changed them; start that version here")


async def test_servers_that_start_together_make_the_tables_once(postgres_schema: str) -> None:
    logs = [PostgresLog(postgres_schema) for _ in range(4)]
    async with trio.open_nursery() as nursery, trio.open_nursery() as starting:
        for log in logs:
            starting.start_soon(nursery.start, log.run, ignore)
        await eventually(lambda: all(log._opened for log in logs))
        assert len({log.identity for log in logs}) == 1
        nursery.cancel_scope.cancel()


async def test_the_wait_for_another_server_that_migrates_is_logged_and_can_be_cancelled(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waited for ten minutes without a line in the log."""
    waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    timer = mock.Mock()  # the time is over once the start waits
    monkeypatch.setattr(log_module, "Timer", timer)
    with psycopg.connect(postgres_schema, autocommit=True, application_name="other") as other, capture_logs() as lines:
        other.execute("SELECT pg_advisory_lock(%s)", (schema_module.MIGRATION_LOCK,))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PostgresLog(postgres_schema).run, ignore)
            await eventually(lambda: bool(other.execute(f"SELECT {waiting}").fetchall()))
            timer.return_value.start.assert_called_once_with()
            seconds, look, arguments = timer.call_args.args
            await trio.to_thread.run_sync(look, *arguments)
            nursery.cancel_scope.cancel()
        other.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
        waits_for = [f"process {other.info.backend_pid} (other)"]
    assert seconds == log_module.SLOW_START
    assert lines == [{"event": "database_opens_slowly", "log_level": "warning", "waits_for": waits_for}]


async def test_the_migration_of_a_killed_server_ends_with_it(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL went on to make an index, for minutes with many messages, and the next start waited for that."""
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*schema_module.MIGRATIONS, ("SELECT pg_sleep(600)",)))
    monkeypatch.setattr(schema_module, "LOOK_FOR_CLIENT_MS", 10)
    sleeping = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    session = connection_module.Session(connection_module.Server(postgres_schema))

    def migrate() -> None:
        with closing(session), pytest.raises(LogUnavailable):
            session.run("migrating", schema_module.migrate, seconds=600)

    with psycopg.connect(postgres_schema, autocommit=True) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, migrate)
            await eventually(lambda: bool(other.execute(f"SELECT {sleeping}").fetchall()))
            assert session._connection is not None
            with socket.socket(fileno=os.dup(session._connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that was killed
            try:
                await eventually(lambda: not other.execute(f"SELECT {sleeping}").fetchall())
            finally:
                other.execute(f"SELECT pg_terminate_backend(pid) {sleeping}")
