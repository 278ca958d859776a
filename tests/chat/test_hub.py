"""Rooms in memory: loading, joining, rooms without messages, and eviction."""

import sys
from typing import NoReturn
from unittest import mock

import pytest
import trio

from chatserver.chat import registry
from chatserver.chat.log_reader import MOST_NEWS
from chatserver.chat.presence import Presence
from chatserver.chat.registry import EMPTY_ROOM_SECONDS, LATEST
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, Kind, LogError, Stored
from tests.support.chatting import Chatting, change, chatting
from tests.support.scripted import HERE, Peer

# -- loading ----------------------------------------------------------------------------------------------------------


async def test_a_room_has_its_newest_messages_from_the_start() -> None:
    async with chatting(ring_messages=1000) as it:
        await it.publish("lobby", *["hi"] * (LATEST + 20))
        await it.log.retain(lambda _: (LATEST + 10, 0))
        assert it.hub.registry.room("lobby") is None
        async with it.hub.registry.using("lobby", HERE) as room:
            assert room.ring is not None
            assert (room.first, room.ring.first, room.ring.last) == (11, 21, LATEST + 20)
            assert it.hub.registry.room("lobby") is room


async def test_a_failed_load_fails_for_all_and_the_next_tries_again(it: Chatting) -> None:
    it.log.delay, it.log.failing_reads = 1.0, 1
    failed: list[LogError] = []

    async def join(peer: Peer) -> None:
        try:
            await it.join(peer, "lobby")
        except LogError as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(join, it.peer())
    assert len(failed) == 3
    assert it.hub.rooms == {}
    await it.members(1)


async def test_a_room_that_many_join_at_once_is_loaded_once(it: Chatting) -> None:
    """A second load would replace the ring that members already read from."""
    await it.publish("lobby", "one")
    it.log.delay = 1.0
    before = it.log.reads
    await it.load("lobby")
    one_load = it.log.reads - before
    await trio.sleep(EMPTY_ROOM_SECONDS + 2.0)
    assert it.hub.rooms == {}
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(it.join, it.peer(), "lobby")
    assert it.log.reads - before == 2 * one_load


async def test_retention_during_a_load_is_not_forgotten(it: Chatting) -> None:
    await it.publish("lobby", *["hi"] * 10)
    it.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.load, "lobby")
        await trio.sleep(1.5)  # the head is read, and the answer is on its way
        assert it.hub.registry.room("lobby") is None
        it.hub.retained(await it.log.retain(lambda _: (3, 0)))
    assert it.hub.rooms["lobby"].first == 8


@pytest.mark.parametrize("count", [1, 3 * MOST_NEWS])
async def test_what_is_acknowledged_during_a_load_is_in_the_room_when_it_is_ready(it: Chatting, count: int) -> None:
    """A publisher that asked for the latest messages did not get its own, until the follower had read it."""
    await it.publish("lobby", "one")
    it.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.load, "lobby")
        await trio.sleep(3.5)  # the records are read, and the answer is on its way
        it.log.delay = 0.0
        await it.publish("lobby", *["more"] * count)
        reads = it.log.reads
    assert it.hub.rooms["lobby"].last == 1 + min(count, MOST_NEWS)
    await it.until_idle()
    assert (it.hub.rooms["lobby"].last, it.log.reads > reads) == (1 + count, count > MOST_NEWS)


async def test_a_room_that_retention_has_emptied_goes_on_where_it_was(it: Chatting) -> None:
    await it.publish("lobby", "one", "two", "three")
    it.log.wall_ms = lambda: 1 << 50
    assert await it.log.retain(lambda _: (0, 1)) == {"lobby": 4}
    peer = it.peer()
    await it.join(peer, "lobby")
    assert it.hub.rooms["lobby"].last == 3
    await it.publish("lobby", "four")
    assert (peer.offsets("lobby"), it.hub.broadcaster.gaps) == ([4], 0)


