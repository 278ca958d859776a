"""When a failure of PostgreSQL or Valkey is over, each server does everything again, without a restart.

Two servers with clients that keep asking, so that a failure meets statements in use, most of which the driver has
prepared.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from chatserver.chat import cluster, read_markers
from chatserver.log import postgres_connection
from tests.support.moderating import MODERATOR, audit, moderate, sanction, say, signed_in
from tests.support.peers import PATIENCE, Address, Chatter, EndOfStreamError, ask, chatter, publish
from tests.support.postgres import PostgresServer, private_server
from tests.support.serving import LIFE, serving, until
from tests.support.tokens import secret_file
from tests.support.valkeys import Valkey, url_of, valkeys

#: Seconds that a failure lasts; longer than the servers wait for a lock here.
LASTS, LOCK_MS = 1.0, 300
#: Failures that one pair of servers meets.
IN_TURN = 5
#: Seconds between two requests of a client that keeps asking.
BREATH = 0.05
#: Seconds in place of the one second that presence and read markers take.
QUICK = 0.1
READER = signed_in("u_reader")
numbers = count(1)


@dataclass
class Storage:
    """What both servers use."""

    database: PostgresServer
    shards: Sequence[Valkey]

    def execute(self, *statements: str, database: str = "postgres") -> None:
        for statement in statements:
            self.database.execute(statement, database=database)

    def tell_shards(self, *commands: str) -> None:
        for shard in self.shards:
            with socket.create_connection(("127.0.0.1", shard.port), timeout=PATIENCE) as peer:
                for command in commands:
                    peer.sendall(command.encode() + b"\r\n")
                    answer = peer.recv(1024)
                    assert answer.startswith((b"+OK", b":")), (command, answer)


Failure = Callable[[Storage], AbstractContextManager[None]]
_KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'chatserver'"
_TABLES = ("rooms", "messages", "keys", "reactions", "markers", "sanctions", "signouts", "audit")


# -- failures ---------------------------------------------------------------------------------------------------------


def executed(begin: Sequence[str], end: Sequence[str] = (), *, database: str = "postgres") -> Failure:
    """Statements that begin and end a failure."""

    @contextmanager
    def fail(it: Storage) -> Iterator[None]:
        it.execute(*begin, database=database)
        yield
        it.execute(*end, database=database)

    return fail


def again_and_again(statement: str) -> Failure:
    @contextmanager
    def fail(it: Storage) -> Iterator[None]:
        for _ in range(20):
            it.execute(statement)
        yield

    return fail


def refused(code: str) -> Failure:
    """The database refuses to write, with this error."""
    refuse = f"$$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"
    triggers = [f"CREATE TRIGGER t BEFORE INSERT ON chatserver.{table} EXECUTE FUNCTION refuse()" for table in _TABLES]
    return executed(
        [f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS {refuse}", *triggers],
        ["DROP FUNCTION refuse CASCADE"],
    )


@contextmanager
def locked(it: Storage) -> Iterator[None]:
    with psycopg.connect(it.database.url()) as connection:
        connection.execute("LOCK TABLE " + ", ".join(f"chatserver.{table}" for table in (*_TABLES, "identity")))
        yield


@contextmanager
def crashed(it: Storage) -> Iterator[None]:
    it.database.stop("immediate")
    yield
    it.database.start()


def told(begin: Sequence[str], end: Sequence[str] = ()) -> Failure:
    """Commands to all shards that begin and end a failure."""

    @contextmanager
    def fail(it: Storage) -> Iterator[None]:
        it.tell_shards(*begin)
        yield
        it.tell_shards(*end)

    return fail


@contextmanager
def restarted(it: Storage) -> Iterator[None]:
    for shard in it.shards:
        shard.kill()
    yield
    for shard in it.shards:
        shard.start()


@contextmanager
def held_up(it: Storage) -> Iterator[None]:
    with ExitStack() as stack:
        for shard in it.shards:
            stack.enter_context(shard.held_up())
        yield


FAILURES: dict[str, Failure] = {
    "the database crashes": crashed,
    "connections are killed": again_and_again(f"{_KILL} ORDER BY random() LIMIT 2"),
    "statements are cancelled": again_and_again(_KILL.replace("terminate", "cancel") + " AND state != 'idle'"),
    "tables are locked": locked,
    "the database is read-only": executed(
        ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
        ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
    ),
    "the database refuses connections": executed(
        ["ALTER DATABASE postgres ALLOW_CONNECTIONS false", _KILL],
        ["ALTER DATABASE postgres ALLOW_CONNECTIONS true"], database="template1",
    ),
    "columns have other types": executed(
        [f"ALTER TABLE chatserver.{column} TYPE {type_}" for column, type_ in (
            ("rooms ALTER last", "integer"), ("rooms ALTER forgotten", "integer"), ("messages ALTER kind", "integer"),
            ("markers ALTER read", "integer"), ("sanctions ALTER time", "numeric"), ("signouts ALTER time", "numeric"),
            ("audit ALTER detail", "varchar(4000)"),
        )]
    ),
    **{f"the database says {code}": refused(code) for code in ("disk_full", "deadlock_detected")},
    "shards restart": restarted,
    "shards hang": held_up,
    "shards are emptied": told(["FLUSHALL", "SCRIPT FLUSH"]),
    "shards are full": told(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
    "shards are replicas": told(["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]),
    "shards close connections": told(["CLIENT KILL TYPE pubsub", "CLIENT KILL TYPE normal"]),
}  # fmt: skip


# -- everything -------------------------------------------------------------------------------------------------------


async def heard(friend: Chatter, kind: str, offset: int) -> None:
    while (await friend.next(kind))["offset"] != offset:
        pass


async def get(address: Address, path: str, who: dict[str, str]) -> Any:
    answer = await ask(address, "GET", path, headers=who)
    assert answer.status == 200, (path, answer)
    return answer.json


async def do_everything(here: Address, there: Address) -> None:
    """What users and moderators do at one server, with its consequences at the other."""
    number = next(numbers)
    room, word, user = f"room-{number % 2}", f"word{number}", f"u_user{number}"
    who = signed_in(user)
    async with chatter(there, headers=READER) as friend, chatter(here, headers=who) as it:
        for each, name in ((friend, room), (it, room), (it, f"new-{number}")):
            assert (await each.ask("join", room=name))["type"] == "joined"
        offset = 0
        for kind, fields, record in (
            ("publish", {"text": word, "key": word}, "message"), ("edit", {"text": f"{word} edited"}, "edit"),
            ("react", {"emoji": "👍", "on": True}, "reaction"),
        ):  # fmt: skip
            ack = await it.ask(kind, room=room, **fields, **({"offset": offset} if offset else {}))
            assert ack["type"] == "ack", ack
            await heard(friend, record, ack["offset"])
            offset = offset or ack["offset"]
        [found] = (await get(here, f"/search?q={word}", who))["results"]
        assert found["offset"] == offset
        assert (await it.ask("delete", room=room, offset=offset))["type"] == "ack"
        assert (await it.ask("history", room=room))["type"] == "history"
        for address in (here, there):
            await until(
                lambda address=address: get(address, f"/rooms/{room}/members", who),  # type: ignore[misc]
                lambda page: {user, "u_reader"} <= {each["id"] for each in page["members"]},
            )
        read = await ask(here, "PUT", f"/rooms/{room}/read", {"offset": offset}, headers=who)
        assert read.status in (200, 204), read
        await until(lambda: get(there, "/unread", who), lambda page: page["rooms"].get(room, {}).get("read") == offset)
        ban = await sanction(here, room, kind="ban", user=user, seconds=600)
        await until(lambda: say(there, who, room), lambda answer: answer.status == 403)
        lifted = await moderate(here, "DELETE", f"/rooms/{room}/sanctions/{ban['id']}")
        assert lifted.status in (200, 204), lifted
        await until(lambda: say(there, who, room), lambda answer: answer.status == 201)
        await until(lambda: audit(there), lambda entries: any(entry["target"] == user for entry in entries))
    signed = await ask(here, "POST", "/session", {}, headers=who)
    assert signed.status == 201, signed
    session = {"Cookie": signed.headers["set-cookie"].partition(";")[0]}
    assert (await get(there, "/session", session))["user"]["id"] == user
    assert (await ask(there, "DELETE", "/session", headers=session)).status in (200, 204)
    await until(lambda: get(here, "/session", session), lambda answer: answer["user"]["id"] != user)
    assert (await ask(here, "GET", "/readyz")).status == 200


async def keep_asking(address: Address) -> None:
    """Use all kinds of statements; any of them may be refused."""
    requests: Iterator[tuple[str, str, Any, dict[str, str]]] = cycle(
        [
            ("POST", "/rooms/room-0/messages", b"hi", READER),
            ("GET", "/rooms/room-1/messages?limit=3", b"", READER),
            ("GET", "/search?q=first", b"", READER),
            ("PUT", "/rooms/room-0/read", {"offset": 1}, READER),
            ("GET", "/unread", b"", READER),
            ("POST", "/rooms/room-0/sanctions", {"kind": "mute", "user": "u_bob", "seconds": 9}, MODERATOR),
            ("GET", "/audit", b"", MODERATOR),
        ]
    )
    for method, path, body, who in requests:
        answer = await ask(address, method, path, body, headers=who)
        assert answer.status < 500 or answer.status == 503, answer
        await trio.sleep(BREATH)


async def works_again(here: Address, there: Address) -> None:
    """Do everything, if need be in several attempts. Raises the error of the last one."""
    give_up = trio.current_time() + PATIENCE
    while trio.current_time() < give_up:
        with suppress(AssertionError, EndOfStreamError):
            return await do_everything(here, there)
        await trio.sleep(0.1)
    return await do_everything(here, there)


# -- the test ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def storage(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with private_server(postgres_server) as database, valkeys(tmp_path_factory.mktemp("shards"), 2) as shards:
        database.start()
        yield Storage(database, shards)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(FAILURES), IN_TURN))
async def test_after_each_failure_every_server_does_everything_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Some failures one after the other, with the same two servers."""
    monkeypatch.setattr("tests.support.serving.LIFE", IN_TURN * LIFE)
    monkeypatch.setattr(postgres_connection, "LOCK_MS", LOCK_MS)
    connect = partial(postgres_connection.Connection.connect, prepare_threshold=1)  # not at the sixth use
    monkeypatch.setattr(postgres_connection.Connection, "connect", connect)
    monkeypatch.setattr(cluster, "REPORT_INTERVAL", QUICK)
    monkeypatch.setattr(read_markers, "STORE_EVERY", QUICK)
    settings: dict[str, Any] = {
        "log": storage.database.url(), "shared": url_of([*storage.shards]), "token_key": (secret_file(tmp_path),),
    }  # fmt: skip
    async with serving(**settings) as one, serving(**settings) as two:
        ways = ((one.address, two.address), (two.address, one.address))
        await publish(one.address, "room-0", "the first")
        await works_again(*ways[0])  # the shards may not be connected yet
        for name in list(FAILURES)[first : first + IN_TURN]:
            try:
                await fail_and_recover(storage, FAILURES[name], ways)
            except Exception as error:
                error.add_note(f"when this failure was over: {name}")
                raise


async def fail_and_recover(storage: Storage, failure: Failure, ways: Sequence[tuple[Address, Address]]) -> None:
    async with trio.open_nursery() as nursery:
        for address, _ in (*ways, *ways):
            nursery.start_soon(keep_asking, address)
        with ExitStack() as stack:
            await trio.to_thread.run_sync(stack.enter_context, failure(storage))
            await trio.sleep(LASTS)
            await trio.to_thread.run_sync(stack.close)
        nursery.cancel_scope.cancel()
    for way in ways:  # in several attempts: each of a server's connections may fail once more when it is first used
        await works_again(*way)
