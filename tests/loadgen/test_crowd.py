"""The crowd's clients: made when they come, in the proportions of the whole."""

from functools import partial
from zlib import crc32

import pytest
import trio

from loadgen import target
from loadgen.client import Stage
from loadgen.crowd import Crowd
from loadgen.messages import Role
from tests.loadgen.stage import listening


async def test_each_stretch_of_those_who_come_has_the_proportions_of_the_whole() -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        crowd = Crowd(Role(target=target.find(server.url), seed=1, connect_rate=0.0))
        counts = {"idle": 8, "poll": 4}
        make = partial(crowd.make, rooms=("a", "b"), poll_wait_seconds=1.0)
        make("all", counts, first_index=400)
        make("others", {"phone-2g": 2, "slow-head": 2}, first_index=800)
        crowd.open("others", 1.0)
        clients = crowd._made["all"].clients
        for share, names in [(0.5, ["idle", "poll", "idle"] * 2), (1.0, ["idle", "poll", "idle"] * 4)]:
            crowd.open("all", share)
            assert [client.name for client in clients] == names
        nursery.start_soon(crowd.run)
        nursery.cancel_scope.cancel()
    assert sorted(client.index for client in clients) == list(range(400, 412)), "each has a number of its own"
    assert [client.number for client in clients if client.name == "poll"] == [0, 1, 2, 3]
    assert {client.room for client in clients if client.name == "poll"} == {"a", "b"}
    for client in [*clients, *crowd._made["others"].clients]:
        client.stage = Stage.HELD
    for client in clients:
        name = b"lg00000000-0123abcd 1"
        client.deliver(name + b" text, " + name + b"2 text" if client.name == "poll" else b"what others say")
    sums = crc32(name) + crc32(name + b"2")
    listeners = [("a", 0, 0, 4), ("a", 2, sums, 2), ("b", 0, 0, 4), ("b", 2, sums, 2)]
    assert sorted(crowd.result().listeners) == listeners, "the slow are late on purpose, attackers do not listen"


async def test_what_ends_while_a_group_is_closed_changes_nothing() -> None:
    """Its status is from before we began to close it, the ages of those that the server ended included."""
    async with listening() as server:
        crowd = Crowd(Role(target=target.find(server.url), seed=1, connect_rate=0.0))
        crowd.make("all", {"idle": 1}, rooms=("a",), poll_wait_seconds=1.0, first_index=0)
        [cohort] = crowd._made["all"].cohorts
        cohort.lifetime.record(1.0)
        crowd._made["all"].close()
        cohort.lifetime.record(0.5)
        [status] = crowd.result().groups
        assert status.lifetime.count == 1
        assert status.lifetime.at(99) == pytest.approx(1.0, rel=0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            nursery.cancel_scope.cancel()
