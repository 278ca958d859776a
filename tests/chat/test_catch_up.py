"""Members behind the ring: fed from the log, in order, fairly, with shared pages; and gaps said aloud."""

import pytest
import trio
import trio.testing

from chatserver.chat import broadcast as broadcast_module
from chatserver.chat.member import Member, Source
from chatserver.log.interface import MAX_READ_BYTES, Record
from tests.support.chatting import Chatting, chatting
from tests.support.scripted import ENDLESS, Peer

Clock = trio.testing.MockClock


async def behind(it: Chatting, *, messages: int) -> Peer:
    """A peer that took nothing while a room went on."""
    slow = it.peer()
    await it.join(slow, "lobby")
    slow.space = 0
    for number in range(messages):
        await it.publish("lobby", f"text-{number}")
    return slow


async def test_a_partly_taken_chunk_goes_on_where_it_stopped(autojump_clock: Clock) -> None:
    async with chatting() as it:
        peer = it.peer()
        await it.join(peer, "lobby")
        for space in range(1, 60):
            peer.space = space
            await it.publish("lobby", "one", "two", "three")
            it.sink.take(peer, ENDLESS)
        assert peer.offsets("lobby") == list(range(1, 59 * 3 + 1))
        assert peer.gaps("lobby") == []


async def test_who_is_behind_costs_no_chunk(autojump_clock: Clock) -> None:
    """Many slow readers, each at a place of its own: joining a chunk for each would fill memory for nothing."""
    async with chatting() as it:
        slow = await behind(it, messages=1)
        before = it.sink.writes
        await it.publish("lobby", *["hi"] * 10)
        assert it.sink.writes == before
        it.sink.take(slow, ENDLESS)
        assert slow.offsets("lobby") == list(range(1, 12))


async def test_behind_the_ring_it_is_fed_from_the_log(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=300)
        assert it.log.reads <= 2, "nobody reads the log for a peer that takes nothing"
        it.sink.take(slow, ENDLESS)
        await it.until_idle()
        assert slow.offsets("lobby") == list(range(1, 301))
        assert slow.gaps("lobby") == []


async def test_a_trickle_from_the_log_is_in_order_too(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=150)
        for _ in range(1000):
            it.sink.take(slow, 7)
            await it.until_idle()
        assert slow.reached("lobby") == 150
        assert slow.gaps("lobby") == []


async def test_thousands_behind_is_a_gap_and_then_what_is_new(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_module, "MAX_BEHIND", 50)
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=80)
        it.sink.take(slow, ENDLESS)
        await it.until_idle()
        (gap,) = slow.gaps("lobby")
        assert gap[1] == 75, "up to what the ring holds"
        assert slow.reached("lobby") == 80
        assert it.hub.broadcaster.gaps == 1


async def test_what_retention_took_is_a_gap(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=30)
        it.hub.retained(await it.log.retain(max_messages=5, max_age_ms=0, now_ms=0))
        before = it.log.reads
        it.sink.take(slow, ENDLESS)
        await it.until_idle()
        (gap,) = slow.gaps("lobby")
        assert gap[1] == 25
        assert slow.reached("lobby") == 30
        assert it.log.reads == before, "it is known that nothing would be found"


@pytest.mark.parametrize("kept", [1, 3, 10])
async def test_retention_between_two_reads_is_a_gap(autojump_clock: Clock, kept: int) -> None:
    """The log has forgotten, and nobody has told us yet."""
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=30)
        await it.log.retain(max_messages=kept, max_age_ms=0, now_ms=0)
        it.sink.take(slow, ENDLESS)
        await it.until_idle()
        assert len(slow.gaps("lobby")) == 1
        assert slow.reached("lobby") == 30


async def test_whom_the_gap_finds_dead_costs_only_itself(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=30)
        await it.log.retain(max_messages=10, max_age_ms=0, now_ms=0)
        await trio.sleep(3.0)  # presence was told: the gap is the next that is written
        it.log.delay = 0.1
        it.sink.take(slow, ENDLESS)
        slow.dies_at_next_write = True
        await trio.sleep(10.0)
        assert slow.gone
        fine = it.peer()
        await it.join(fine, "lobby", back=25)
        await trio.sleep(10.0)
        assert fine.reached("lobby") == 30, "the readers live"