@pytest.mark.parametrize("moment", ["in memory", "before the news of the edit", "during the load"])
async def test_the_text_of_an_edit_leaves_memory_with_its_message(it: Chatting, moment: str) -> None:
    """Retention empties the edit in the log; readers would otherwise get its text until the ring has dropped it."""
    if moment != "during the load":
        await it.load("lobby")
    await it.publish("lobby", "one")
    it.log.commit_delay = 1.0 if moment == "before the news of the edit" else 0.0
    it.hub.publish(change(Kind.EDIT, 1, "uno"), lambda answer: None)
    await it.until_idle()
    it.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.load, "lobby")
        await trio.sleep(3.5 if moment == "during the load" else 0.5)  # the records are read, not yet answered
        it.hub.retained(await it.log.retain(lambda _: (1, 0)))
    await trio.sleep(5.0)
    ring = it.hub.rooms["lobby"].ring
    assert ring is not None
    assert ring.after(1, 1) == [b""]


# -- memory -----------------------------------------------------------------------------------------------------------


async def test_an_empty_room_stays_for_a_while_and_leaves(it: Chatting) -> None:
    member = await it.join(it.peer(), "lobby")
    room = member.room
    for _ in range(2):
        await trio.sleep(EMPTY_ROOM_SECONDS * 3)
        assert it.hub.registry.room("lobby") is room, "a member is in it"
        it.leave(member)
        await trio.sleep(EMPTY_ROOM_SECONDS - 2)
        member = await it.join(it.peer(), "lobby")  # before the ring is dropped
    it.leave(member)
    await trio.sleep(EMPTY_ROOM_SECONDS + 2)
    assert it.hub.rooms == {}
    await it.load("lobby")
    async with it.hub.registry.using("lobby", HERE) as room:
        await trio.sleep(EMPTY_ROOM_SECONDS * 3)
        assert it.hub.registry.room("lobby") is room, "the room is in use"
        waiter = await it.poll(it.peer(), "lobby")
        it.leave(await it.join(it.peer(), "lobby"))
    await trio.sleep(EMPTY_ROOM_SECONDS * 3)
    assert it.hub.registry.room("lobby") is room, "a poll waits in it"
    it.hub.release(waiter)


async def test_a_room_stays_as_long_as_people_are_present_by_a_lease() -> None:
    async with chatting(presence_grace=3 * EMPTY_ROOM_SECONDS) as it:
        ann = it.peer()
        await it.join(ann, "lobby")
        it.sink.die(ann)
        await trio.sleep(2 * EMPTY_ROOM_SECONDS)
        assert [user.number for _, user in it.hub.leaseholders("lobby")] == [ann.principal.number]
        await trio.sleep(2 * EMPTY_ROOM_SECONDS)
        assert it.hub.rooms == {}


