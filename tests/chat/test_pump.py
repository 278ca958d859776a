"""The pump: everybody in one write, nobody's turn too long, those behind from the log, gaps said aloud."""

import itertools

import pytest
import trio
import trio.testing

from chatserver.chat import pump as pump_module
from chatserver.chat.member import State
from chatserver.chat.ring import Form
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, LogError, Record, Stored
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


def someone_came(it: Chatting, room: Room) -> None:
    """There is presence to be told in a room, and it is due."""
    room.presence.enter(next(it.numbers))
    room.telling = trio.current_time()
    it.hub.pump.queue(room)


def notices(it: Chatting) -> int:
    """How many members were told of presence."""
    return sum(chunk.startswith(b"P ") for chunk in it.outlet.chunks)


class TestWalking:
    async def test_all_that_is_lacked_goes_in_one_write(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peers = [it.peer() for _ in range(5)]
            for peer in peers:
                await it.join(peer, "lobby")
            it.outlet.writes = 0
            it.outlet.chunks.clear()
            await it.publish("lobby", "one", "two", "three")
            assert it.outlet.writes == 5
            assert all(chunk is it.outlet.chunks[0] for chunk in it.outlet.chunks), "the very same bytes for all"

    async def test_forms_do_not_mix(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            frames, events = it.peer(), it.peer()
            await it.join(frames, "lobby")
            await it.join(events, "lobby", form=Form.EVENTS)
            await it.publish("lobby", "hi")
            assert frames.offsets("lobby") == events.offsets("lobby") == [1]
            await trio.sleep(3.0)
            assert frames.presence("lobby")
            assert not events.presence("lobby"), "presence is for frames"

    async def test_a_large_room_lets_others_run(self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pump_module, "SLICE", 10)
        async with chatting() as it:
            peers = [it.peer() for _ in range(100)]
            for peer in peers:
                await it.join(peer, "large")
            lonely = it.peer()
            await it.join(lonely, "small")
            await trio.sleep(5.0)
            it.outlet.writes = 0
            passes: list[int] = []

            async def watch() -> None:
                while it.outlet.writes < 101:
                    passes.append(it.outlet.writes)
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                for name in ("large", "small"):
                    it.hub.publish(Draft(name, "u_1", "Ann", "hi"), lambda result: None)
            steps = [after - before for before, after in itertools.pairwise(passes)]
            assert max(steps) <= 20, "a slice, or two when our turn came between them"
            assert all(peer.offsets("large") == [1] for peer in peers)
            assert lonely.offsets("small") == [1]

    async def test_rooms_take_turns(self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pump_module, "SLICE", 1)
        async with chatting() as it:
            for name in ("a", "b"):
                await it.fill(name, 4)
            await trio.sleep(5.0)
            it.outlet.chunks.clear()
            with it.together():
                for name in ("a", "b"):
                    it.hub.publish(Draft(name, "u_1", "Ann", "x"), lambda result: None)
            await it.settle()
            order = [chunk.split()[1].decode() for chunk in it.outlet.chunks]
            assert sorted(order) == ["a"] * 4 + ["b"] * 4
            assert order in (["a", "b"] * 4, ["b", "a"] * 4)

    async def test_a_large_room_has_a_share_of_a_slice_while_others_wait(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One member of a room of thousands stood between two people and their answers: 256 writes, 2 ms, each way."""
        monkeypatch.setattr(pump_module, "SLICE", 100)
        monkeypatch.setattr(pump_module, "ROOM_SHARE", 5)
        async with chatting() as it:
            await it.fill("large", 50)
            await it.join(it.peer(), "small")
            await trio.sleep(5.0)
            it.outlet.chunks.clear()
            with it.together():
                for name in ("large", "small"):
                    it.hub.publish(Draft(name, "u_1", "Ann", "x"), lambda result: None)
            await it.settle()
            order = [chunk.split()[1].decode() for chunk in it.outlet.chunks]
            assert len(order) == 51
            assert order.index("small") == 5

    async def test_presence_stands_before_nobody_and_is_told_all_the_same(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When 8,000 came back at once, a hundred rooms' notices stood before two people's messages."""
        monkeypatch.setattr(pump_module, "SLICE", 16)
        monkeypatch.setattr(pump_module, "NOTICE_SHARE", 4)
        async with chatting() as it:
            rooms = [(await it.join(it.peer(), f"room-{number}")).room for number in range(30)]
            for room in rooms:
                await it.fill(room.name, 3)
            talkers = [it.peer(), it.peer()]
            for peer in talkers:
                await it.join(peer, "talk")
            await trio.sleep(5.0)
            it.outlet.chunks.clear()
            for room in rooms:
                someone_came(it, room)
            heard_after: list[int] = []
            for number in range(1, 4):
                it.hub.publish(Draft("talk", "u_1", "Ann", "x"), lambda result: None)
                while talkers[1].offsets("talk")[-1:] != [number]:
                    await trio.lowlevel.checkpoint()
                heard_after.append(notices(it))
            assert heard_after[-1] < 60, "each message waited for a few notices, and not for all of them"
            await it.settle()
            assert notices(it) == 30 * 4
            assert all(peer.offsets("talk") == [1, 2, 3] for peer in talkers)

    async def test_a_slice_is_shorter_where_writes_take_long(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """256 writes were 2 ms by themselves, and 5 beside 8,000 who came."""
        async with chatting() as it:
            await it.fill("large", 200)
            await trio.sleep(5.0)
            monkeypatch.setattr(pump_module, "perf_counter", lambda: float(it.outlet.writes))
            it.outlet.writes = 0
            it.hub.publish(Draft("large", "u_1", "Ann", "x"), lambda result: None)
            written = []
            while it.outlet.writes < 200:
                written.append(it.outlet.writes)
                await trio.lowlevel.checkpoint()
            assert max(after - before for before, after in itertools.pairwise(written)) <= 2 * pump_module.ROOM_SHARE

    async def test_presence_has_a_small_share_of_a_pass_even_by_itself(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In whole slices it made passes of 4 ms out of 1, of which each message waits for two."""
        monkeypatch.setattr(pump_module, "NOTICE_SHARE", 4)
        async with chatting() as it:
            for number in range(60):
                await it.join(it.peer(), f"room-{number // 2}")
            await trio.sleep(5.0)
            it.outlet.chunks.clear()
            for number in range(30):
                someone_came(it, it.hub.rooms[f"room-{number}"])
            told = []
            while notices(it) < 60:
                told.append(notices(it))
                await trio.lowlevel.checkpoint()
            assert max(after - before for before, after in itertools.pairwise(told)) <= 4 + 1

    async def test_presence_is_told_while_there_are_always_messages(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump_module, "SLICE", 8)
        monkeypatch.setattr(pump_module, "NOTICE_SHARE", 2)
        async with chatting() as it:
            quiet = (await it.join(it.peer(), "quiet")).room
            await it.fill("loud", 50)
            await trio.sleep(5.0)
            it.outlet.chunks.clear()
            it.hub.publish(Draft("loud", "u_1", "Ann", "x"), lambda result: None)
            loud = it.hub.rooms["loud"]
            while loud.walk is None:
                await trio.lowlevel.checkpoint()
            someone_came(it, quiet)
            while not notices(it):
                await trio.lowlevel.checkpoint()
            assert loud.walk is not None, "it did not wait for the end of it"

    async def test_small_rooms_share_a_pass(self, autojump_clock: Clock) -> None:
        """One room a pass made 500 rooms of two people wait for half a second while the loop was busy with others."""
        async with chatting() as it:
            names = [f"room-{number}" for number in range(50)]
            for name in names:
                await it.join(it.peer(), name)
            await trio.sleep(5.0)
            it.outlet.writes = 0
            passes: list[int] = []

            async def watch() -> None:
                while it.outlet.writes < 50:
                    passes.append(it.outlet.writes)
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                for name in names:
                    it.hub.publish(Draft(name, "u_1", "Ann", "hi"), lambda result: None)
            assert len({written for written in passes if written}) <= 3, passes

    async def test_news_during_a_walk_is_carried_by_the_next(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump_module, "SLICE", 1)
        async with chatting() as it:
            peers = [it.peer() for _ in range(10)]
            for peer in peers:
                await it.join(peer, "lobby")
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(it.publish, "lobby", f"text-{number}")
                    await trio.lowlevel.checkpoint()
            assert all(peer.offsets("lobby") == list(range(1, 21)) for peer in peers)

    async def test_a_peer_that_dies_in_the_walk_costs_nobody_else(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peers = [it.peer() for _ in range(10)]
            for peer in peers:
                await it.join(peer, "lobby")
            for peer in peers[::2]:
                peer.dies_at_next_write = True
            await it.publish("lobby", "hi")
            assert all(peer.offsets("lobby") == [1] for peer in peers[1::2])
            assert it.hub.statistics()["members"] == 5


class TestWaking:
    """Held polls: each is answered once, and comes back with its next request at once."""

    async def test_no_faster_than_they_can_be_attended_to(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump_module, "WAKE_SLICE", 30)
        async with chatting() as it:
            peers = [it.peer() for _ in range(200)]
            for peer in peers:
                await it.poll(peer, "lobby")
            answered: list[int] = []

            async def watch() -> None:
                while not answered or answered[-1] < 200:
                    answered.append(sum(len(peer.answers) for peer in peers))
                    it.outlet.is_crowded = answered[-1] > 50
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), lambda result: None)
            steps = [(before, after - before) for before, after in itertools.pairwise(answered) if after != before]
            at_once = 30 // pump_module.AT_ONCE_SHARE
            assert steps[0][1] <= at_once + 2 * 30, "a slice, or two when our turn came between them"
            crowded = [step for before, step in steps if before > 50 + 2 * 30]
            assert len(crowded) >= 2
            assert max(crowded) <= 2 * pump_module.WAKE_WHEN_CROWDED

    async def test_a_few_are_told_at_once(self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the news itself, and not a pass of the loop later; but only if nobody else is waiting for the pump."""
        monkeypatch.setattr(pump_module, "SLICE", 12)
        async with chatting() as it:
            member, poll = it.peer(), it.peer()
            await it.join(member, "small")
            await it.poll(poll, "small")
            await it.settle()
            told: list[list[int]] = []
            answers: list[Stored | LogError] = []

            def done(result: Stored | LogError) -> None:
                answers.append(result)
                told.append(member.offsets("small"))

            with it.together():
                it.hub.publish(Draft("small", "u_1", "Ann", "one"), done)
                it.hub.publish(Draft("small", "u_2", "Bob", "two"), done)
            while len(answers) < 2:
                await trio.lowlevel.checkpoint()
            assert told == [[], []], "whoever published reads its answer before its message, and everybody else's"
            assert member.offsets("small") == [1, 2]
            assert len(poll.answers) == 1

    async def test_nothing_is_told_at_once_before_what_waits(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            for name in ("large", "small"):
                await it.join(it.peer(), name)
            await it.settle()
            assert it.hub.pump.idle
            for name in ("large", "small"):
                it.hub.news([Record(name, 1, 0, "u_1", "Ann", "hi")])
            assert it.hub._unanswered == 0

    async def test_members_do_not_wait_for_polls(self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pump_module, "WAKE_SLICE", 1)
        async with chatting() as it:
            member = it.peer()
            await it.join(member, "lobby")
            polls = [it.peer() for _ in range(50)]
            for peer in polls:
                await it.poll(peer, "lobby")
            for number in range(3):
                it.hub.publish(Draft("lobby", "u_1", "Ann", f"text-{number}"), lambda result: None)
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            assert member.offsets("lobby") == [1, 2, 3]
            assert not all(peer.answers for peer in polls), "most are held yet"
            await it.settle()
            assert all(len(peer.answers) == 1 for peer in polls)

    async def test_whoever_comes_back_meanwhile_is_answered_again(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump_module, "WAKE_SLICE", 1)
        async with chatting() as it:
            early, *late = polls = [it.peer() for _ in range(10)]
            for peer in polls:
                await it.poll(peer, "lobby")
            it.hub.publish(Draft("lobby", "u_1", "Ann", "one"), lambda result: None)
            while not early.answers:
                await trio.lowlevel.checkpoint()
            it.hold_now(early, ["lobby"])
            it.hub.publish(Draft("lobby", "u_1", "Ann", "two"), lambda result: None)
            assert not all(peer.answers for peer in late)
            await it.settle()
            assert len(early.answers) == 2
            assert all(len(peer.answers) == 1 for peer in late)

    async def test_a_herd_is_known_as_one(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            for name, many in (("small", pump_module.HERD), ("large", pump_module.HERD + 1)):
                for _ in range(many):
                    await it.poll(it.peer(), name)
            await it.publish("small", "hi")
            assert it.outlet.herds == [False] * pump_module.HERD
            it.outlet.herds.clear()
            await it.publish("large", "hi")
            assert it.outlet.herds == [True] * (pump_module.HERD + 1)

    async def test_rooms_take_turns(self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pump_module, "WAKE_SLICE", 10)
        async with chatting() as it:
            crowd, lonely = [it.peer() for _ in range(50)], it.peer()
            for peer in crowd:
                await it.poll(peer, "large")
            await it.poll(lonely, "small")
            it.hub.news([Record(name, 1, 0, "u_1", "Ann", "x") for name in ("large", "small")])
            while not lonely.answers:
                await trio.lowlevel.checkpoint()
            assert sum(len(peer.answers) for peer in crowd) <= 2 * 10


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
