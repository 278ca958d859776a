"""Memory of all rooms: which rooms release it over the budget, and how many rooms there may be."""

import gc
import sys
import tracemalloc
from functools import partial

import pytest
import trio

from chatserver.chat.registry import EMPTY_ROOM_SECONDS, LOW_WATER, NETWORK_SHARE, Registry, RoomsFullError
from chatserver.chat.ring import Ring
from chatserver.chat.room import Room
from chatserver.log.interface import Kind, LogError
from tests.support.chatting import Chatting, change, chatting
from tests.support.groups import append
from tests.support.steps import StepCounts

#: A few of these texts fill the small budget of these tests.
LONG = "x" * 1_000


def ring_of(it: Chatting, room: str) -> Ring:
    ring = it.hub.rooms[room].ring
    assert ring is not None
    return ring


def network(number: int) -> str:
    return f"198.51.100.{number}"


async def test_empty_rooms_are_evicted_first_the_oldest_before_the_others() -> None:
    async with chatting(all_rings_bytes=60_000) as it:
        await it.join(it.peer(), "mine")
        for name in ("mine", "a", "b", "c", "d"):
            await it.publish(name, *[LONG] * 10)
        for name in ("a", "b", "c", "d"):
            await it.load(name)
            await trio.sleep(0.01)
        assert list(it.hub.rooms) == ["mine", "c", "d"]
        assert it.hub.statistics()["kept"] <= 60_000
        assert len(ring_of(it, "mine")._json) == 10


