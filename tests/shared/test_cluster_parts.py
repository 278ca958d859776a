"""Two servers of one chat on real shards: shared presence, shared limits, and the loss of a shard."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
from msgspec.structs import replace

from chatserver.api import shared_rates
from chatserver.api.cluster_parts import OtherProcesses, SharedParts
from chatserver.api.pipelines.shared import SharedResults
from chatserver.chat import cluster
from chatserver.log.index import Found, Question
from chatserver.log.interface import new_identity
from chatserver.server import Server
from chatserver.settings.fields import Settings
from chatserver.settings.spec import ConfigError
from chatserver.shared import valkey
from chatserver.shared.datagrams import Datagrams
from chatserver.shared.shards import SharedError
from tests.shared.keeping import Keeping, keeping
from tests.support.moderating import ELSEWHERE, guest, id_of, moderate, sanction
from tests.support.peers import ask, chatter
from tests.support.serving import Serving, eventually, neighbour, serving, until
from tests.support.tokens import secret_file
from tests.support.valkeys import Valkey, url_of, valkeys


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "REPORT_INTERVAL", 0.1)
    monkeypatch.setattr(shared_rates, "REPORT_INTERVAL", 0.1)
    monkeypatch.setattr(valkey, "RETRY_EVERY", 0.05)


def reachable(server: Serving) -> int:
    shared = server.server.parts.shared
    assert shared is not None
    return shared.shards.reachable


@asynccontextmanager
async def pair(servers: list[Valkey], **settings: Any) -> AsyncIterator[tuple[Serving, Serving]]:
    """Two servers that the shards treat as having one log."""
    identity = new_identity()
    with mock.patch("chatserver.log.memory.new_identity", return_value=identity):
        async with (
            serving(shared=url_of(servers), **settings) as ours,
            serving(shared=url_of(servers), **settings) as other,
        ):
            for each in (ours, other):
                await eventually(lambda each=each: reachable(each) == len(servers))  # type: ignore[misc]
            yield ours, other


async def there(server: Serving, members: int) -> None:
    """Wait until so many people are in the lobby, as this server knows them."""
    await until(lambda: ask(server.address, "GET", "/rooms/lobby/members"), lambda it: it.json["count"] == members)


async def test_people_of_both_servers_see_each_other(servers: list[Valkey]) -> None:
    async with pair(servers) as (ours, other), chatter(ours.address) as ann, chatter(other.address) as bob:
        await ann.ask("join", room="lobby")
        await bob.ask("join", room="lobby")
        names = {each.hello["user"]["name"] for each in (ann, bob)}
        for server in (ours, other):
            await there(server, 2)
        members = await ann.ask("members", room="lobby")
        assert {each["name"] for each in members["members"]} == names
        assert (await ask(other.address, "GET", "/rooms/lobby")).json["members"] == 2
        told: list[str] = []
        while bob.hello["user"]["name"] not in told:
            told += [each["name"] for each in (await ann.next("presence"))["joined"]]
        await bob.say(type="typing", room="lobby")
        assert (await ann.next("typing"))["user"]["name"] == bob.hello["user"]["name"]
        assert (await ask(ours.address, "GET", "/readyz")).json["shards"] == {"reachable": 2, "of": 2}
        assert await ours.metric("chatserver_shard_up") == 2
        assert await ours.metric("chatserver_processes") == 1
        assert await ours.metric("chatserver_members_elsewhere") == 1


async def test_a_user_between_polls_at_one_server_is_kicked_at_the_other(servers: list[Valkey], tmp_path: Path) -> None:
    ann = guest("ann")
    async with pair(servers, token_key=(secret_file(tmp_path),), presence_grace=300.0) as (ours, other):
        user = await id_of(ours.address, ann)
        assert (await ask(ours.address, "GET", "/poll?room=lobby", headers=ann)).status == 200
        await there(other, 1)
        answer = await moderate(other.address, "POST", "/rooms/lobby/kick", user=user)
        assert (answer.status, answer.json["ended"]) == (200, 0), "the user has no connection here"
        await there(ours, 0)
        await there(other, 0)


def test_a_fault_in_a_message_of_another_process_ends_no_task(tmp_path: Path) -> None:
    faults, cluster = list[object](), mock.Mock(**{"receive.side_effect": ZeroDivisionError})
    OtherProcesses(Datagrams(tmp_path, 0, 2), cluster, mock.Mock(), faults.append)._receive(b"?")
    assert faults == [cluster]


async def test_a_user_and_a_room_that_are_only_at_the_other_server_are_found(
    servers: list[Valkey], tmp_path: Path
) -> None:
    """The moderator's server has nobody in the room, so the room is not in its memory."""
    async with (
        pair(servers, token_key=(secret_file(tmp_path),)) as (ours, other),
        chatter(other.address, headers=guest("bob"), source=ELSEWHERE) as bob,
    ):
        await bob.ask("join", room="lobby")
        await there(ours, 1)
        assert "lobby" not in ours.server.parts.hub.rooms
        lists = [(await ask(each.address, "GET", "/rooms")).json["rooms"] for each in (ours, other)]
        assert [[(it["room"], it["members"]) for it in each] for each in lists] == 2 * [[("lobby", 1)]]
        user = bob.hello["user"]
        for room in ("lobby", "*"):
            made = await sanction(ours.address, room, kind="mute", user=user["id"])
            assert made["user_name"] == user["name"]
            made = await sanction(ours.address, room, kind="mute", network_of=user["id"])
            assert made["network"] == ELSEWHERE
        async with chatter(other.address, headers=guest("bob"), source="127.0.0.9") as roamed:
            await roamed.ask("join", room="lobby")
            await until(
                lambda: sanction(ours.address, "lobby", kind="mute", network_of=user["id"]),
                lambda made: made["network"] == "127.0.0.9",
            )


