"""The crowd's clients: made when they come, in the proportions of the whole."""

from zlib import crc32

import pytest
import trio

from loadgen.clients.client import Stage
from loadgen.clients.messages import Role
from loadgen.clients.traffic import SENTENCE
from loadgen.net import target
from loadgen.personas._websocket import Message
from loadgen.run.crowd import Crowd
from loadgen.run.experiment import Group
from tests.loadgen.stage import listening


async def test_each_stretch_of_those_who_come_has_the_proportions_of_the_whole() -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        crowd = Crowd(Role(target=target.find(server.url), seed=1, connect_rate=0.0))
        counts = {"idle": 8, "poll": 4}
        crowd.make(Group(name="all", counts={}, rooms=("a", "b")), counts, 400)
        crowd.make(Group(name="others", counts={}, rooms=("a", "b")), {"phone-2g": 2, "slow-head": 2}, 800)
        crowd.open("others", 1.0)
        for share, names in [(0.5, ["idle", "poll", "idle"] * 2), (1.0, ["idle", "poll", "idle"] * 4)]:
            crowd.open("all", share)
            clients = [client for client in crowd._engine._opening._queue if client.cohort.group == "all"]
            assert [client.name for client in clients] == names
        nursery.start_soon(crowd.run)
        nursery.cancel_scope.cancel()
    assert sorted(client.index for client in clients) == list(range(400, 412)), "each has a number of its own"
    assert [client.number for client in clients if client.name == "poll"] == [0, 1, 2, 3]
    assert {client.room for client in clients if client.name == "poll"} == {"a", "b"}
    for client in [client for cohort in crowd._cohorts for client in cohort.clients]:
        client.stage = Stage.HELD
    for client in clients:
        name = "lg-0123abcd 1"
        texts = [f"{name} {SENTENCE}", f"{name}2 {SENTENCE}"] if client.name == "poll" else ["what others say"]
        client.deliver([Message(text=text) for text in texts])
    sums = crc32(name.encode()) + crc32(f"{name}2".encode())
    listeners = [("a", 0, 0, 4), ("a", 2, sums, 2), ("b", 0, 0, 4), ("b", 2, sums, 2)]
    assert sorted(crowd.result().listeners) == listeners, "the slow are late on purpose, attackers do not listen"


async def test_the_result_is_how_a_group_stood_before_it_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends while it is being closed, by the server or by us, says nothing about the target.

    A run of ten seconds was invalid because one of the 25 checks of its drain was 72 ms late.
    """
    monkeypatch.setattr("loadgen.clients.cohort.now", lambda: 100.0)
    async with listening() as server:
        crowd = Crowd(Role(target=target.find(server.url), seed=1, connect_rate=0.0))
        crowd.begin("attack")
        crowd.make(Group(name="all", counts={}, rooms=("a",), poll_wait_seconds=1.0), {"idle": 4, "slow-head": 2}, 0)
        crowd.open("all", 1.0)
        members, attackers = crowd._made["all"]
        stood = {
            members: [(Stage.CONNECTING, 94.0), (Stage.OPENING, 95.0), (Stage.UPGRADED, 80.0), (Stage.HELD, 1.0)],
            attackers: [(Stage.HELD, 90.0), (Stage.WAITING, 50.0)],
        }
        for client in [*members.clients, *attackers.clients]:
            client.stage, client.born = stood[client.cohort][client.number]
        members.lifetime.record(1.0)
        before = crowd.result()
        assert [(group.persona, group.starved, group.due) for group in before.groups] == [
            ("idle", 2, 4),  # for more than five seconds
            ("slow-head", 0, 2),
        ]
        await crowd.close("all")
        crowd.begin("drain")
        members.lifetime.record(0.5)
        after = crowd.result()
        assert after.groups == before.groups
        assert [phase for _, phase, _ in after.lags] == ["", "attack"]
        crowd._traffic.booked.acknowledged_in.update({"a": 2, "b": 1})
        status = crowd.status(0)
        assert ([group.due for group in status.groups], status.acknowledged) == ([0, 0], 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            nursery.cancel_scope.cancel()
