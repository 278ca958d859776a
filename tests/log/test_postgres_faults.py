"""A server that ends, hangs, is full or is cut off: publishers are told in time, and the log recovers by itself."""

import gc
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import monotonic
from unittest.mock import Mock

import psycopg
import pytest
import trio
from msgspec.structs import replace
from structlog.testing import capture_logs

from chatserver.log import postgres_connection as connection_module
from chatserver.log.audit import append as append_entries
from chatserver.log.interface import Head, LogOpenError, LogUnavailable, Range, Refused, Stored
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_rows import PostgresTables
from tests.log.support import Clock, draft, running, submit_all, texts
from tests.log.test_audit import actions, entry
from tests.support.groups import append
from tests.support.partition import Link
from tests.support.postgres import KEEPER, KeptDatabase, PostgresServer, private_server
from tests.support.serving import eventually

PATIENCE = 60


@pytest.fixture
async def log(postgres_tables: str, clock: Clock) -> AsyncIterator[PostgresLog]:
    async with running(PostgresLog(postgres_tables, wall_ms=clock)) as log:
        yield log


@pytest.fixture
def shell(postgres_tables: str) -> AsyncIterator[psycopg.Connection]:  # type: ignore[misc]
    """A connection of another program."""
    with psycopg.connect(postgres_tables, autocommit=True, options="-c search_path=chatserver") as connection:
        yield connection


async def publish_until_stored(log: PostgresLog, text: str, key: str) -> Stored:
    """Publish with a key until it is stored, as a client does."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                return await append(log, draft(text, key=key))
            except LogUnavailable:
                await trio.sleep(0.05)


def kill_all(shell: psycopg.Connection) -> int:
    row = shell.execute(
        f"SELECT count(pg_terminate_backend(pid, {PATIENCE}000)) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND pid != pg_backend_pid() AND application_name != '{KEEPER}'"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_idle_connections_that_were_killed_cost_no_request(log: PostgresLog, shell: psycopg.Connection) -> None:
    for number in range(1, 4):
        assert (await append(log, draft(str(number)))).record.offset == number
        assert len(await log.read(Range("lobby", 9, last=True))) == number
        await log.change("a test", lambda connection: None)
        assert kill_all(shell) >= 3
    assert await log.head("lobby") == Head(1, 3)


async def test_a_group_that_fails_whenever_the_driver_prepares_its_statements(
    log: PostgresLog, shell: psycopg.Connection
) -> None:
    """The database skips what follows a failed statement, and the driver takes it for prepared all the same."""
    shell.execute(
        "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.text = 'refused' THEN "
        "RAISE disk_full USING MESSAGE = 'No space left on device'; END IF; RETURN new; END $$"
    )
    shell.execute("CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()")
    for before in range(3, 8):  # a statement is prepared at its sixth use
        kill_all(shell)  # so that none is prepared
        for text in ("refused", *["stored"] * before, "refused", "stored"):
            (outcome,) = await submit_all(log, [draft(text)])
            assert isinstance(outcome, Stored) is (text == "stored"), (before, outcome)
            assert text == "stored" or str(outcome).endswith("No space left on device (DiskFull)")
            assert log.reachable, "a full disk can be read"


async def test_another_server_that_died_with_locks(
    log: PostgresLog, postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database ends its transaction; otherwise a room stays locked until TCP detects the death."""
    await append(log, draft("one"))
    monkeypatch.setattr(connection_module, "IDLE_IN_TRANSACTION_MS", 200)
    dead = connection_module.Server(postgres_tables).connect(PATIENCE)
    dead.execute("BEGIN")
    dead.execute("SELECT * FROM rooms FOR UPDATE")
    assert (await publish_until_stored(log, "two", "k")).record.offset == 2
    dead.close()


