"""Shards: used while they are up, not waited for while they are down, and found again afterwards."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
import trio
from coredis.connection import TCPConnection
from coredis.exceptions import ConnectionError as RefusedError

from chatserver.shared import open_shards, valkey
from chatserver.shared.limits import Spent, spend, take
from chatserver.shared.shards import Script, SharedError
from tests.shared.keeping import PATIENCE, Keeping, keeping
from tests.support.answering import answering
from tests.support.partition import Link
from tests.support.serving import eventually
from tests.support.valkeys import Valkey, url_of, valkeys


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost servers are checked often."""
    monkeypatch.setattr(valkey, "RETRY_EVERY", 0.05)
    monkeypatch.setattr(valkey, "CHECK_INTERVAL", 0.05)


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Valkey]:
    with valkeys(tmp_path, 1) as [server]:
        yield server


ECHO = Script("return {KEYS[1], ARGV[1]}")


async def test_calls_and_scripts(it: Keeping) -> None:
    shard, key = it.shard, it.shards.key("a")
    assert await shard.call(b"SET", key, b"1", b"PX", 60_000) == b"OK"
    assert await shard.call(b"GET", key) == b"1"
    for _ in range(2):
        assert await shard.run_script(ECHO, [key], "x") == [key.encode(), b"x"]
    await shard.call(b"SCRIPT", b"FLUSH")
    assert await shard.run_script(ECHO, [key], "y") == [key.encode(), b"y"]
    assert shard.failures == 0
    with pytest.raises(SharedError, match="wrong kind"):
        await shard.call(b"LPUSH", key, b"1")
    for _ in range(2):  # the second time the server knows the script, and is not asked twice
        with pytest.raises(SharedError, match="wrong kind"):
            await shard.run_script(Script("return redis.call('LPUSH', KEYS[1], 1)"), [key])
    assert (shard.failures, shard.up) == (3, True), "the server refuses, and is up"


async def test_a_message_reaches_all_processes_of_its_chat_and_no_others(servers: list[Valkey]) -> None:
    url = url_of(servers)
    async with keeping(url, "ours") as ann, keeping(url, "ours") as bob, keeping(url, "theirs") as eve:
        for each in (ann, bob, eve):
            await each.up(2)
        ann.shards.tell(b"hi")
        await eventually(lambda: ann.heard == bob.heard == [b"hi", b"hi"])  # once through each server
        assert eve.heard == []


async def test_the_shard_of_a_key_does_not_depend_on_the_order_of_servers(servers: list[Valkey]) -> None:
    shards = [open_shards(url_of(listed), "chat") for listed in (servers, servers[::-1])]
    keys = [f"key {number}" for number in range(50)]
    places = [[each.of(key).name for key in keys] for each in shards]
    assert places[0] == places[1]
    assert len(set(places[0])) == 2
    assert open_shards("valkey://[::1]:6379", "chat").all[0].name == "[::1]:6379"


async def test_a_server_that_dies_and_returns_empty(doomed: Valkey) -> None:
    async with keeping(url_of([doomed])) as it:
        await it.up()
        await it.shard.run_script(ECHO, ["a"], "x")
        await it.shard.call(b"SET", "a", b"1")
        doomed.kill()
        await it.up(0)
        with pytest.raises(SharedError, match="away"):
            await it.shard.call(b"GET", "a")
        it.shards.tell(b"hi")
        await trio.sleep(0.3)
        assert it.events() == ["shard_lost"], "once, however often it is checked"
        assert it.reasons() == ["it has closed the connection"]
        doomed.start()
        await it.up()
        assert it.events() == ["shard_lost", "shard_found"]
        assert await it.shard.call(b"GET", "a") is None
        assert await it.shard.run_script(ECHO, ["a"], "x") == [b"a", b"x"]
        it.shards.tell(b"hi")
        await eventually(lambda: it.heard == [b"hi"])
        doomed.kill()
        await it.up(0)
        assert it.events() == ["shard_lost", "shard_found", "shard_lost"]


async def test_a_server_that_returns_with_a_password_tells_so_once(doomed: Valkey, tmp_path: Path) -> None:
    """The log had only the end of the connection, which said nothing about what to do."""
    async with keeping(url_of([doomed])) as it:
        await it.up()
        doomed.kill()
        await it.up(0)
        strict = Valkey(tmp_path, "--requirepass", "s3cret")
        strict.port = doomed.port
        strict.start()
        try:
            await eventually(lambda: len(it.reasons()) > 1)
            await trio.sleep(0.3)
            ended, refused = it.reasons()
            assert ended == "it has closed the connection"
            assert "AUTH" in refused.upper()
        finally:
            strict.kill()


