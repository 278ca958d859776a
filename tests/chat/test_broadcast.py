"""Broadcasts: one write for each member, in short steps, so that no room delays another."""

import itertools
from unittest import mock

import pytest
import trio

from chatserver.chat import broadcast as broadcast_module
from chatserver.log.interface import Draft, Stored
from tests.support.chatting import Chatting, chatting, plant
from tests.support.scripted import ENDLESS, HERE, LineEncoding
from tests.support.steps import StepCounts


def say(it: Chatting, *names: str) -> None:
    """Publish one message in each room, in one group."""
    with it.together():
        for name in names:
            it.hub.publish(Draft(name, "u_1", "Ann", "x"), lambda result: None)


async def quiet(it: Chatting) -> None:
    """Wait until presence has been told, and clear the record of writes."""
    await trio.sleep(10.0)
    it.sink.writes = 0
    it.sink.chunks.clear()


async def test_all_missing_messages_go_in_one_write(it: Chatting) -> None:
    await it.members(5)
    await quiet(it)
    await it.publish("lobby", "one", "two", "three")
    assert it.sink.writes == 5
    assert all(chunk is it.sink.chunks[0] for chunk in it.sink.chunks), "the same bytes object for all"


async def test_encodings_do_not_mix(it: Chatting) -> None:
    """With a third encoding: each message is encoded once for each encoding in use."""
    third = LineEncoding()
    peers = {encoding: [it.peer() for _ in range(3)] for encoding in (it.encoder.frames, it.encoder.events, third)}
    for of_one in zip(*peers.values(), strict=True):  # alternating, so that no two neighbours have one encoding
        for encoding, peer in zip(peers, of_one, strict=True):
            await it.join(peer, "lobby", encoding=encoding)
    await it.publish("lobby", "hi", "ho")
    assert all(peer.offsets("lobby") == [1, 2] for alike in peers.values() for peer in alike)
    assert [encoding.pushed for encoding in peers] == [2, 2, 2]
    assert it.encoder.encoded == 2


