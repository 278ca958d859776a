"""The hub: presence that is told in batches, and publishers that are paused."""

import pytest
import trio
import trio.testing

from chatserver.chat import pump as pump_module
from chatserver.chat.presence import NAMED_ROOM
from chatserver.chat.ring import Form
from chatserver.log.interface import Draft, LogError, Stored
from tests.support.chatting import Chatting, Peer, chatting

Clock = trio.testing.MockClock


class TestPresence:
    async def test_arrivals_and_departures_are_told_together(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            watcher = it.peer()
            await it.join(watcher, "lobby")
            await trio.sleep(3.0)
            members = [await it.join(it.peer(), "lobby") for _ in range(3)]
            await trio.sleep(3.0)
            assert watcher.presence("lobby")[1:] == [("2,3,4", "-", 4)]
            it.leave(members[0])
            it.leave(members[2])
            await trio.sleep(3.0)
            assert watcher.presence("lobby")[2:] == [("-", "2,4", 2)]

    async def test_who_drops_and_returns_at_once_is_not_told(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            watcher, other = it.peer(), it.peer()
            await it.join(watcher, "lobby")
            member = await it.join(other, "lobby")
            await trio.sleep(3.0)
            before = len(watcher.presence("lobby"))
            it.leave(member)
            await it.join(other, "lobby")
            await trio.sleep(3.0)
            assert len(watcher.presence("lobby")) == before

    async def test_a_large_room_hears_counts_and_seldom(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            watcher = it.peer()
            await it.join(watcher, "lobby")
            await it.fill("lobby", NAMED_ROOM * 20)
            await trio.sleep(5.0)
            before = len(watcher.presence("lobby"))
            for _ in range(10):
                await it.fill("lobby", 1)
                await trio.sleep(1.0)
            told = watcher.presence("lobby")[before:]
            assert 1 <= len(told) <= 4, "every 4 s in a room of 2,000"
            assert all(joined == left == "-" for joined, left, _ in told)

    async def test_who_is_behind_gets_the_count_when_it_has_room_again(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            slow = it.peer()
            await it.join(slow, "lobby")
            await trio.sleep(3.0)
            slow.space = 0
            for _ in range(5):
                await it.fill("lobby", 1)
                await trio.sleep(2.0)
            before = len(slow.presence("lobby"))
            it.outlet.take(slow, 10_000)
            await it.settle()
            assert slow.presence("lobby")[before:] == [("-", "-", 6)], "once, however often it was missed"

    async def test_one_who_joins_and_leaves_without_end_costs_a_bounded_number_of_frames(
        self, autojump_clock: Clock
    ) -> None:
        """1,000 members hear of one churner, and 4,000 changes, as often as of one change: every 2 s."""
        async with chatting() as it:
            members = [it.peer() for _ in range(1000)]
            for member in members:
                await it.join(member, "lobby")
            await trio.sleep(10.0)
            before, churner = it.outlet.writes, it.peer()
            for _ in range(20):
                for _ in range(100):
                    it.leave(await it.join(churner, "lobby"))
                await trio.sleep(1.0)
            told = it.outlet.writes - before - 2000  # its own answers
            assert 1000 <= told <= 11 * 1000
            assert {len(member.presence("lobby")) for member in members[1:]} <= set(range(22))

    async def test_presence_over_all_rooms_is_bounded_and_rooms_take_turns(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatserver.chat.hub.TOLD_A_ROUND", 20)
        async with chatting() as it:
            watchers = {f"room-{number}": it.peer() for number in range(30)}
            for name, watcher in watchers.items():
                for peer in (watcher, *(it.peer() for _ in range(9))):
                    await it.join(peer, name)
            await trio.sleep(0.5)
            for second in range(1, 16):
                await trio.sleep(1.0)
                told = sum(bool(watcher.presence(name)) for name, watcher in watchers.items())
                assert told == 2 * second, "ten in each room, so two rooms a round"
            assert all(watcher.presence(name)[-1][2] == 10 for name, watcher in watchers.items())

    async def test_so_many_rooms_are_looked_at_in_a_round_and_none_is_forgotten(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """20,000 rooms in which somebody came held the loop for 54 ms, and as many that all had left for 170."""
        monkeypatch.setattr("chatserver.chat.hub.CHANGED_A_ROUND", 3)
        async with chatting() as it:
            watchers = {f"room-{number}": it.peer() for number in range(10)}
            for name, watcher in watchers.items():
                await it.join(watcher, name)
            # Those that may not be told yet must not stand in the way of the others, round after round.
            for number in range(3):
                it.hub.rooms[f"room-{number}"].presence.tell_after = trio.current_time() + 100.0
            await trio.sleep(0.5)
            told = []
            for _ in range(5):
                await trio.sleep(1.0)
                told.append([name for name, watcher in watchers.items() if watcher.presence(name)])
            assert [len(names) for names in told] == [0, 3, 6, 7, 7]
            await trio.sleep(100.0)
            assert all(watcher.presence(name)[-1][2] == 1 for name, watcher in watchers.items())

    async def test_rooms_that_all_have_left_cost_no_notice(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            member = await it.join(it.peer(), "lobby")
            await trio.sleep(3.0)
            it.leave(member)
            it.hub.tick()
            room = it.hub.rooms["lobby"]
            assert (room.telling, room.presence.changed, room.queued) == (None, False, 0)

    async def test_what_falls_due_before_the_pump_took_the_last_is_told_with_it(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            watcher = it.peer()
            await it.join(watcher, "lobby")
            await trio.sleep(3.0)
            room = it.hub.rooms["lobby"]
            it.hub.attach(room, it.peer(), form=Form.FRAMES, user=50, cursor=0)
            it.hub.tick()
            it.hub.attach(room, it.peer(), form=Form.FRAMES, user=51, cursor=0)
            room.presence.tell_after = 0.0
            it.hub.tick()  # the pump had no turn in between
            await trio.sleep(3.0)
            names = ",".join(joined for joined, _, _ in watcher.presence("lobby")[1:])
            assert names == "50,51"


class TestPublishing:
    async def publish_behind(self, it: Chatting, publisher: Peer, count: int) -> list[Stored | LogError]:
        answers: list[Stored | LogError] = []
        with it.together():
            for _ in range(count):
                room = it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), answers.append)
                assert room is not None
                if room.congested and publisher not in room.paused:
                    room.paused.append(publisher)
        return answers

    async def test_whoever_is_ahead_by_half_a_ring_is_paused_and_resumed(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=10) as it:
            listener, publisher = it.peer(), it.peer()
            await it.join(listener, "lobby")
            await self.publish_behind(it, publisher, 5)
            assert it.hub.rooms["lobby"].paused == []
            await self.publish_behind(it, publisher, 1)
            assert it.hub.rooms["lobby"].paused == [publisher]
            await it.settle()
            assert publisher.resumed == 1
            assert listener.offsets("lobby") == list(range(1, 7))
            assert listener.gaps("lobby") == []

    async def test_bytes_count_as_well(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=1000, ring_bytes=1000) as it:
            await it.join(it.peer(), "lobby")
            answers: list[Stored | LogError] = []
            room = it.hub.publish(Draft("lobby", "u_1", "Ann", "x" * 501), answers.append)
            assert room is not None
            assert room.congested
            await it.settle()
            assert not it.hub.rooms["lobby"].congested

    async def test_a_room_without_members_pauses_nobody(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=10) as it:
            await it.hub.load(["lobby"])
            await self.publish_behind(it, it.peer(), 50)
            await it.settle()
            assert it.hub.rooms["lobby"].paused == []

    async def test_held_polls_are_not_lapped(self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are answered beside the walk, and slowly when they are many: publishers wait for them as well."""
        monkeypatch.setattr(pump_module, "WAKE_SLICE", 1)
        async with chatting(ring_messages=10) as it:
            polls, publisher = [it.peer() for _ in range(50)], it.peer()
            for peer in polls:
                await it.poll(peer, "lobby")
            room = it.hub.rooms["lobby"]
            published = turns = paused = 0
            while published < 30:
                if publisher not in room.paused:
                    await self.publish_behind(it, publisher, 1)
                    published += 1
                    paused += publisher in room.paused
                waits = [hold.first.after for hold in room.waking or () if hold.first is not None]
                assert all(room.ring.holds_after(after) for after in waits), "one would be answered from the log"
                turns += 1
                assert turns < 1000, "the publisher was forgotten"
                await trio.lowlevel.checkpoint()
            await it.settle()
            assert paused >= 1
            assert publisher.resumed == paused
            assert all(peer.answers for peer in polls)

    async def test_polls_that_go_while_they_are_woken_hold_nobody_up(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump_module, "WAKE_SLICE", 1)
        async with chatting(ring_messages=10) as it:
            polls, publisher = [it.peer() for _ in range(50)], it.peer()
            for peer in polls:
                await it.poll(peer, "lobby")
            await self.publish_behind(it, publisher, 1)
            room = it.hub.rooms["lobby"]
            while room.waking is None:
                await trio.lowlevel.checkpoint()
            await self.publish_behind(it, publisher, 9)
            assert room.paused == [publisher]
            for peer in polls:
                it.outlet.die(peer)
            await it.settle()
            assert publisher.resumed == 1
            assert room.waking is None

    async def test_a_failing_log_resumes_too(self, autojump_clock: Clock) -> None:
        """Nothing was stored, so there is no news and no walk: somebody else has to."""
        async with chatting(ring_messages=10) as it:
            await it.join(it.peer(), "lobby")
            publisher = it.peer()
            it.log.failing_commits = 1
            answers = await self.publish_behind(it, publisher, 8)
            await it.settle()
            assert all(isinstance(answer, LogError) for answer in answers)
            assert publisher.resumed == 1
            room = it.hub.rooms["lobby"]
            assert (room.pending, room.pending_bytes, room.paused) == (0, 0, [])

    async def test_repeated_keys_resume_too(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=10) as it:
            await it.join(it.peer(), "lobby")
            publisher = it.peer()
            answers: list[Stored | LogError] = []
            for _ in range(8):
                room = it.hub.publish(Draft("lobby", "u_1", "Ann", "hi", key="k"), answers.append)
                assert room is not None
                if room.congested and not room.paused:
                    room.paused.append(publisher)
            await it.settle()
            assert publisher.resumed == 1
            assert it.hub.rooms["lobby"].last == 1

    async def test_when_the_last_member_leaves_nobody_is_left_to_wait_for(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=10) as it:
            member = await it.join(it.peer(), "lobby")
            publisher = it.peer()
            room = member.room
            room.pending = 9
            assert room.congested
            room.paused.append(publisher)
            it.leave(member)
            await it.settle()
            assert publisher.resumed == 1
            room.pending = 0

    async def test_a_busy_log_says_so_and_counts_nothing(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatserver.log.groups.MAX_PENDING", 2)
        async with chatting() as it:
            await it.join(it.peer(), "lobby")
            answers: list[Stored | LogError] = []
            with it.together():
                for _ in range(2):
                    it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), answers.append)
                with pytest.raises(LogError):
                    it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), answers.append)
            assert it.hub.rooms["lobby"].pending == 2
            await it.settle()
            assert it.hub.rooms["lobby"].pending == 0