async def test_an_end_that_the_library_noticed_first_is_told_in_words(
    servers: list[Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the log had the library's own `Connection not usable`."""

    def refuse(*command: object) -> None:
        raise RefusedError("Connection not usable")

    async with keeping(url_of(servers[:1])) as it:
        await it.up()
        monkeypatch.setattr(TCPConnection, "create_request", refuse)
        it.shards.tell(b"hi")
        assert it.reasons() == ["it has closed the connection"]


async def test_another_shard_takes_the_message_of_a_lost_one(
    servers: list[Valkey], doomed: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "CHECK_INTERVAL", PATIENCE)  # its end is noticed without a check
    url = url_of([doomed, *servers[:1]])
    async with keeping(url, "ours") as ann, keeping(url, "ours") as bob:
        for each in (ann, bob):
            await each.up(2)
        doomed.kill()
        for each in (ann, bob):
            await each.up(1)
        ann.shards.tell(b"hi")
        await eventually(lambda: bob.heard == [b"hi"])


async def test_a_process_without_one_of_the_shards_hears_those_that_have_it(tmp_path: Path) -> None:
    """Messages went through the first shard that the sender reached: a process without that one heard nobody."""
    with valkeys(tmp_path, 3) as servers:
        async with keeping(url_of(servers), "ours") as bob, trio.open_nursery() as nursery:
            [first] = [server for server in servers if bob.shards.all[0].name.endswith(f":{server.port}")]
            link = Link(first.port)
            await nursery.start(link.run)
            others = [server for server in servers if server is not first]
            async with keeping(f"{url_of(others)},127.0.0.1:{link.port}", "ours") as ann:
                for each in (ann, bob):
                    await each.up(3)
                link.end()
                await ann.up(2)
                bob.shards.tell(b"hi")
                await eventually(lambda: b"hi" in ann.heard)
                ann.shards.tell(b"ho")
                await eventually(lambda: b"ho" in bob.heard)


async def test_a_server_that_hangs_costs_one_deadline(doomed: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "CHECK_INTERVAL", PATIENCE)
    async with keeping(url_of([doomed])) as it:
        await it.up()
        with doomed.held_up(), monkeypatch.context() as hasty:
            hasty.setattr(valkey, "CALL_DEADLINE", 0.2)
            with pytest.raises(SharedError, match="timed out"):
                await it.shard.call(b"GET", "a")
            assert (it.shard.failures, it.shard.up) == (1, False)
            for _ in range(100):
                with pytest.raises(SharedError, match="away"):
                    await it.shard.call(b"GET", "a")
        await it.up()
        assert await it.shard.call(b"GET", "a") is None


async def test_a_cancelled_call_affects_no_other(it: Keeping) -> None:
    key = it.shards.key("a")
    await it.shard.call(b"SET", key, b"1", b"PX", 60_000)
    for _ in range(20):
        with trio.CancelScope() as scope:
            scope.cancel()
            await it.shard.call(b"PING", b"not this")
        assert await it.shard.call(b"GET", key) == b"1"
    assert it.shard.failures == 0


async def test_a_server_that_takes_no_writes_is_never_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "CHECK_INTERVAL", PATIENCE)
    with valkeys(tmp_path, 1, "--min-replicas-to-write", "1") as [server]:
        async with keeping(url_of([server])) as it:
            await eventually(lambda: "shard_lost" in it.events())
            assert "replicas" in it.reasons()[0]
            assert it.shards.reachable == 0


async def test_a_password_is_used_and_never_logged(tmp_path: Path) -> None:
    with valkeys(tmp_path, 1, "--requirepass", "s3cret") as [server]:
        url = url_of([server])
        async with keeping(url.replace("//", "//:s3cret@")) as it:
            await it.up()
        async with keeping(url) as it:
            await eventually(lambda: "shard_lost" in it.events())
            assert "AUTH" in it.reasons()[0].upper()
        async with keeping(url.replace("//", "//default:wr0ng@")) as it:
            await eventually(lambda: "shard_lost" in it.events())
            assert "wr0ng" not in str(it.reasons())


@pytest.mark.parametrize(
    ("rights", "reason"), [("~chat:* +@all -@admin", "channel"), ("~chat:* &chat:* +@all -publish", "publish")]
)
async def test_a_user_who_may_not_use_the_channel_counts_as_lost(
    servers: list[Valkey], rights: str, reason: str
) -> None:  # fmt: skip
    """Redis 7 gives a new user no channel: the server was reported as reachable, and no message ever arrived."""
    async with keeping(url_of(servers[:1])) as it:
        await it.up()
        await it.shard.call(b"ACL", b"SETUSER", b"ann", b"reset", b"on", b">s3cret", *rights.split())
    async with keeping(url_of(servers[:1]).replace("//", "//ann:s3cret@")) as it:
        await eventually(lambda: it.events() == ["shard_lost"])
        assert reason in it.reasons()[0]
        assert it.shards.reachable == 0


async def test_a_node_of_a_valkey_cluster_is_never_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was up, and refused each script with keys of several slots."""
    monkeypatch.setattr(valkey.ValkeyShard, "_look", AsyncMock())  # in its first two seconds it also takes no writes
    with valkeys(tmp_path, 1, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no") as [server]:
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)) as peer:
            peer.sendall(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n")
            assert peer.recv(64) == b"+OK\r\n"
        async with keeping(url_of([server])) as it:
            await eventually(lambda: it.events() == ["shard_lost"])
            assert it.reasons() == ["it is a node of a Valkey Cluster, and --shared needs servers by themselves"]


# -- other servers at the address -------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(answer: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of another server that listens."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await answer(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client has closed

    async with answering(serve) as address:
        yield f"valkey://{address}"


async def says_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def hangs_up(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def resets(stream: trio.SocketStream) -> None:
    """The kernel sends a reset for unread bytes at the close."""
    await trio.lowlevel.wait_readable(stream.socket)


HELLO = b"%3\r\n+proto\r\n:3\r\n+version\r\n+6.2\r\n+id\r\n:1\r\n"


def says(answer: bytes, *, hello: bytes = b"") -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server with one answer to everything, or another one to the handshake."""

    async def serve(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(hello if hello and b"HELLO" in data else answer)

    return serve


#: Of the commands of a check, and of calls.
GOOD = {b"HELLO": HELLO, **dict.fromkeys((b"SET", b"EXISTS", b"PUBLISH"), b"+OK\r\n")}


def answers_each(answers: Mapping[bytes, bytes]) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server with an answer to each of these commands, several of which may arrive together."""

    async def serve(stream: trio.SocketStream) -> None:
        async for data in stream:
            for line in bytes(data).split(b"\r\n"):
                if line in answers:
                    await stream.send_all(answers[line])

    return serve


CHECK = "; is it a Valkey server, without TLS? Check its host and port in --shared"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (says_nothing, f"it does not answer{CHECK}"),
        (hangs_up, f"it has closed the connection{CHECK}"),
        (resets, f"it has closed the connection{CHECK}"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), f"it does not answer as Valkey does{CHECK}"),
        # The library's parser raises ValueError, which must not end the server.
        (says(b":x\r\n", hello=HELLO), f"it does not answer as Valkey does{CHECK}"),
        (says(b":42\r\n"), f"it does not answer as Valkey does{CHECK}"),
        (says(b"-ERR unknown command `HELLO`\r\n"), "unknown command `HELLO`"),
        (
            says(b"-MOVED 866 10.0.0.6:6379\r\n", hello=HELLO),
            "it is a node of a Valkey Cluster, and --shared needs servers by themselves",
        ),
        (says(b"-LOADING Valkey is loading the dataset\r\n"), "Valkey is loading the dataset"),
    ],
    ids=["silent", "hangs up", "resets", "HTTP", "nonsense", "something else", "too old", "in a cluster", "starting"],
)
async def test_another_server_counts_as_lost_and_the_log_says_what_to_do(
    other: Callable[[trio.SocketStream], Awaitable[None]], words: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Examples: a port of PostgreSQL ends the stream, and a silent one is an error of the library each second."""
    if other is says_nothing:
        monkeypatch.setattr(valkey, "CONNECT_DEADLINE", 0.2)
    async with serving(other) as url, keeping(url) as it:
        await eventually(lambda: it.events() == ["shard_lost"])
        assert it.reasons() == [words]
        assert it.shards.reachable == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_server_too_slow_for_calls_is_lost_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks may take longer than calls; so it was found after each check, and lost again by each call."""
    monkeypatch.setattr(valkey, "CALL_DEADLINE", 0.1)
    attempts = 0

    async def is_slow(stream: trio.SocketStream) -> None:
        nonlocal attempts
        attempts += 1
        await answers_each({command: answer for command, answer in GOOD.items() if command != b"PUBLISH"})(stream)

    async with serving(is_slow) as url, keeping(url) as it:
        await eventually(lambda: attempts >= 3)
        assert it.events() == ["shard_lost"]


@pytest.mark.jumping_clock
async def test_a_server_that_hangs_is_noticed_without_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "CHECK_DEADLINE", 0.2)
    answers = dict(GOOD)
    async with serving(answers_each(answers)) as url, keeping(url) as it:
        await it.up()
        answers.clear()
        await it.up(0)
        assert it.reasons() == ["it does not answer"]
        answers.update(GOOD)
        await it.up()


async def test_garbage_in_an_answer_loses_the_connection_and_nothing_else() -> None:
    async with serving(answers_each({**GOOD, b"GET": b"\x00\xff?\r\n" * 50})) as url, keeping(url) as it:
        await it.up()
        with pytest.raises(SharedError):
            await it.shard.call(b"GET", "a")
        await eventually(lambda: it.events()[:2] == ["shard_lost", "shard_found"])


async def test_a_limit_ignores_lists_in_lists() -> None:
    """To name one in the error took Python too many calls."""
    deep = b"*1\r\n" * 2000 + b":1\r\n"
    async with serving(answers_each({**GOOD, b"EVALSHA": deep})) as url, keeping(url) as it:
        await it.up()
        with pytest.raises(SharedError):
            await take(it.shard, "a", 1, 1)
        with pytest.raises(SharedError):
            await spend(it.shard, [Spent("a", 1, 1, 1)])