async def test_a_search_at_one_is_counted_by_the_other(servers: list[Valkey]) -> None:
    async with pair(servers, search_rate=0.01) as (ours, other):
        assert (await ask(ours.address, "GET", "/search?q=tea")).status == 200
        refused = await ask(other.address, "GET", "/search?q=tea")
        assert (refused.status, refused.error) == (429, "rate_limited")
        assert 10 < int(refused.headers["retry-after"]) <= 100


async def test_a_result_of_one_server_is_used_by_the_other_until_a_removal(
    servers: list[Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers have separate logs here, so the origin of a result is visible."""
    monkeypatch.setattr("chatserver.api.pipelines.shared.RESULT_LIFETIME", 600.0)
    async with pair(servers) as (ours, other), chatter(ours.address) as ann:

        async def found(server: Serving) -> list[str]:
            server.server.parts.services.search_results._kept.clear()
            return [each["text"] for each in (await ask(server.address, "GET", "/search?q=kettle")).json["results"]]

        async def kept() -> bool:
            return await found(ours) == ["a kettle"] and await ours.metric("chatserver_search_shared_total") > 0

        stored = await ann.ask("publish", room="lobby", text="a kettle")
        await eventually(kept)
        assert await found(other) == ["a kettle"]
        deleted = await ann.ask("delete", room="lobby", offset=stored["offset"])
        assert deleted["type"] == "ack"
        await until(lambda: found(other), lambda texts: texts == [])
        made = [await server.metric("chatserver_sessions_total") for server in (ours, other)]
        assert sum(made) == 1, "one visitor"


@pytest.mark.parametrize("lost_first", [True, False])
async def test_no_result_from_before_a_deletion_is_used_though_a_shard_has_lost_its_keys(
    it: Keeping, *, lost_first: bool
) -> None:
    """A restarted shard counted deletions from the beginning, and so came to the same number again."""
    await it.up()
    results, question = SharedResults(it.shards), Question(("tea",))
    if lost_first:
        results.forget()
    lookup = await until(partial(results.get, question), lambda found: found is not None)
    assert lookup is not None
    for is_loss in (lost_first, not lost_first):
        if is_loss:
            await it.shard.call(b"DEL", it.shards.key("generation"))
        else:
            results.forget()  # the search that has asked before may not share what it found
    await results.put(question, Found([], 7), lookup.generation)
    again = await results.get(question)
    assert again is None or again.found is None


async def keep_a_result(results: SharedResults) -> Question:
    """Store a result, and return what it is the result of."""
    question = Question(("tea",))
    lookup = await until(partial(results.get, question), lambda found: found is not None)
    assert lookup is not None
    with mock.patch("chatserver.api.pipelines.shared.RESULT_LIFETIME", 600.0):
        await results.put(question, Found([], 7), lookup.generation)
    kept = await results.get(question)
    assert kept is not None
    assert kept.found == Found([], 7)
    return question


def test_another_epoch_of_a_log_is_another_chat() -> None:
    """A restored copy showed its users in the original, and results from before a failover had lost messages."""
    settings, identity = Settings(shared="valkey://127.0.0.1:1"), new_identity()
    later = replace(identity, epoch="later")
    ours, same, other = (SharedParts(settings, each).shards.key("x") for each in (identity, identity, later))
    assert ours == same != other


async def test_no_result_from_before_a_deletion_is_used_though_the_shard_was_away_then(it: Keeping) -> None:
    """The server that had acknowledged the deletion showed the text for the rest of three seconds."""
    await it.up()
    results = SharedResults(it.shards)
    question = await keep_a_result(results)
    ours = await it.shard.call(b"CLIENT", b"ID")
    assert isinstance(ours, int)
    with suppress(SharedError):
        await it.shard.call(b"CLIENT", b"KILL", b"ID", ours, b"SKIPME", b"no")
    await it.up(0)
    results.forget()
    await it.up()
    again = await results.get(question)
    assert again is None or again.found is None


@pytest.mark.parametrize("refuse", ["CONFIG SET maxmemory 1", "REPLICAOF 127.0.0.1 1"], ids=["full", "a replica"])
async def test_no_result_from_before_a_deletion_is_used_though_the_shard_refuses_to_write(
    tmp_path: Path, refuse: str
) -> None:
    """It refused to forget results, and returned them until the next check of the shard."""
    with valkeys(tmp_path, 1) as servers:
        async with keeping(url_of(servers)) as it:
            await it.up()
            results = SharedResults(it.shards)
            question = await keep_a_result(results)
            await it.shard.call(*refuse.encode().split())
            results.forget()
            again = await results.get(question)
            assert again is None or again.found is None


async def test_a_user_who_publishes_at_both_has_one_rate_from_then_on(servers: list[Valkey]) -> None:
    async with pair(servers, publish_rate=0.01) as (ours, other):
        shared, limit = ours.server.parts.shared, other.server.parts.services.write_limits
        assert shared is not None
        assert await say_hi(ours) == 201
        [number] = ours.server.parts.services.write_limits.users._states
        names = f"publish-user:{number}", "publish-network:127.0.0.1"

        async def told() -> bool:
            return all([await shared.shards.of(name).call(b"EXISTS", shared.shards.key(name)) == 1 for name in names])

        def wait() -> float:
            return limit.users.wait(number, trio.current_time())

        await eventually(told)
        assert await say_hi(other) == 201, "the other server does not know of it yet"
        assert 0.0 < wait() <= 100.0
        await eventually(lambda: wait() > 150.0)
        assert await say_hi(other) == 429


async def say_hi(server: Serving) -> int:
    return (await ask(server.address, "POST", "/rooms/lobby/messages", b'{"text":"hi"}')).status


async def test_a_shard_that_dies_or_hangs_is_noticed_by_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "CHECK_DEADLINE", 1.0)  # a call may or may not go to the second shard
    with valkeys(tmp_path, 2) as (first, second):
        async with serving(shared=url_of([first, second]), search_rate=1000.0) as server, neighbour(server):
            await eventually(lambda: reachable(server) == 2)
            assert await searches(server) == [200] * 5
            first.kill()
            assert await searches(server) == [200] * 5
            with second.held_up(), monkeypatch.context() as hasty:
                hasty.setattr(valkey, "CALL_DEADLINE", 0.2)
                assert await searches(server) == [200] * 5
                await eventually(lambda: reachable(server) == 0)
                ready = await ask(server.address, "GET", "/readyz")
                assert (ready.status, ready.json["shards"]["reachable"]) == (200, 0)
                assert await searches(server) == [200] * 5
            first.start()
            await eventually(lambda: reachable(server) == 2)
            assert await searches(server) == [200] * 5
            assert await server.metric("chatserver_shard_alone_total") > 0


async def searches(server: Serving) -> list[int]:
    return [(await ask(server.address, "GET", f"/search?q=tea{number}")).status for number in range(5)]


async def test_a_server_starts_without_its_shards() -> None:
    async with serving(shared="valkey://127.0.0.1:1") as server, neighbour(server):
        assert (await ask(server.address, "GET", "/readyz")).json["status"] == "ready"
        assert await searches(server) == [200] * 5
        assert (await ask(server.address, "GET", "/rooms/neighbours/members")).json["count"] == 1
    lost = [line for line in server.logs if line["event"] == "shard_lost"]
    assert [(line["shard"], "refused" in line["reason"].lower()) for line in lost] == [("127.0.0.1:1", True)]


async def test_without_the_flag_nothing_is_shared() -> None:
    async with serving() as server:
        assert server.server.parts.shared is None
        assert "shards" not in (await ask(server.address, "GET", "/readyz")).json
        assert b"shard" not in (await ask(server.address, "GET", "/metrics")).body


def test_a_missing_client_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coredis.connection", None)
    monkeypatch.delitem(sys.modules, "chatserver.shared.valkey", raising=False)
    with pytest.raises(ConfigError, match=r"^--shared: needs coredis.*pip install '\.\[valkey\]' in the source"):
        Server(Settings(shared="valkey://127.0.0.1:1"), total=10)