async def test_rooms_take_turns(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a room of thousands delays another room by 256 writes, 2 ms."""
    monkeypatch.setattr(broadcast_module, "STEP_MEMBERS", 5)
    await it.members(50, "large")
    await it.members(1, "small")
    await quiet(it)
    say(it, "large", "small")
    await it.until_idle()
    order = [chunk.split()[1] for chunk in it.sink.chunks]
    assert len(order) == 51
    assert order.index(b"small") == 5


async def test_a_room_named_like_an_address_is_in_no_networks_queue(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the requests of that address wait for the room's broadcasts, and it is never a newcomer."""
    soon = mock.Mock(wraps=it.schedule.soon)
    monkeypatch.setattr(it.schedule, "soon", soon)
    await it.members(50, HERE)  # two steps of a pass
    await it.poll(it.peer(), HERE)
    await it.publish(HERE, "hi")
    queues = [call.args[2] for call in soon.mock_calls if call.args[1] is it.hub.rooms[HERE]]
    assert len(queues) >= 3
    assert HERE not in queues


async def test_long_messages_go_to_fewer_members_in_a_step(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 KB to each of 32 members would be a step of 2 ms."""
    monkeypatch.setattr(broadcast_module, "WRITE_BYTES", 100)
    await it.members(64, "large")
    await quiet(it)
    for size, most in ((10, 32), (750, 4), (8_000, 1)):
        with StepCounts() as steps:
            it.sink.before_offer = steps.count
            await it.publish("large", "x" * size)
        assert (max(steps.counts), sum(steps.counts)) == (most, 64)


async def test_the_publisher_is_answered_before_the_broadcast(it: Chatting) -> None:
    (member,) = await it.members(1)
    heard: list[list[int]] = []

    def done(result: object) -> None:
        assert isinstance(result, Stored)
        heard.append(member.offsets("lobby"))

    with it.together():
        for _ in range(2):
            it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), done)
    await it.until_idle()
    assert heard == [[], []]
    assert member.offsets("lobby") == [1, 2]


async def test_members_at_other_cursors_behind_or_dying_are_served_in_one_pass(it: Chatting) -> None:
    await it.publish("lobby", *["old"] * 5)
    peers = [it.peer() for _ in range(12)]
    for index, peer in enumerate(peers):
        await it.join(peer, "lobby", back=index % 3)
        if index % 3 == 1:
            peer.space = index * 3
        peer.dies_at_next_write = index % 4 == 3
    await it.publish("lobby", "new", "newer")
    it.sink.take_all(peers)
    await it.until_idle()
    assert [peer.gone for peer in peers] == [False, False, False, True] * 3
    assert [peer.reached("lobby") for peer in peers if not peer.gone] == [7] * 9
    assert it.hub.statistics()["members"] == 9


async def test_a_member_that_dies_in_a_pass_is_not_told_in_it_who_came(it: Chatting) -> None:
    """Its connection is released, and an exception would end the pass for the others."""
    peers = await it.members(3)
    await trio.sleep(5.0)
    await it.members(1)
    it.hub.rooms["lobby"].presence_since = trio.current_time()
    peers[0].dies_at_next_write = True
    told = [len(peer.presence("lobby")) for peer in peers]
    await it.publish("lobby", "hi")
    assert [len(peer.presence("lobby")) for peer in peers] == [told[0], told[1] + 1, told[2] + 1]


@pytest.mark.parametrize("space", [0, 3], ids=["nothing taken", "a part of the first message taken"])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_member_that_is_behind_gets_what_it_lacks_and_not_the_chunk_of_the_others(
    it: Chatting, place: int, space: int
) -> None:
    """Its cursor stays, whether the pass begins with it or with another member."""
    peers = await it.members(3)
    await trio.sleep(3.0)
    slow = peers[place]
    slow.space = space
    before = it.hub.broadcaster.delivered
    await it.publish("lobby", "one")
    await it.publish("lobby", "two")
    it.sink.take(slow, ENDLESS)
    assert [peer.offsets("lobby") for peer in peers] == [[1, 2]] * 3
    assert it.hub.broadcaster.delivered - before == 6


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [False, True])
async def test_a_fault_with_one_member_costs_only_that_one(monkeypatch: pytest.MonkeyPatch, *, behind: bool) -> None:
    """The cursors of the others in the same write are kept, so that no message is sent twice."""
    async with chatting(faults=1) as it:
        peers = await it.members(5)
        if behind:
            peers[2].space = 0
            await it.publish("lobby", "one")
            it.sink.take(peers[2], 5)

        it.sink.before_offer = lambda _: None
        plant(monkeypatch, it.sink, "before_offer", lambda peer: peer is peers[2])
        if behind:
            it.sink.take(peers[2], ENDLESS)  # so that it is offered more
        await it.publish("lobby", "two")
        await it.publish("lobby", "three")
        assert [peer.gone for peer in peers] == [False, False, True, False, False]
        last = it.hub.rooms["lobby"].last
        assert all(peer.offsets("lobby") == list(range(1, last + 1)) for peer in peers if not peer.gone)


async def test_a_fault_in_keeping_the_rest_costs_only_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later members of the same step are behind as well, and must not lose a message."""
    async with chatting(faults=1) as it:
        peers = await it.members(5)
        await trio.sleep(5.0)
        for peer in peers:
            peer.space = 4
        plant(monkeypatch, it.sink, "keep", lambda connection, *_: connection is peers[1])
        await it.publish("lobby", "one", "two")
        monkeypatch.undo()
        it.sink.take_all(peers)
        await it.until_idle()
        assert [peer.gone for peer in peers] == [False, True, False, False, False]
        assert all(peer.offsets("lobby") == [1, 2] for peer in peers if not peer.gone)


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_fault_in_a_step_costs_the_rest_of_its_broadcast(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The next broadcast of the room includes the missed messages, and paused publishers are resumed."""
    monkeypatch.setattr(broadcast_module, "STEP_MEMBERS", 2)
    async with chatting(ring_messages=16, faults=1) as it:
        peers, (other,), publisher = await it.members(6), await it.members(1, "ops"), it.peer()
        await trio.sleep(5.0)
        visits = itertools.count()
        plant(monkeypatch, it.hub.broadcaster, "_visit", lambda room, *_: room.name == "lobby" and next(visits) == step)
        say(it, *["lobby"] * 9, "ops")
        it.hub.rooms["lobby"].pause(publisher)
        await it.until_idle()
        assert it.hub.rooms["lobby"].broadcast is None
        assert other.offsets("ops") == [1]
        assert publisher.resumed == 1
        assert sum(len(peer.offsets("lobby")) for peer in peers) == 4 * 9
        await it.publish("lobby", "two")
        assert all(peer.offsets("lobby") == list(range(1, 11)) for peer in peers)


async def test_a_fault_in_one_rooms_news_costs_that_room_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(faults=1) as it:
        peers = {name: (await it.members(1, name))[0] for name in ("a", "b", "c")}
        await it.publish("b", "before")
        plant(monkeypatch, it.hub, "_take_in", lambda room, _: room.name == "b")
        say(it, "a", "b", "c")
        await it.until_idle()
        monkeypatch.undo()
        assert (peers["a"].offsets("a"), peers["c"].offsets("c")) == ([1], [1])
        await it.publish("b", "after")
        assert peers["b"].reached("b") == 3, "the missed message is read from the log"