async def test_rooms_that_do_not_exist_do_not_fill_memory(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(it.hub.registry, "_most_empty", 10)
    await it.join(it.peer(), "kept")
    for number in range(100):
        await it.load(f"room-{number}")
    assert set(it.hub.rooms) == {"kept", *(f"room-{number}" for number in range(90, 100))}


async def test_what_is_due_each_second_is_queued_once(it: Chatting) -> None:
    """Beside thousands of networks that flood it has a turn in seconds: more entries would delay presence."""
    await it.until_idle()
    for _ in range(5):
        it.hub.tick()
    assert it.schedule.waiting == 2, "a round of housekeeping, and the eviction of empty rooms"


async def test_a_network_that_empties_many_rooms_leaves_few_in_memory(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(it.hub.registry, "_most_of_network", 10)
    monkeypatch.setattr(registry, "EVICTED_AT_ONCE", 3)
    await it.load("other", network="192.0.2.2")
    for number in range(100):
        await it.load(f"room-{number}")
    last = {"other", *(f"room-{number}" for number in range(90, 100))}
    assert set(it.hub.rooms) == last
    member = await it.join(it.peer(), "room-90")
    await it.load("room-0")
    assert set(it.hub.rooms) == {*last, "room-0"}, "a room with people is none of them"
    it.leave(member)
    assert set(it.hub.rooms) == {*last, "room-0"} - {"room-91"}, "the one that has been empty for the longest time"
    await it.load("room-92", "room-1")
    assert set(it.hub.rooms) == {*last, "room-0", "room-1"} - {"room-91", "room-93"}, "the time begins anew after a use"
    await trio.sleep(EMPTY_ROOM_SECONDS + 3.0)
    assert it.hub.rooms == {}
    assert it.hub.registry._empty_of_network == {}


async def test_a_closed_connection_alone_in_a_room_does_not_keep_it(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a hundred rooms of one client stay for `presence_grace`, although no member sees the presence."""
    monkeypatch.setattr(it.hub.registry, "_most_of_network", 1)
    peer, friend = it.peer(), it.peer()
    for name in ("first", "second", "third"):
        await it.join(peer, name)
    await it.join(friend, "third")
    await it.publish("first", "hi")
    it.sink.die(peer)
    await trio.sleep(3.0)
    assert set(it.hub.rooms) == {"second", "third"}
    assert set(it.hub.housekeeping.leasing()) == set(it.hub.rooms.values())
    assert len(it.hub.rooms["second"].presence) == 1
    assert len(it.hub.rooms["third"].presence) == 2, "a member sees it"
    await it.join(it.peer(), "first")
    assert it.hub.rooms["first"].last == 1
    it.sink.die(friend)
    await trio.sleep(EMPTY_ROOM_SECONDS)
    assert len(it.hub.rooms["first"].presence) == 1
    assert it.hub.housekeeping.leasing() == []


async def test_users_with_a_lease_are_looked_up_one_at_a_time(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest's sign-out looked up 50,000 who had just left one room, in a step of 8 ms."""
    peers = [it.peer() for _ in range(3)]
    for peer in peers:
        await it.join(peer, "lobby")
        it.sink.die(peer)
    elsewhere = it.peer()
    await it.join(elsewhere, "kitchen")
    it.sink.die(elsewhere)
    lookups = mock.Mock(wraps=it.hub.rooms["lobby"].presence._find)
    monkeypatch.setattr(Presence, "_find", lambda self, number: lookups(number))
    found = it.hub.leaseholders("lobby")
    room, first = next(found)
    assert (first.number, lookups.call_count) == (peers[0].principal.number, 1)
    it.hub.end_lease(room, peers[1].principal)
    assert [each.number for _, each in found] == [peers[2].principal.number], "the second has left meanwhile"
    monkeypatch.undo()
    assert [room.name for room, _ in it.hub.leaseholders("kitchen")] == ["kitchen"]
    assert [room.name for room, _ in it.hub.leaseholders("*")] == ["lobby", "lobby", "kitchen"]


async def test_a_departure_from_a_room_that_has_left_memory_is_harmless(it: Chatting) -> None:
    """A ban looks for users with a lease in steps, and the room may leave memory between them."""
    async with it.hub.registry.using("lobby", HERE) as room:
        pass
    await trio.sleep(EMPTY_ROOM_SECONDS + 2)
    it.hub.end_lease(room, it.peer().principal)
    member = await it.join(it.peer(), "lobby")
    await trio.sleep(EMPTY_ROOM_SECONDS * 2)
    assert it.hub.rooms == {"lobby": member.room}
    assert member.room is not room


async def test_a_room_may_leave_memory_during_a_commit_and_a_broadcast(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.chat.broadcast.STEP_MEMBERS", 1)
    members = [await it.join(it.peer(), "lobby") for _ in range(6)]
    room = members[0].room
    await trio.sleep(1.5)
    answers: list[Stored | LogError] = []
    it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), answers.append)
    while room.broadcast is None:
        await trio.lowlevel.checkpoint()
    it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), answers.append)
    for member in members:
        it.leave(member)
    assert (room.pending, room.broadcast is None) == (1, False)
    it.hub.registry._empty[room] = 0.0
    it.hub.tick()
    await it.until_idle()
    assert (it.hub.rooms, len(answers)) == ({}, 2)


