"""The pump and members behind the ring: from the log, in order, and gaps said aloud."""

import pytest
import trio
import trio.testing

from chatserver.chat import pump as pump_module
from chatserver.chat.member import State
from tests.support.chatting import ENDLESS, Chatting, Peer, chatting

Clock = trio.testing.MockClock


async def behind(it: Chatting, *, messages: int) -> Peer:
    """A peer that took nothing while a room went on."""
    slow = it.peer()
    await it.join(slow, "lobby")
    slow.space = 0
    for number in range(messages):
        await it.publish("lobby", f"text-{number}")
    return slow


class TestBehind:
    async def test_a_partly_taken_chunk_goes_on_where_it_stopped(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peer = it.peer()
            await it.join(peer, "lobby")
            for space in range(1, 60):
                peer.space = space
                await it.publish("lobby", "one", "two", "three")
                it.outlet.take(peer, ENDLESS)
            assert peer.offsets("lobby") == list(range(1, 59 * 3 + 1))
            assert peer.gaps("lobby") == []

    async def test_who_is_behind_costs_no_chunk(self, autojump_clock: Clock) -> None:
        """Many slow readers, each at a place of its own: joining a chunk for each would fill memory for nothing."""
        async with chatting() as it:
            slow = await behind(it, messages=1)
            before = it.outlet.writes
            await it.publish("lobby", *["hi"] * 10)
            assert it.outlet.writes == before
            it.outlet.take(slow, ENDLESS)
            assert slow.offsets("lobby") == list(range(1, 12))

    async def test_behind_the_ring_it_is_fed_from_the_log(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=300)
            assert it.log.reads <= 2, "nobody reads the log for a peer that takes nothing"
            it.outlet.take(slow, ENDLESS)
            await it.settle()
            assert slow.offsets("lobby") == list(range(1, 301))
            assert slow.gaps("lobby") == []

    async def test_a_trickle_from_the_log_is_in_order_too(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=150)
            for _ in range(1000):
                it.outlet.take(slow, 7)
                await it.settle()
            assert slow.reached("lobby") == 150
            assert slow.gaps("lobby") == []

    async def test_thousands_behind_is_a_gap_and_then_what_is_new(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump_module, "MAX_BEHIND", 50)
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=80)
            it.outlet.take(slow, ENDLESS)
            await it.settle()
            (gap,) = slow.gaps("lobby")
            assert gap[1] == 75, "up to what the ring holds"
            assert slow.reached("lobby") == 80
            assert it.hub.pump.statistics()["gaps"] == 1

    async def test_what_retention_took_is_a_gap(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=30)
            it.hub.retained(await it.log.retain(max_messages=5, max_age_ms=0, now_ms=0))
            before = it.log.reads
            it.outlet.take(slow, ENDLESS)
            await it.settle()
            (gap,) = slow.gaps("lobby")
            assert gap[1] == 25
            assert slow.reached("lobby") == 30
            assert it.log.reads == before, "it is known that nothing would be found"

    @pytest.mark.parametrize("kept", [1, 3, 10])
    async def test_retention_between_two_reads_is_a_gap(self, autojump_clock: Clock, kept: int) -> None:
        """The log has forgotten, and nobody has told us yet."""
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=30)
            await it.log.retain(max_messages=kept, max_age_ms=0, now_ms=0)
            it.outlet.take(slow, ENDLESS)
            await it.settle()
            assert len(slow.gaps("lobby")) == 1
            assert slow.reached("lobby") == 30

    async def test_whom_the_gap_finds_dead_costs_only_itself(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=30)
            await it.log.retain(max_messages=10, max_age_ms=0, now_ms=0)
            await trio.sleep(3.0)  # presence was told: the gap is the next that is written
            it.log.delay = 0.1
            it.outlet.take(slow, ENDLESS)
            slow.dies_at_next_write = True
            await trio.sleep(10.0)
            assert slow.gone
            fine = it.peer()
            await it.join(fine, "lobby", back=25)
            await trio.sleep(10.0)
            assert fine.reached("lobby") == 30, "the readers live"

    async def test_a_failing_log_is_tried_again(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=30)
            it.log.failing_reads = 5
            it.outlet.take(slow, ENDLESS)
            await trio.sleep(20.0)
            assert slow.offsets("lobby") == list(range(1, 31))

    async def test_a_room_that_runs_ahead_of_a_failing_log_leaves_a_gap(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its members waited for the log as long as that failed, and heard nothing of what was new."""
        monkeypatch.setattr(pump_module, "MAX_BEHIND", 50)
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=30)
            it.log.failing_reads = 1 << 30
            it.outlet.take(slow, ENDLESS)
            await trio.sleep(10.0)
            assert slow.gaps("lobby") == [], "it may still get everything"
            last = it.hub.rooms["lobby"].last
            await it.publish("lobby", *map(str, range(60)))
            await trio.sleep(10.0)
            ((_, until),) = slow.gaps("lobby")
            assert until == last + 60 - 5
            assert slow.reached("lobby") == last + 60

    async def test_who_leaves_while_the_log_is_read(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=30)
            it.log.delay = 1.0
            it.outlet.take(slow, ENDLESS)
            await trio.sleep(0.5)
            (member,) = slow.members
            assert member.state is State.CATCHING_UP
            it.leave(member)
            before = len(slow.wire)
            await trio.sleep(10.0)
            assert len(slow.wire) == before
            assert it.hub.pump.statistics()["behind"] == 0

    async def test_all_readers_work(self, autojump_clock: Clock) -> None:
        """Each of them must hear of members that fall behind after it has once run out of work."""
        async with chatting(ring_messages=5) as it:
            for _ in range(3):
                slow = [await behind(it, messages=10) for _ in range(2)]
                it.log.delay = 1.0
                begun = trio.current_time()
                for peer in slow:
                    it.outlet.take(peer, ENDLESS)
                while not all(peer.reached("lobby") == it.hub.rooms["lobby"].last for peer in slow):  # noqa: ASYNC110
                    await trio.sleep(0.1)
                it.log.delay = 0.0
                assert trio.current_time() - begun < 3.0, "side by side: one read takes 2 s"
                for peer in slow:
                    it.outlet.die(peer)

    async def test_the_log_may_be_ahead_of_the_news(self, autojump_clock: Clock) -> None:
        """A reader saw a record before its news came: it is not told twice."""
        async with chatting(ring_messages=5) as it:
            slow = await behind(it, messages=10)
            real, it.hub.news = it.hub.news, lambda records: None  # type: ignore[method-assign]
            await it.publish("lobby", "ahead")
            it.hub.news = real  # type: ignore[method-assign]
            it.outlet.take(slow, ENDLESS)
            await it.settle()
            assert slow.reached("lobby") == 11
            it.hub.news(await it.log.latest("lobby", 1))
            await it.publish("lobby", "next")
            assert slow.offsets("lobby") == list(range(1, 13))