async def test_an_entry_that_an_earlier_attempt_is_still_adding_is_added_once(
    log: PostgresLog, postgres_tables: str, shell: psycopg.Connection
) -> None:
    """It has failed here, at its deadline; the database commits it while the second attempt waits for the table."""
    waiting = "SELECT FROM pg_locks WHERE relation = 'audit'::regclass AND NOT granted"
    first = connection_module.Server(postgres_tables).connect(PATIENCE)
    first.execute("BEGIN")
    append_entries([entry("ban")], PostgresTables(first))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(log.audit.add, [entry("ban")], again=True))
        await eventually(lambda: shell.execute(waiting).rowcount > 0)
        first.execute("COMMIT")
    first.close()
    assert await actions(log) == ["ban"]


def test_no_time_limit_of_the_database_holds_for_a_server(postgres_schema: str) -> None:
    """PostgreSQL 17 has a new one, for transactions: it ended each start that waited for another server's."""
    limits = "name ~ '^(statement|lock|transaction|idle_session|idle_in_transaction_session)_timeout$'"
    session = connection_module.Session(connection_module.Server(postgres_schema))
    with psycopg.connect(postgres_schema, autocommit=True) as shell, closing(session):
        names = [name for (name,) in shell.execute(f"SELECT name FROM pg_settings WHERE {limits}")]
        assert len(names) >= 4
        for name in names:
            shell.execute(f"ALTER DATABASE {shell.info.dbname} SET {name} = '7s'")
        asked = f"SELECT name FROM pg_settings WHERE {limits} AND source <> 'session'"
        assert session.run("a test", lambda connection: connection.execute(asked).fetchall()) == []


def test_a_deadline_in_the_middle_of_a_group_leaves_no_traceback_and_no_line(
    postgres_tables: str, caplog: pytest.LogCaptureFixture
) -> None:
    def work(connection: connection_module.Connection) -> None:
        with connection.pipeline():
            connection.execute("BEGIN")
            connection.execute("SELECT pg_sleep(9)").fetchall()

    session = connection_module.Session(connection_module.Server(postgres_tables))
    session.run("connecting", lambda connection: None)  # may take longer than the deadline below
    with pytest.raises(LogUnavailable, match=r"did not answer in 0\.1 s"):
        session.run("a test", work, seconds=0.1)
    session.close()
    gc.collect()
    assert caplog.records == []


def test_a_job_that_leaves_a_transaction_open_costs_no_connection(postgres_tables: str) -> None:
    """A group that waited too long for a lock does so."""
    session = connection_module.Session(connection_module.Server(postgres_tables))
    first = session.run("a test", lambda connection: connection.info.backend_pid)
    for statement in ("BEGIN", "BEGIN; SELECT 1 / 0"):
        with suppress(LogUnavailable):
            session.run("a test", lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]
        assert session.run("a test", lambda connection: connection.info.backend_pid) == first
    session.close()


@pytest.mark.parametrize("begin", ["", "BEGIN"])
@pytest.mark.parametrize("refused", ["cached plan must not change result type", "prepared statement .* does not exist"])
def test_a_prepared_statement_that_the_server_refuses_is_prepared_anew(
    postgres_schema: str, refused: str, begin: str
) -> None:
    """The driver used it for ever: it forgets its statements at some rollbacks only. Reads failed until a restart."""

    def ask(connection: connection_module.Connection) -> None:
        if begin:
            connection.execute(begin)
        connection.execute("SELECT place FROM places WHERE place = %s::int", (1,))

    def begin_and_leave(connection: connection_module.Connection) -> None:
        connection.execute("BEGIN")

    session = connection_module.Session(connection_module.Server(postgres_schema))
    with psycopg.connect(postgres_schema, autocommit=True) as shell, closing(session):
        shell.execute("CREATE SCHEMA chatserver; CREATE TABLE chatserver.places (place int)")
        session.run("a test", begin_and_leave)  # the first rollback, with nothing prepared
        for _ in range(7):  # a statement is prepared at its sixth use
            session.run("a test", ask)
        if "cached" in refused:
            shell.execute("ALTER TABLE chatserver.places ALTER place TYPE bigint")
        else:
            session.run("a test", lambda connection: connection.pgconn.exec_(b"DEALLOCATE ALL"))
        with pytest.raises(LogUnavailable, match=refused):
            session.run("a test", ask)
        for _ in range(7):
            session.run("a test", ask)