async def test_members_and_waiters_are_freed_without_the_collector(it: Chatting) -> None:
    """The garbage collector does not track these objects: it would neither free a cycle nor report it."""
    peer = it.peer()
    member = await it.join(peer, "lobby")
    it.leave(member)
    waiter = await it.poll(peer, "lobby", "ops")
    await it.publish("lobby", "hi")
    assert waiter.places() == []
    peer.answers.clear()
    await trio.sleep(2.0)
    alone = object()
    assert sys.getrefcount(member) == sys.getrefcount(alone), "only this function has it"
    assert sys.getrefcount(waiter) == sys.getrefcount(alone)
    assert member.connection is None


async def test_statistics_visit_no_room(it: Chatting) -> None:
    """There may be 100,000 rooms, and any client may ask."""

    class Unseen(dict[str, Room]):
        def values(self) -> NoReturn:
            raise AssertionError("iterated")

        __iter__ = items = values

    it.hub.registry._rooms = it.hub.rooms = Unseen()
    member = await it.join(it.peer(), "lobby")
    waiter = await it.poll(it.peer(), "lobby", "ops")
    await it.publish("elsewhere", "hi")
    assert it.hub.statistics() == {"rooms": 2, "members": 1, "waiters": 2, "published": 1, "kept": 0}
    it.leave(member)
    it.hub.release(waiter)
    assert it.hub.statistics() == {"rooms": 2, "members": 0, "waiters": 0, "published": 1, "kept": 0}


# -- rooms without messages -------------------------------------------------------------------------------------------


async def test_no_ring_before_the_first_message(it: Chatting) -> None:
    ann, poll = it.peer(), it.peer()
    await it.join(ann, "den")
    await it.poll(poll, "den")
    room = it.hub.rooms["den"]
    await trio.sleep(3.0)
    assert ann.presence("den")[-1] == (f"{ann.number},{poll.number}", "-", 2)
    assert (room.ring, room.last, it.hub.statistics()["kept"]) == (None, 0, 0)
    await it.publish("den", "hi", "ho")
    assert room.ring is not None
    assert ann.offsets("den") == [1, 2]
    assert poll.answers == [[("den", 0)]]


def with_people(it: Chatting) -> list[str]:
    return [room.name for room in it.hub.registry.unwritten(10) if room.presence]


async def test_rooms_without_messages_are_listed_while_they_have_members(it: Chatting) -> None:
    await it.publish("lobby", "hi")
    member = await it.join(it.peer(), "den")
    await it.members(1)
    await it.poll(it.peer(), "ops")
    await it.load("nobody")
    assert with_people(it) == ["den", "ops"]
    await it.publish("ops", "hi")
    assert with_people(it) == ["den"]
    it.leave(member)
    assert with_people(it) == []
    assert len(it.hub.registry._unwritten) == 2
    await trio.sleep(EMPTY_ROOM_SECONDS + 2)
    assert it.hub.registry._unwritten == {}


async def test_many_rooms_left_by_a_network_hide_no_room_with_members(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(it.hub.registry, "_most_empty", 2)
    monkeypatch.setattr(it.hub.registry, "_most_of_network", 1)
    for number in range(20):
        await it.load(f"nobody-{number}")
    await it.join(it.peer(), "den")
    assert with_people(it) == ["den"]
    await it.publish("nobody-18", "hi")
    for name in ("nobody-18", "nobody-19"):
        await it.join(it.peer(), name)
    assert with_people(it) == ["nobody-19", "den"]
