"""Several servers on one database: hints by NOTIFY, and the shared clock and retention."""

import errno
import threading
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, closing
from functools import partial
from time import time_ns
from unittest.mock import Mock

import psycopg
import pytest
import trio

from chatserver.log import postgres_connection as connection_module
from chatserver.log import postgres_news as news_module
from chatserver.log import threads as threads_module
from chatserver.log.interface import Head, LogOpenError, Range
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import Connection, Server
from chatserver.log.postgres_rows import text_array
from tests.log.support import Node, draft, fill, nodes, offsets, running, submit_all
from tests.log.test_postgres_open import execute
from tests.log.test_sanctions import ENTRY, sanction
from tests.log.test_signouts import sign_out
from tests.support.groups import append
from tests.support.partition import Link
from tests.support.postgres import PostgresServer
from tests.support.serving import eventually


def servers(url: str, count: int = 2) -> AbstractAsyncContextManager[list[Node[PostgresLog]]]:
    return nodes(PostgresLog(url) for _ in range(count))


async def test_hints_over_the_size_of_one_notification(postgres_tables: str) -> None:
    rooms = [f"{number} \N{GRINNING FACE}" + "x" * 200 for number in range(200)]
    async with servers(postgres_tables) as (one, other):
        await submit_all(one.log, [draft(room=room) for room in rooms])
        await other.until(lambda: other.heard == dict.fromkeys(rooms, 1))


async def test_hints_do_not_wait_for_the_next_check_of_the_connection(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver itself takes those from the connection that arrive while it waits for another answer."""
    monkeypatch.setattr(news_module, "CHECK_INTERVAL", 3600.0)
    note_time = news_module.Listener._note_time

    def send_and_note(listener: news_module.Listener, connection: Connection) -> None:
        news_module.notify(connection, "another", {"lobby": 7})
        note_time(listener, connection)

    monkeypatch.setattr(news_module.Listener, "_note_time", send_and_note)
    heard: list[Mapping[str, int]] = []
    listener = news_module.Listener(Server(postgres_tables), "this", heard.append, lambda now_ms: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        await eventually(lambda: {"lobby": 7} in heard)
        with closing(Server(postgres_tables).connect(60)) as other:
            news_module.notify(other, "another", {"lobby": 8})
        await eventually(lambda: {"lobby": 8} in heard)
        nursery.cancel_scope.cancel()


async def test_listeners_whose_descriptors_the_kernel_does_not_watch_connect_again(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ended, and their servers. Beyond fs.epoll.max_user_watches EPOLL_CTL_ADD fails with ENOSPC."""
    wait, left = trio.lowlevel.wait_readable, [OSError(errno.ENOSPC, "No space left on device") for _ in range(2)]

    async def wait_or_fail(descriptor: int) -> None:
        if left:
            raise left.pop()
        await wait(descriptor)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_or_fail)
    async with servers(postgres_tables) as (one, other):
        await append(one.log, draft())
        await other.until(lambda: other.heard.get("lobby") == 1)
    assert not left


def test_a_text_with_nul_is_refused_instead_of_shifting_the_others() -> None:
    with pytest.raises(ValueError, match="NUL"):
        text_array(["one", "two\0three"])


async def test_notifications_of_other_programs(postgres_tables: str) -> None:
    async with servers(postgres_tables) as (one, other):
        for payload in ("", "{}", '["x", {"a": "b"}]', "\N{GRINNING FACE}"):
            await one.log.change("a test", partial(_notify, payload))
        await append(one.log, draft())
        await other.until(lambda: other.heard == {"lobby": 1})


