"""Rooms that one member has joined and nobody has written in."""

import trio
import trio.testing

from chatserver.chat.member import Member, State
from tests.support.chatting import Chatting, Peer, chatting

Clock = trio.testing.MockClock


async def come(it: Chatting, peer: Peer, name: str) -> Member:
    """Join as the server has people join."""
    async with it.hub.using(name) as room:
        member = await it.join(peer, name)
    it.hub.settle(room)
    return member


async def test_who_is_alone_has_no_room(autojump_clock: Clock) -> None:
    async with chatting() as it:
        member = await come(it, it.peer(), "den")
        assert member.state is State.ALONE
        assert member.room_name == "den"
        assert it.hub.rooms == {}
        assert it.hub.registry.count == it.hub.registry.unwritten == 1
        assert list(it.hub.registry.names()) == ["den"]
        assert it.hub.statistics()["members"] == 1


async def test_it_hears_of_its_own_arrival(autojump_clock: Clock) -> None:
    async with chatting() as it:
        ann = it.peer()
        await come(it, ann, "den")
        await trio.sleep(3.0)
        assert ann.presence("den") == [(str(ann.number), "-", 1)]


async def test_nothing_is_sent_to_who_takes_nothing(autojump_clock: Clock) -> None:
    async with chatting() as it:
        ann = it.peer(space=3)  # less than the answer to its join
        await come(it, ann, "den")
        await trio.sleep(3.0)
        it.outlet.take(ann, 1000)
        assert ann.presence("den") == []


async def test_the_second_one_opens_it(autojump_clock: Clock) -> None:
    async with chatting() as it:
        ann, bob = it.peer(), it.peer()
        first = await come(it, ann, "den")
        await trio.sleep(3.0)
        second = await come(it, bob, "den")
        assert first.room is second.room is it.hub.room("den")
        assert (first.state, second.state) == (State.LIVE, State.LIVE)
        assert it.hub.registry.count == it.hub.registry.unwritten == 1
        await trio.sleep(3.0)
        assert ann.presence("den")[1:] == bob.presence("den") == [(str(bob.number), "-", 2)]
        await it.publish("den", "hi")
        assert ann.offsets("den") == bob.offsets("den") == [1]
        assert it.hub.registry.unwritten == 0


async def test_a_message_opens_it(autojump_clock: Clock) -> None:
    async with chatting() as it:
        ann = it.peer()
        member = await come(it, ann, "den")
        await it.publish("den", "hi", "ho")
        assert ann.offsets("den") == [1, 2]
        assert member.state is State.LIVE
        assert (it.hub.registry.count, it.hub.registry.unwritten) == (1, 0)


async def test_news_from_elsewhere_opens_it(autojump_clock: Clock) -> None:
    """The hub fans out on the log's news, whoever published."""
    async with chatting() as it:
        ann = it.peer()
        await come(it, ann, "den")
        other = Chatting(ring_messages=8, ring_bytes=1 << 20, all_rings_bytes=1 << 20, max_rooms=10)
        async with trio.open_nursery() as nursery:
            await nursery.start(other.run)
            other.hub.news = it.news  # type: ignore[method-assign]
            await other.publish("den", "hi")
            nursery.cancel_scope.cancel()
        await it.settle()
        assert ann.offsets("den") == [1]


async def test_a_poll_opens_it_and_is_answered(autojump_clock: Clock) -> None:
    async with chatting() as it:
        ann, bob = it.peer(), it.peer()
        await come(it, ann, "den")
        await it.poll(bob, "den")
        await it.publish("den", "hi")
        assert len(bob.answers) == 1
        assert ann.offsets("den") == [1]


async def test_who_leaves_it_leaves_nothing(autojump_clock: Clock) -> None:
    async with chatting() as it:
        member = await come(it, it.peer(), "den")
        it.leave(member)
        assert it.hub.registry.count == it.hub.registry.unwritten == 0
        assert it.hub.statistics()["members"] == 0
        it.hub.leave(member)  # harmless
        await trio.sleep(3.0)
        assert not it.hub._arrived


async def test_a_room_with_a_past_stays_open(autojump_clock: Clock) -> None:
    async with chatting() as it:
        await it.publish("den", "hi")
        member = await come(it, it.peer(), "den")
        assert member.state is State.LIVE
        assert it.hub.room("den") is member.room


async def test_a_room_that_somebody_polls_stays_open(autojump_clock: Clock) -> None:
    async with chatting() as it:
        hold = await it.poll(it.peer(), "den")
        member = await come(it, it.peer(), "den")
        assert member.state is State.LIVE
        it.hub.release(hold)


async def test_a_room_that_is_about_to_be_used_stays_open(autojump_clock: Clock) -> None:
    async with chatting() as it, it.hub.using("den") as room:
        member = await come(it, it.peer(), "den")
        assert member.room is room
        assert member.state is State.LIVE


async def test_two_who_come_at_once_meet(autojump_clock: Clock) -> None:
    async with chatting() as it:
        it.log.delay = 1.0
        found: list[Member] = []

        async def enter() -> None:
            found.append(await come(it, it.peer(), "den"))

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(enter)
        assert found[0].room is found[1].room is it.hub.room("den")


async def test_unopened_rooms_count_as_rooms(autojump_clock: Clock) -> None:
    async with chatting(max_rooms=3) as it:
        for number in range(3):
            await come(it, it.peer(), f"den-{number}")
        assert it.hub.registry.count == 3
        await it.publish("den-0", "hi")  # one that there is already may open
        assert it.hub.registry.count == 3
