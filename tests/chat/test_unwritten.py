"""Rooms in which nothing was ever said: they cost their people, and are rooms like others from the first message on."""

import gc
import tracemalloc

import trio
import trio.testing

from chatserver.chat.registry import EMPTY_STAYS
from tests.support.chatting import Chatting, SmallSettings, chatting
from tests.support.scripted import HERE

Clock = trio.testing.MockClock
#: Bytes of an unwritten room with one person in it, all told: three times what a ring adds to it.
ROOM_BYTES = 2_500


async def test_no_ring_before_the_first_message(autojump_clock: Clock) -> None:
    async with chatting() as it:
        ann, bob = it.peer(), it.peer()
        for peer in (ann, bob):
            await it.join(peer, "den")
        room = it.hub.rooms["den"]
        await trio.sleep(3.0)
        assert ann.presence("den")[-1] == (f"{ann.number},{bob.number}", "-", 2)
        assert (room.ring, room.last, it.hub.statistics()["kept"]) == (None, 0, 0)
        await it.publish("den", "hi", "ho")
        assert room.ring is not None
        assert ann.offsets("den") == bob.offsets("den") == [1, 2]


async def test_a_poll_waits_for_the_first_message(autojump_clock: Clock) -> None:
    async with chatting() as it:
        poll = it.peer()
        await it.poll(poll, "den")
        assert it.hub.rooms["den"].ring is None
        await it.publish("den", "hi")
        assert poll.answers == [[("den", 0)]]


async def test_news_from_elsewhere_makes_the_ring(autojump_clock: Clock) -> None:
    """The hub fans out on the log's news, whoever published."""
    async with chatting() as it:
        ann = it.peer()
        await it.join(ann, "den")
        other = Chatting(SmallSettings())
        async with trio.open_nursery() as nursery:
            await nursery.start(other.run)
            other.hub.news = it.news  # type: ignore[method-assign]
            await other.publish("den", "hi")
            nursery.cancel_scope.cancel()
        await it.until_idle()
        assert ann.offsets("den") == [1]


async def test_they_are_listed_while_somebody_is_there(autojump_clock: Clock) -> None:
    async with chatting() as it:
        await it.publish("lobby", "hi")
        member = await it.join(it.peer(), "den")
        await it.join(it.peer(), "lobby")
        await it.poll(it.peer(), "ops")
        await it.load("nobody")
        registry = it.hub.registry
        assert [room.name for room in registry.unwritten()] == ["den", "ops"]
        await it.publish("ops", "hi")
        assert [room.name for room in registry.unwritten()] == ["den"]
        it.leave(member)
        assert list(registry.unwritten()) == []
        assert len(registry._unwritten) == 2
        await trio.sleep(EMPTY_STAYS + 2)
        assert registry._unwritten == {}


async def test_who_leaves_it_leaves_nothing(autojump_clock: Clock) -> None:
    async with chatting() as it:
        member = await it.join(it.peer(), "den")
        it.leave(member)
        it.hub.leave(member)  # harmless
        await trio.sleep(EMPTY_STAYS + 3)
        assert it.hub.rooms == {}
        assert it.hub.statistics() == {"rooms": 0, "members": 0, "waiters": 0, "published": 0, "kept": 0}


async def test_a_room_with_a_past_has_its_ring_from_the_start(autojump_clock: Clock) -> None:
    async with chatting() as it:
        await it.publish("den", "hi")
        member = await it.join(it.peer(), "den")
        assert member.room.ring is not None
        assert member.room.last == 1


async def test_two_who_come_at_once_meet(autojump_clock: Clock) -> None:
    async with chatting() as it:
        it.log.delay = 1.0
        peers = [it.peer(), it.peer()]
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(it.join, peer, "den")
        await it.publish("den", "hi")
        assert [peer.offsets("den") for peer in peers] == [[1], [1]]


async def test_what_one_costs(autojump_clock: Clock) -> None:
    """Names are free, and a hundred made up for each connection are what it costs then."""
    async with chatting(max_rooms=100_000) as it:
        await it.join(it.peer(), "warm")
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(500):
                async with it.hub.using(f"den-{number}", HERE) as room:
                    peer = it.peer()
                    it.hub.attach(room, peer, encoding=it.encoder.frames, principal=peer.principal, cursor=0)
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size / 500 < ROOM_BYTES, size / 500
