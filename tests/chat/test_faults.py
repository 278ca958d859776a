"""A bug of ours in the pump, its readers or the hub: what it costs, and who must not notice."""

from collections.abc import Callable
from typing import Any

import pytest
import trio.testing

from chatserver.chat.member import Member
from chatserver.chat.presence import LEASE
from chatserver.chat.pump import SLICE
from chatserver.log.interface import Draft, LogError
from tests.support.chatting import ENDLESS, Chatting, chatting

Clock = trio.testing.MockClock


def plant(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, when: Callable[..., bool]) -> None:
    """Have a call raise when its arguments say so."""
    original = getattr(owner, name)

    def fail(*arguments: Any, **keywords: Any) -> Any:
        if when(*arguments):
            raise RuntimeError("planted")
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, fail)


def costs(it: Chatting) -> list[object]:
    """Whose connection each fault has cost."""
    assert all(isinstance(error, RuntimeError) for _, error in it.outlet.faults), it.outlet.faults
    return [connection for connection, _ in it.outlet.faults]


@pytest.mark.parametrize("call", ["offer", "keep"])
async def test_in_a_walk_it_costs_its_member(call: str, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of those who are not served alike: the others have a cursor that is not true until they are seen to."""
    async with chatting(faults=1) as it:
        peers = [it.peer() for _ in range(5)]
        for peer in peers:
            await it.join(peer, "lobby")
        for peer in peers[1:]:
            peer.space = 0
        if call == "offer":
            peers[1].members[0].cursor = -1  # it stands alone
        plant(monkeypatch, it.outlet, call, when=lambda connection, *_: connection is peers[1])
        await it.publish("lobby", "hi")
        assert costs(it) == [peers[1]]
        for peer in (peers[2], peers[3], peers[4]):
            it.outlet.take(peer, ENDLESS)
        assert [peer.offsets("lobby") for peer in peers] == [[1], [], [1], [1], [1]]


async def test_in_a_room_it_costs_that_rooms_walk(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(faults=1) as it:
        unlucky, friend = it.peer(), it.peer()
        await it.join(unlucky, "unlucky")
        await it.join(friend, "lobby")
        planted = [True]
        ring = it.hub.rooms["unlucky"].ring
        plant(monkeypatch, type(ring), "chunk", when=lambda self, *_: self is ring and bool(planted and planted.pop()))
        with it.together():
            for room in ("unlucky", "lobby"):
                it.hub.publish(Draft(room, "u_1", "Ann", "one"), lambda result: None)
        await it.settle()
        assert costs(it) == [None]
        assert (unlucky.offsets("unlucky"), friend.offsets("lobby")) == ([], [1])
        await it.publish("unlucky", "two")
        assert unlucky.offsets("unlucky") == [1, 2], "the next walk carries what this one left"


async def test_in_resuming_it_costs_its_publisher(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list was swapped out before: nobody else would resume those behind it."""
    async with chatting(faults=1) as it:
        await it.join(it.peer(), "lobby")
        paused = [it.peer() for _ in range(3)]
        it.hub.rooms["lobby"].paused.extend(paused)
        plant(monkeypatch, it.outlet, "resume", when=lambda connection: connection is paused[1])
        await it.publish("lobby", "hi")
        assert costs(it) == [paused[1]]
        assert [peer.resumed for peer in paused] == [1, 0, 1]


async def test_in_the_pump_itself_it_costs_a_slice(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(faults=1) as it:
        await it.fill("large", SLICE)  # more than is carried at once
        friend = it.peer()
        await it.join(friend, "lobby")
        planted = [False, True]
        plant(monkeypatch, it.outlet, "crowded", when=lambda: planted.pop(0) if planted else False)
        with it.together():
            for room in ("large", "lobby"):
                it.hub.publish(Draft(room, "u_1", "Ann", "hi"), lambda result: None)
        await it.settle()
        assert costs(it) == [None]
        assert friend.offsets("lobby") == [1]


async def test_in_waking_polls_it_costs_that_room(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(faults=1) as it:
        unlucky, friend = it.peer(), it.peer()
        hold = await it.poll(unlucky, "unlucky")
        await it.poll(friend, "lobby")
        planted = [True]
        plant(
            monkeypatch, type(hold), "lacks_news_of",
            when=lambda self, room: self is hold and bool(planted and planted.pop()),
        )  # fmt: skip
        await it.publish("unlucky", "one")
        await it.publish("lobby", "one")
        assert costs(it) == [None]
        assert (unlucky.answers, len(friend.answers)) == ([], 1)
        await it.publish("unlucky", "two")
        assert len(unlucky.answers) == 1


async def test_in_a_reader_it_costs_its_member(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are readers."""
    async with chatting(ring_messages=5, faults=3) as it:
        peers = [it.peer() for _ in range(4)]
        for peer in peers:
            await it.join(peer, "lobby")
            peer.space = 0
        for number in range(50):
            await it.publish("lobby", f"text-{number}")
        plant(monkeypatch, it.hub.pump, "_give", when=lambda member, _: member.connection is not peers[3])
        for peer in peers:
            it.outlet.take(peer, ENDLESS)
        await it.settle()
        assert costs(it) == peers[:3]
        assert peers[3].offsets("lobby") == list(range(1, 51))


async def test_in_the_round_of_a_second_it_costs_one_room(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting(faults=1) as it:
        for name in ("a", "unlucky", "z"):
            await it.join(it.peer(), name)
            poller = it.peer()
            it.hub.polled(it.hub.rooms[name], poller.number)
        presence = it.hub.rooms["unlucky"].presence
        planted = [True]
        plant(
            monkeypatch, type(presence), "expire",
            when=lambda self, now: self is presence and bool(planted and planted.pop()),
        )  # fmt: skip
        await trio.sleep(LEASE + 5.0)
        assert costs(it) == [None]
        assert [len(it.hub.rooms[name].presence) for name in ("a", "z")] == [1, 1]


async def test_in_telling_who_has_come_it_costs_that_one(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting(faults=1) as it:
        peers = [it.peer() for _ in range(3)]
        for number, peer in enumerate(peers):
            member: Member = await it.join(peer, f"r{number}")
            it.hub.settle(member.room)
        plant(monkeypatch, it.outlet, "blocked", when=lambda connection: connection is peers[1])
        await trio.sleep(3.0)
        assert costs(it) == [peers[1]]
        assert [len(peer.presence(f"r{number}")) for number, peer in enumerate(peers)] == [1, 0, 1]


async def test_in_what_a_publisher_is_told_it_costs_nobody_else(autojump_clock: Clock) -> None:
    """The log calls these one after the other; and a room whose publishes are not counted off stays congested."""

    def fail(result: object) -> None:
        raise RuntimeError("planted")

    async with chatting(faults=1) as it:
        peer = it.peer()
        await it.join(peer, "lobby")
        with it.together():
            it.hub.publish(Draft("lobby", "u_1", "Ann", "one"), fail)
            it.hub.publish(Draft("lobby", "u_1", "Ann", "two"), lambda result: None)
        await it.settle()
        assert costs(it) == [None]
        assert peer.offsets("lobby") == [1, 2]
        assert it.hub.rooms["lobby"].pending == 0


async def test_in_noting_a_failure_it_costs_no_answer(autojump_clock: Clock) -> None:
    def fail(error: LogError) -> None:
        raise RuntimeError("planted")

    async with chatting(faults=1) as it:
        await it.join(it.peer(), "lobby")
        it.hub._note_failure = fail
        it.log.failing_commits = 1
        answers: list[object] = []
        it.hub.publish(Draft("lobby", "u_1", "Ann", "one"), answers.append)
        await it.settle()
        assert costs(it) == [None]
        assert [type(answer).__name__ for answer in answers] == ["LogUnavailable"]