async def test_a_failing_log_is_tried_again(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=30)
        it.log.failing_reads = 5
        it.sink.take(slow, ENDLESS)
        await trio.sleep(20.0)
        assert slow.offsets("lobby") == list(range(1, 31))


async def test_a_room_that_runs_ahead_of_a_failing_log_leaves_a_gap(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members waited for the log as long as that failed, and heard nothing of what was new."""
    monkeypatch.setattr(broadcast_module, "MAX_BEHIND", 50)
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=30)
        it.log.failing_reads = 1 << 30
        it.sink.take(slow, ENDLESS)
        await trio.sleep(10.0)
        assert slow.gaps("lobby") == [], "it may still get everything"
        last = it.hub.rooms["lobby"].last
        await it.publish("lobby", *map(str, range(60)))
        await trio.sleep(10.0)
        ((_, until),) = slow.gaps("lobby")
        assert until == last + 60 - 5
        assert slow.reached("lobby") == last + 60


async def test_who_leaves_while_the_log_is_read(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=30)
        it.log.delay = 1.0
        it.sink.take(slow, ENDLESS)
        await trio.sleep(0.5)
        (member,) = slow.members
        assert member.source is Source.LOG
        it.leave(member)
        before = len(slow.wire)
        await trio.sleep(10.0)
        assert len(slow.wire) == before
        assert not it.hub.catch_up.places


async def test_all_readers_work(autojump_clock: Clock) -> None:
    """Each of them must hear of members that fall behind after it has once run out of work."""
    async with chatting(ring_messages=5) as it:
        for _ in range(3):
            slow = [await behind(it, messages=10) for _ in range(2)]
            it.log.delay = 1.0
            begun = trio.current_time()
            for peer in slow:
                it.sink.take(peer, ENDLESS)
            while not all(peer.reached("lobby") == it.hub.rooms["lobby"].last for peer in slow):  # noqa: ASYNC110
                await trio.sleep(0.1)
            it.log.delay = 0.0
            assert trio.current_time() - begun < 3.0, "side by side: one read takes 2 s"
            for peer in slow:
                it.sink.die(peer)


async def test_the_log_may_be_ahead_of_the_news(autojump_clock: Clock) -> None:
    """A reader saw a record before its news came: it is not told twice."""
    async with chatting(ring_messages=5) as it:
        slow = await behind(it, messages=10)
        real, it.hub.news = it.hub.news, lambda records: None  # type: ignore[method-assign]
        await it.publish("lobby", "ahead")
        it.hub.news = real  # type: ignore[method-assign]
        it.sink.take(slow, ENDLESS)
        await it.until_idle()
        assert slow.reached("lobby") == 11
        it.hub.news(await it.log.latest("lobby", 1))
        await it.publish("lobby", "next")
        assert slow.offsets("lobby") == list(range(1, 13))


# -- shared, and fair -------------------------------------------------------------------------------------------------


async def crowd_behind(it: Chatting, count: int, *, messages: int, network: str = "192.0.2.7") -> list[Peer]:
    """So many at one place, that took nothing while the room went on."""
    slow = [it.peer(network=network) for _ in range(count)]
    for peer in slow:
        await it.join(peer, "lobby")
        peer.space = 0
    await trio.sleep(3.0)
    for number in range(messages):
        await it.publish("lobby", f"text-{number}")
    return slow


async def test_members_at_one_place_share_each_page(autojump_clock: Clock) -> None:
    """400 readers of one room, behind by the same: 400 reads of the log each page, and now one."""
    async with chatting(ring_messages=5) as it:
        slow = await crowd_behind(it, 400, messages=90)
        it.log.delay = 0.1
        before = it.log.reads
        for peer in slow:
            it.sink.take(peer, ENDLESS)
        await trio.sleep(5.0)
        assert [peer.offsets("lobby") for peer in slow] == [list(range(1, 91))] * 400
        assert it.log.reads - before == it.hub.catch_up.pages == 1


async def test_who_comes_to_a_place_while_its_page_is_read_gets_it_too(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await crowd_behind(it, 20, messages=50)
        it.log.delay = 1.0
        for peer in slow:
            it.sink.take(peer, ENDLESS)
            await trio.sleep(0.02)
        await trio.sleep(5.0)
        assert [peer.reached("lobby") for peer in slow] == [50] * 20
        assert it.hub.catch_up.pages == 1


async def test_a_page_is_encoded_once_for_each_encoding(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        slow = await crowd_behind(it, 10, messages=50)
        events = it.peer()
        await it.join(events, "lobby", encoding=it.encoder.events, back=50)
        await it.until_idle()
        assert events.reached("lobby") == 50
        before = it.encoder.frames.pushed
        it.log.delay = 0.1
        for peer in slow:
            it.sink.take(peer, ENDLESS)
        await trio.sleep(5.0)
        assert all(peer.reached("lobby") == 50 for peer in slow)
        assert it.encoder.frames.pushed - before <= 50 + 5, "and what the ring holds"


async def test_networks_take_turns(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of one network, each at a place of its own, and somebody who comes last from another."""
    monkeypatch.setattr("chatserver.chat.hub.READERS", 1)
    async with chatting(ring_messages=5) as it:
        await it.publish("lobby", *["hi"] * 60)
        it.log.delay = 1.0
        crowd, person = [it.peer(network="192.0.2.7") for _ in range(40)], it.peer(network="198.51.100.9")
        async with it.hub.using("lobby", "192.0.2.7") as room:
            for index, peer in enumerate([*crowd, person]):
                member = it.hub.attach(
                    room, peer, encoding=it.encoder.frames, principal=peer.principal, cursor=10 + index
                )
                peer.members.append(member)
                it.sink.send(peer, b"J lobby %d\n" % member.cursor)
                it.hub.deliver(member)
            while person.reached("lobby") < room.last:  # noqa: ASYNC110
                await trio.sleep(0.1)
            served = sum(peer.reached("lobby") == room.last for peer in crowd)
            assert served <= 2, "one of the crowd was being read for, and one had the turn"
            await trio.sleep(200.0)
            assert all(peer.reached("lobby") == room.last for peer in crowd)


async def test_a_fault_with_one_member_costs_only_that_one(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting(ring_messages=5, faults=1) as it:
        slow = await crowd_behind(it, 5, messages=50)
        give = it.hub.broadcaster.give

        def fail(member: Member, pieces: list[bytes]) -> None:
            if member.connection is slow[1]:
                raise RuntimeError("a bug")
            give(member, pieces)

        monkeypatch.setattr(it.hub.broadcaster, "give", fail)
        it.log.delay = 0.1
        for peer in slow:
            it.sink.take(peer, ENDLESS)
        await trio.sleep(5.0)
        assert [peer.gone for peer in slow] == [False, True, False, False, False]
        assert all(peer.reached("lobby") == 50 for peer in slow if not peer.gone)


async def test_a_fault_in_reading_costs_those_at_the_place(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Not a log that says it cannot, but a bug: the readers live, and so do members at other places."""
    async with chatting(ring_messages=5, faults=2) as it:
        others = await crowd_behind(it, 1, messages=10)
        slow = await crowd_behind(it, 2, messages=50)
        read = it.log.read

        async def fail(room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
            if after == 10:
                raise RuntimeError("a bug")
            return await read(room, after=after, limit=limit, max_bytes=max_bytes)

        monkeypatch.setattr(it.log, "read", fail)
        for peer in (*slow, *others):
            it.sink.take(peer, ENDLESS)
        await trio.sleep(10.0)
        assert [peer.gone for peer in slow] == [True, True]
        assert others[0].reached("lobby") == 60


async def test_all_of_a_place_leave_before_it_is_read(autojump_clock: Clock) -> None:
    async with chatting(ring_messages=5) as it:
        others = await crowd_behind(it, 3, messages=50)
        slow = await crowd_behind(it, 3, messages=50)
        it.log.delay = 1.0
        for peer in (*others, *slow):
            it.sink.take(peer, ENDLESS)
        assert len(it.hub.catch_up.places) == 2
        for peer in slow:
            it.sink.die(peer)
        await trio.sleep(20.0)
        assert [peer.reached("lobby") for peer in others] == [100] * 3
        assert not it.hub.catch_up.places
        assert not it.hub.catch_up._waiting