async def test_records_written_while_the_listener_is_disconnected(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses the first threads that are to connect again."""
    monkeypatch.setattr(news_module, "RETRY_FIRST", 0.1)
    monkeypatch.setattr(threads_module, "IDLE_TIMEOUT", 0.0)
    async with servers(postgres_tables) as (one, other):
        await append(one.log, draft(room="before"))
        await other.until(lambda: bool(other.heard))
        other.heard.clear()
        refuse = Mock(side_effect=RuntimeError("can't start new thread"))
        with monkeypatch.context() as patch, psycopg.connect(postgres_tables) as shell:
            patch.setattr(threading.Thread, "start", refuse)
            killed = shell.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query ~ 'LISTEN|clock_timestamp' AND pid != pg_backend_pid()"
            ).fetchone()
            assert killed is not None
            assert killed[0] >= 2
            await eventually(lambda: refuse.call_count >= 6)
        await append(one.log, draft(room="meanwhile"))
        await one.log.change("a test", lambda connection: None, hint="*sanctions")
        await other.until(lambda: {"meanwhile", "*sanctions"} <= other.heard.keys())
        await append(one.log, draft(room="after"))
        await other.until(lambda: "after" in other.heard)


async def test_a_listener_connects_as_soon_as_another_connection_is_made(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for its own back-off, in which banned users were let in again."""
    async with running(PostgresLog(postgres_tables)):
        pass  # it makes the tables
    server, heard = Server(postgres_tables), list[Mapping[str, int]]()
    server.opened(lambda connection: None)
    listener = news_module.Listener(server, "this", heard.append, lambda now_ms: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        monkeypatch.setattr(connection_module, "RETRY_FIRST", 3600.0)
        monkeypatch.setattr(connection_module, "RETRY_MOST", 3600.0)
        server._failed("planted")
        assert listener._connection is not None
        execute(postgres_tables, f"SELECT pg_terminate_backend({listener._connection.info.backend_pid})")
        await eventually(lambda: listener._connection is None)
        # A record has the time at which its transaction began, which may have lasted for long.
        since = "extract(epoch FROM now() - interval '30 s') * 1000"
        execute(postgres_tables, f"INSERT INTO chatserver.rooms (name, last, time) SELECT 'committed late', 1, {since}")
        server._not_before = 0.0  # as after any connection
        heard.clear()
        await eventually(lambda: any({"*sanctions", "committed late"} <= hints.keys() for hints in heard))
        nursery.cancel_scope.cancel()


async def test_a_listener_on_a_connection_that_hangs_connects_anew(
    postgres_server: PostgresServer, postgres_tables: str, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """It waited as long as for a large job: users whom another server had banned were let in for up to 6 s."""
    link, heard = Link(postgres_server.port), list[Mapping[str, int]]()
    await nursery.start(link.run)
    server = Server(postgres_tables.replace(f":{postgres_server.port}/", f":{link.port}/"))
    server.opened(lambda connection: None)
    listener = news_module.Listener(server, "this", heard.append, lambda now_ms: None)
    monkeypatch.setattr(news_module, "CHECK_INTERVAL", 0.1)
    await nursery.start(listener.run)
    link.cut()
    with monkeypatch.context() as patch:
        patch.setattr(news_module, "CHECK_DEADLINE", 0.1)
        await eventually(lambda: listener._connection is None)
    link.mend()
    await eventually(lambda: any("*sanctions" in hints for hints in heard))
    nursery.cancel_scope.cancel()


async def test_a_connection_that_is_never_quiet_is_checked_too(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a busy server, once it has reconnected, reads the name of each room written since its start."""
    monkeypatch.setattr(news_module, "CHECK_INTERVAL", 0.2)
    checked = trio.Event()
    check = news_module.Listener._check

    def note(listener: news_module.Listener) -> None:
        check(listener)
        trio.from_thread.run_sync(checked.set, trio_token=token)

    token = trio.lowlevel.current_trio_token()
    monkeypatch.setattr(news_module.Listener, "_check", note)
    async with servers(postgres_tables, 1) as (one,):
        with trio.fail_after(30):
            while not checked.is_set():
                await append(one.log, draft())


async def test_a_hint_that_arrives_during_a_check_is_passed_on(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver takes it from the socket with the answer to the check."""
    monkeypatch.setattr(news_module, "CHECK_INTERVAL", 0.2)
    note_time, sent = news_module.Listener._note_time, list[bool]()

    def note(listener: news_module.Listener, connection: Connection) -> None:
        if listener._whole_until and not sent:
            sent.append(True)
            _notify('["another", {"lobby": 7}]', connection)
        note_time(listener, connection)

    monkeypatch.setattr(news_module.Listener, "_note_time", note)
    async with servers(postgres_tables, 1) as (one,):
        await one.until(lambda: one.heard == {"lobby": 7})


async def test_the_age_of_a_message_is_by_the_clock_of_the_database(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.log.interface.time_ns", lambda: time_ns() + 86_400 * 10**9)
    async with servers(postgres_tables) as (one, other):
        await append(one.log, draft())
        await append(other.log, draft())
        assert await one.log.retain(lambda _: (0, 3_600_000)) == {}


async def test_concurrent_retention_by_several_servers(postgres_tables: str) -> None:
    async with servers(postgres_tables, 3) as made:
        for room in "abc":
            await fill(made[0].log, 700, room)
        lost: list[dict[str, int]] = []

        async def retain(node: Node[PostgresLog]) -> None:
            lost.append(await node.log.retain(lambda _: (10, 0)))

        async with trio.open_nursery() as nursery:
            for node in made:
                nursery.start_soon(retain, node)
        assert {room for found in lost for room in found} == set("abc")
        assert await made[0].log.heads(["a", "b", "c", "d"]) == dict.fromkeys("abc", Head(691, 700))
        assert offsets(await made[1].log.read(Range("b", 99, last=True))) == list(range(691, 701))


@pytest.mark.parametrize("table", ["audit", "sanctions", "signouts"])
async def test_rows_with_ids_become_visible_in_their_order(postgres_tables: str, table: str) -> None:
    """A server that goes on after an id would not read a row with a lower one that was committed later."""
    done: list[bool] = []

    async def add(log: PostgresLog) -> None:
        if table == "signouts":
            await log.signouts.add(sign_out(1))
        else:
            await log.sanctions.add(sanction(), ENTRY)
        done.append(True)

    def waits() -> bool:
        query = "SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
        return other.execute(query, [table]).fetchone() is not None

    async with running(PostgresLog(postgres_tables)) as log, trio.open_nursery() as nursery:
        with psycopg.connect(postgres_tables, options="-c search_path=chatserver") as other:
            other.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")  # as by an insert that is not committed
            nursery.start_soon(add, log)
            await eventually(lambda: bool(done) or waits())
            assert not done
        await eventually(lambda: bool(done))


def _notify(payload: str, connection: Connection) -> None:
    connection.execute("SELECT pg_notify('chatserver', %s)", (payload,))


def epoch_in(connection: Connection) -> str:
    [epoch] = connection.row("SELECT epoch FROM identity")
    return str(epoch)


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM chatserver.rooms", "UPDATE chatserver.rooms SET name = name || id", "TRUNCATE chatserver.rooms"],
)
async def test_another_program_that_removes_a_room_begins_an_epoch(postgres_tables: str, change: str) -> None:
    """A server that did not know the room made it again, and its members elsewhere missed the new messages."""
    epochs = set()
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with running(PostgresLog(postgres_tables)) as log:
            epochs.add(log.identity.epoch)
            await append(log, draft("one"))
            execute(postgres_tables, "DELETE FROM chatserver.rooms WHERE name = 'gone already'")
            await append(log, draft("two"))
            assert await log.ask(epoch_in) == log.identity.epoch
            execute(postgres_tables, change)
            with trio.fail_after(30):
                await trio.sleep_forever()
    assert caught.group_contains(LogOpenError, match="or a room removed")
    for _ in range(2):
        async with running(PostgresLog(postgres_tables)) as log:
            epochs.add(log.identity.epoch)
            assert (await append(log, draft("two"))).record.offset == 1
        execute(postgres_tables, change)
    assert len(epochs) == 3