def test_a_first_job_on_a_long_line(postgres_tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.2 s a round trip searches and bans took longer than their deadline, and each attempt connected anew."""
    now = monotonic()
    monkeypatch.setattr(connection_module, "monotonic", lambda: now)

    def wait(connection: connection_module.Connection) -> None:
        nonlocal now
        now += 0.9 * connection_module.JOB_DEADLINE
        connection.execute("SELECT %s::int", (1,))
        prepared = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
        assert prepared == [], "to prepare a statement is one more round trip"

    session = connection_module.Session(connection_module.Server(postgres_tables), wait)
    session.run("a test", wait)
    session.close()


def test_attempts_to_connect_become_rarer_and_an_outage_is_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts a job fails at once: each would wait for a server that does not answer."""
    now, attempts, is_up = 1000.0, [], False

    def connect(server: connection_module.Server, seconds: float, prepare: None) -> Mock:
        attempts.append(now)
        if not is_up:
            raise psycopg.OperationalError("planted")
        return Mock()

    monkeypatch.setattr(connection_module, "monotonic", lambda: now)
    monkeypatch.setattr(connection_module.Server, "_connect", connect)
    server = connection_module.Server("postgresql://db/chat")
    server.opened(lambda connection: None)
    with capture_logs() as lines:
        for _ in range(1000):
            with pytest.raises(LogUnavailable, match="the database cannot be reached: planted"):
                server.connect(PATIENCE)
            now += 0.01
        gaps = [later - earlier for earlier, later in pairwise(attempts)]
        assert connection_module.RETRY_FIRST / 2 <= gaps[0] <= connection_module.RETRY_FIRST + 0.02
        assert connection_module.RETRY_MOST / 2 <= gaps[-1] <= connection_module.RETRY_MOST + 0.02
        now, is_up = now + connection_module.RETRY_MOST, True
        for _ in range(2):
            server.connect(PATIENCE)
    assert [line["event"] for line in lines] == ["database_lost", "database_reached"]


#: A restore makes the triggers after the rows.
LIKE_A_RESTORE = "SET session_replication_role = replica"


async def test_rooms_removed_or_changed_by_a_restore(log: PostgresLog, shell: psycopg.Connection) -> None:
    """As the restore of a dump does under running servers: messages went into the room that now has the id."""
    shell.execute(LIKE_A_RESTORE)
    shell.execute("INSERT INTO rooms (name) VALUES ('lobby')")
    for change in ("UPDATE rooms SET name = 'other'", "DELETE FROM rooms WHERE name = 'lobby'"):
        with pytest.raises(Refused):  # the server now knows the id of the room
            await append(log, replace(draft("yes"), target=1))
        shell.execute(change)
        with pytest.raises(LogUnavailable, match="rows of rooms were removed or changed"):
            await append(log, draft("one"))
        shell.execute("INSERT INTO rooms (name) VALUES ('lobby')")
    assert (await append(log, draft("one"))).record.offset == 1
    assert await log.read(Range("other", 9, last=True)) == []


async def test_an_id_that_another_room_has_is_no_room_that_exists(log: PostgresLog, shell: psycopg.Connection) -> None:
    """It was a traceback that named no cause."""
    shell.execute("INSERT INTO rooms (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'other')")
    with pytest.raises(LogUnavailable, match=r"\(UniqueViolation\)"):
        await append(log, draft("one"))
    assert (await append(log, draft("one"))).record.offset == 1


@pytest.mark.parametrize(
    "restore",
    [
        "UPDATE rooms SET last = 2 WHERE name = 'lobby'; DELETE FROM messages WHERE place > 2",
        "UPDATE rooms SET name = 'elsewhere' WHERE name = 'lobby'",
        "DELETE FROM rooms WHERE name = 'lobby'",
    ],
    ids=["fewer messages", "another room", "no room"],
)
@pytest.mark.parametrize("writes", [True, False], ids=["of its own", "of another server"])
async def test_a_backup_that_was_restored_under_running_servers_begins_an_epoch(
    postgres_tables: str, shell: psycopg.Connection, restore: str, *, writes: bool
) -> None:
    """The offsets after it were given twice, so members and clients that came back missed the new messages.

    A server that has not written to the room has read the messages, for members that are there.
    """
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with running(PostgresLog(postgres_tables)) as log, running(PostgresLog(postgres_tables)) as other:
            epoch = log.identity.epoch
            for number in range(1, 4):
                await append(log if writes else other, draft(str(number)))
            await append(other, draft("4"))
            await append(other, draft("1", room="quiet"))
            known = 0 if writes else (await log.head("lobby")).last
            shell.execute(LIKE_A_RESTORE)
            shell.execute(restore)
            await append(other, draft("2", room="quiet"))
            with pytest.raises(LogUnavailable, match="lacks messages that were stored in it"):
                await append(log, replace(draft("other"), known=known))
            with trio.fail_after(PATIENCE):
                await trio.sleep_forever()
    ended = caught.value.subgroup(lambda error: isinstance(error, LogOpenError))
    assert "the database has another history" in repr(ended)
    async with running(PostgresLog(postgres_tables)) as log:
        assert log.identity.epoch != epoch
        assert (await append(log, draft("3"))).record.offset == (3 if "last" in restore else 1)


async def test_after_a_cut_network_the_log_recovers(
    postgres_server: PostgresServer, postgres_tables: str, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """No packet arrives and no connection is refused: publishers and readers are told in time, and the log recovers."""
    link = Link(postgres_server.port)
    await nursery.start(link.run)
    async with running(PostgresLog(postgres_tables.replace(f":{postgres_server.port}/", f":{link.port}/"))) as log:
        await append(log, draft("one"))
        await log.read(Range("lobby", 1, last=True))
        link.cut()
        with trio.fail_after(PATIENCE), monkeypatch.context() as patch:
            patch.setattr(connection_module, "JOB_DEADLINE", 1.0)
            with pytest.raises(LogUnavailable, match="did not answer in 1 s"):
                await append(log, draft("two", key="k"))
            with pytest.raises(LogUnavailable):
                await log.read(Range("lobby", 1, last=True))
            # During the cut few jobs wait; the others are answered at once.
            for _ in range(20):
                with pytest.raises(LogUnavailable):
                    await log.read(Range("lobby", 1, last=True))
            reachable = [log.reachable]
        link.mend()
        stored = await publish_until_stored(log, "two", "k")
        assert stored.record.offset == 2
        assert [*reachable, log.reachable] == [False, True]
        assert texts(await log.read(Range("lobby", 9, last=True))) == ["one", "two"]
    nursery.cancel_scope.cancel()


async def test_a_connection_that_is_refused_while_others_work_is_no_outage(
    log: PostgresLog, postgres_server: PostgresServer, cleared_database: KeptDatabase
) -> None:
    """This happens when the database has too many connections; `/readyz` shows `reachable`."""
    await append(log, draft("one"))
    postgres_server.execute(f"ALTER DATABASE {cleared_database.name} ALLOW_CONNECTIONS false")
    try:
        with pytest.raises(LogUnavailable, match="not currently accepting connections"):
            await log.read(Range("lobby", 1, last=True))
        assert not log.reachable
    finally:
        postgres_server.execute(f"ALTER DATABASE {cleared_database.name} ALLOW_CONNECTIONS true")
    await append(log, draft("two"))
    assert log.reachable


async def test_a_retry_waits_for_the_synchronous_standby_as_the_first_attempt_did(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart of the server, or a cancelled wait, shows a commit that the standby does not have.

    If the wait is cancelled while the server has not given up the commit, PostgreSQL answers that it was done.
    """
    with private_server(postgres_server) as primary:
        primary.start()
        async with running(PostgresLog(primary.url())) as log:
            await append(log, draft("1"))  # makes the room, with a commit of its own
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
            primary.execute("SELECT pg_reload_conf()")
            number = 1
            with monkeypatch.context() as patch:
                patch.setattr(connection_module, "JOB_DEADLINE", 1.0)
                with suppress(LogUnavailable):
                    while True:  # until the setting is in force
                        number += 1
                        await append(log, draft(str(number), key=str(number)))
                cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                await eventually(lambda: primary.execute(cancel) != [])
                await eventually(lambda: has(primary, str(number)))
                with pytest.raises(LogUnavailable, match="did not answer"):
                    await append(log, draft(str(number), key=str(number)))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, commit_that_is_cancelled, primary)
                await eventually(lambda: primary.execute(f"{cancel} AND query ~ 'epoch = epoch'") != [])
            primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
            primary.execute("SELECT pg_reload_conf()")
            stored = await publish_until_stored(log, str(number), str(number))
            assert (stored.record.offset, stored.fresh) == (number, False)


def commit_that_is_cancelled(primary: PostgresServer) -> None:
    commit = "BEGIN; UPDATE identity SET epoch = epoch; COMMIT"
    session = connection_module.Session(connection_module.Server(primary.url()))
    with pytest.raises(LogUnavailable, match="a test failed: its wait for the synchronous standby was cancelled"):
        session.run("a test", lambda connection: connection.execute(commit), seconds=PATIENCE)
    session.run("a test", connection_module.process_of)  # on a new connection
    session.close()


@pytest.mark.slow
async def test_a_restart_and_a_failover(postgres_server: PostgresServer) -> None:
    """A server that crashes and returns is the same log. A standby that lacks commits is another one."""
    with private_server(postgres_server) as primary, ExitStack() as stack:
        primary.start()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-standby-")))
        standby = primary.add_standby(folder)
        standby.start(wal_retrieve_retry_interval="100ms")  # by default it searches for its primary every 5 s
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql://postgres@{hosts}/postgres"
        with pytest.raises(LogOpenError, match="session is read-only; either it is a standby"):
            await PostgresLog(standby.url()).run(lambda records: None)
        addresses = f"hostaddr=127.0.0.1,127.0.0.1&port={standby.port},{primary.port}"  # as of a name with two
        of_a_name = connection_module.Server(f"postgresql://postgres@/postgres?{addresses}")
        with closing(of_a_name.connect(PATIENCE)) as found:
            assert found.info.port == primary.port, "the start depended on their order"
        log = PostgresLog(url)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with running(log):
                epoch = log.identity.epoch
                primary.stop("immediate")
                primary.start()
                assert (await publish_until_stored(log, "one", "1")).record.offset == 1
                await eventually(lambda: has(standby, "one"))
                standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
                standby.execute("SELECT pg_reload_conf()")
                await eventually(lambda: not standby.execute("SELECT pid FROM pg_stat_wal_receiver"))
                await append(log, draft("lost"))
                primary.stop("immediate")
                standby.execute("SELECT pg_promote(wait => false)")
                await trio.sleep_forever()
        assert caught.group_contains(LogOpenError, match="another history")
        async with running(PostgresLog(url)) as log:
            assert log.identity.epoch != epoch
            assert (await append(log, draft("instead"))).record.offset == 2
            assert texts(await log.read(Range("lobby", 9, last=True))) == ["one", "instead"]
        standby.stop("immediate")


def has(server: PostgresServer, text: str) -> bool:
    """Whether the server has a message with this text."""
    with suppress(psycopg.errors.UndefinedTable):
        return bool(server.execute(f"SELECT 1 FROM chatserver.messages WHERE text = '{text}'"))
    return False