async def test_a_room_that_leaves_memory_before_its_pass_is_charged_no_more(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass made a chunk for its members, who had all left, and charged it to the budget for ever."""
    member = await it.join(it.peer(), "lobby")
    step = it.hub.broadcaster._step

    def step_late(room: Room) -> bool:
        it.leave(member)
        it.hub.registry._evict(room)
        return step(room)

    monkeypatch.setattr(it.hub.broadcaster, "_step", step_late)
    await it.publish("lobby", "one", "two")
    assert "lobby" not in it.hub.rooms
    assert it.hub.budget.used == 0


async def test_a_room_without_messages_and_with_one_member_is_small() -> None:
    """A connection may be in four of them, and a network in thousands."""
    async with chatting(max_rooms=10_000) as it:
        await it.join(it.peer(), "first")
        peer, count = it.peer(), 500
        principal = peer.principal
        tracemalloc.start()
        try:
            for number in range(count):
                await it.load(f"join-{number}")
                room = it.hub.rooms[f"join-{number}"]
                it.hub.attach(room, peer, encoding=it.encoder.events, principal=principal, cursor=0)
            await trio.sleep(2.5)  # presence has been sent
            gc.collect()
            size = tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()
        assert size <= 680
        assert sys.getsizeof(it.hub.housekeeping._changed) <= sys.getsizeof({})


async def test_a_room_keeps_no_memory_of_people_who_have_left() -> None:
    """An emptied dict keeps the memory of its largest size: a few hundred peers could fill that of any room in turn."""
    async with chatting() as it:
        peers = [it.peer() for _ in range(500)]
        members = [await it.join(peer, "lobby") for peer in peers for _ in range(2)]
        polls = [await it.poll(it.peer(), "lobby") for _ in peers]
        room = it.hub.rooms["lobby"]
        for member in members:
            it.leave(member)
        for poll in polls:
            it.hub.release(poll)
        await trio.sleep(1.0 + it.hub._lease_seconds)
        presence = room.presence
        tables = (room.members, room.waiters, presence._people, presence._connections, presence._leases)
        assert not any(tables)
        assert max(map(sys.getsizeof, tables)) <= sys.getsizeof({})


async def test_then_every_room_keeps_its_share() -> None:
    """Slow members read the rest from the log without loss, and small rooms keep their messages."""
    async with chatting(all_rings_bytes=40_000) as it:
        large = [f"large-{index}" for index in range(4)]
        peers = {name: it.peer() for name in (*large, "small")}
        await it.join(it.peer(space=10), "large-0")
        for name, peer in peers.items():
            await it.join(peer, name)
        for name in ("small", *large):
            await it.publish(name, *[LONG] * (1 if name == "small" else 14))
        await trio.sleep(2.0)
        assert it.hub.statistics()["kept"] <= 40_000
        assert len(ring_of(it, "small")._json) == 1
        assert all(len(ring_of(it, name)._json) >= 1 for name in large)
        assert min(ring_of(it, name).kept for name in large) <= int(40_000 * LOW_WATER) // 5
        assert [peers[name].offsets(name) for name in large] == [list(range(1, 15))] * 4


async def test_many_rooms_are_cut_or_evicted_a_few_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting all rooms in one step would take 4 ms for each 10,000 of them."""
    monkeypatch.setattr("chatserver.fair.STEP", 0)
    async with chatting(all_rings_bytes=40_000) as it:
        for name in ("a", "b", "c", "d", "e", "f"):
            await it.join(it.peer(), name)
            await it.publish(name, *[LONG] * 5)
        for name in ("g", "h"):
            await it.publish(name, LONG)
            await it.load(name)
        with StepCounts() as steps:
            monkeypatch.setattr(Room, "cut", steps.counted(Room.cut))
            monkeypatch.setattr(Registry, "_evict", steps.counted(Registry._evict))
            await it.publish("a", *[LONG] * 8)
        assert (max(steps.counts), sum(steps.counts)) == (1, 8)
        assert it.hub.statistics()["kept"] <= 40_000


async def test_a_room_that_leaves_memory_while_others_are_cut_is_charged_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatserver.fair.STEP", 0)
    async with chatting(all_rings_bytes=20_000) as it:
        members = {name: await it.join(it.peer(), name) for name in ("a", "b")}
        cut = Room.cut

        def cut_and_evict(room: Room, most: int) -> None:
            cut(room, most)
            it.leave(members["b"])
            it.hub.registry._evict(it.hub.rooms["b"])

        await it.publish("b", *[LONG] * 9)
        monkeypatch.setattr(Room, "cut", cut_and_evict)
        await it.publish("a", *[LONG] * 9)
        assert (list(it.hub.rooms), it.hub.statistics()["kept"]) == (["a"], ring_of(it, "a").kept)


async def test_cached_answers_are_dropped_by_any_change() -> None:
    async with chatting(shared=True) as it:
        await it.publish("lobby", "secret", "other")
        room = (await it.join(it.peer(), "lobby")).room

        async def delete_before_other_records_are_read() -> None:
            it.log.delay = 1.0
            it.elsewhere_said("lobby", "three")
            await append(it.log, change(Kind.DELETE, 1))

        async def retain() -> None:
            it.hub.retained(await it.log.retain(lambda _: (2, 0)))

        for act in (partial(it.publish, "lobby", "hi"), delete_before_other_records_are_read, retain):
            room.remember("one", b"x")
            await act()
            assert room.cache is None
        room.remember("one", b"x")
        it.hub.retained({"lobby": room.first, "elsewhere": 9})
        assert room.cache, "nothing has changed"


async def test_cached_answers_are_charged_and_released_also_with_their_room() -> None:
    async with chatting(all_rings_bytes=40_000) as it:
        member = await it.join(it.peer(), "lobby")
        room = member.room
        await it.publish("lobby", *[LONG] * 5)
        before = it.hub.statistics()["kept"]
        assert before > 5_000
        room.remember("one", b"x" * 30_000)
        room.remember("two", b"x" * 30_000)
        assert it.hub.statistics()["kept"] == before + 60_000
        for _ in range(2):
            it.hub.tick()  # the schedule does not run in between
        await it.until_idle()
        assert it.hub.statistics()["kept"] == before
        assert room.cache is None
        it.leave(member)
        room.remember("one", b"x" * 1_000)
        await trio.sleep(EMPTY_ROOM_SECONDS + 2)
        assert (it.hub.rooms, it.hub.statistics()["kept"]) == ({}, 0)


async def test_over_max_rooms_an_empty_room_is_evicted() -> None:
    async with chatting(max_rooms=3) as it:
        await it.load("d", network=network(4))
        for number, name in enumerate("abc"):
            await it.join(it.peer(network=network(number)), name)
        assert sorted(it.hub.rooms) == ["a", "b", "c"]
        with pytest.raises(RoomsFullError, match="and 0 places"):
            await it.join(it.peer(network=network(4)), "d")
        await it.join(it.peer(network=network(4)), "a")
        assert sorted(it.hub.rooms) == ["a", "b", "c"]


async def test_a_room_with_only_a_lost_connection_is_evicted() -> None:
    """Otherwise no new room can be opened for `presence_grace` after thousands of connections are lost."""
    async with chatting(max_rooms=2) as it:
        peers = [it.peer(network=network(number)) for number in range(2)]
        for peer, name in zip(peers, "ab", strict=True):
            await it.join(peer, name)
        it.sink.die(peers[0])
        await it.join(it.peer(network=network(2)), "c")
        assert sorted(it.hub.rooms) == ["b", "c"]
        await trio.sleep(1.5)
        assert (it.hub.housekeeping.leases, it.hub.housekeeping.leasing()) == (0, [])


async def test_an_empty_room_that_is_entered_is_no_free_place() -> None:
    async with chatting(max_rooms=8 * NETWORK_SHARE) as it:
        for name in "abcdefg":
            await it.load(name)
            await it.join(it.peer(), name)
        with pytest.raises(RoomsFullError, match="and 57 places"):
            await it.load("h")


async def test_the_rooms_of_a_network_are_limited_until_they_are_evicted() -> None:
    """A network at its limit does not keep other networks from new rooms."""
    async with chatting(max_rooms=2 * NETWORK_SHARE) as it:
        members = [await it.join(it.peer(), name) for name in ("a", "b")]
        with pytest.raises(RoomsFullError, match="for this network"):
            await it.join(it.peer(), "c")
        await it.join(it.peer(network=network(1)), "c")
        await it.join(it.peer(), "c")  # it is in memory already, and counts for another network
        it.leave(members[0])
        await trio.sleep(EMPTY_ROOM_SECONDS + 2)
        it.log.failing_reads = 1
        with pytest.raises(LogError, match="disk"):
            await it.load("d")
        await it.join(it.peer(), "d")
        with pytest.raises(RoomsFullError, match="for this network"):
            await it.load("e")
        for room in list(it.hub.rooms.values()):
            for member in list(room.members):
                it.leave(member)
        await trio.sleep(EMPTY_ROOM_SECONDS + 2)
        assert it.hub.rooms == {}
        assert it.hub.registry._of_network == {}
