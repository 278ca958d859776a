"""Rooms in memory: loading, joining, polls, presence told, and leaving memory again."""

import sys
from typing import NoReturn

import pytest
import trio
import trio.testing

from chatserver.chat import registry
from chatserver.chat.member import Source
from chatserver.chat.presence import LEASE
from chatserver.chat.principal import Principal
from chatserver.chat.registry import EMPTY_STAYS, LATEST
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, LogError, LogUnavailable, Record, Stored
from tests.support.chatting import chatting
from tests.support.scripted import HERE, Peer

Clock = trio.testing.MockClock


class TestLoading:
    async def test_a_room_has_its_newest_messages_from_the_start(self, autojump_clock: Clock) -> None:
        async with chatting(ring_messages=1000) as it:
            await it.publish("lobby", *["hi"] * (LATEST + 20))
            assert it.hub.room("lobby") is None
            async with it.hub.using("lobby", HERE) as room:
                assert room.ring is not None
                assert (room.ring.first, room.ring.last) == (21, LATEST + 20)
                assert it.hub.room("lobby") is room

    async def test_all_who_want_it_wait_for_one_load(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.publish("lobby", "hi")
            it.log.delay = 1.0
            peers = [it.peer() for _ in range(10)]
            async with trio.open_nursery() as nursery:
                for peer in peers:
                    nursery.start_soon(it.join, peer, "lobby")
            assert it.log.reads == 2, "one head, one page"
            await it.publish("lobby", "hello")
            assert [peer.offsets("lobby") for peer in peers] == [[2]] * 10

    async def test_news_while_loading_is_neither_lost_nor_told_twice(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.publish("lobby", "one", "two")
            it.log.delay = 1.0
            peer = it.peer()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: it.join(peer, "lobby", back=100))
                for text in ("three", "four", "five", "six", "seven"):
                    await trio.sleep(0.7)
                    await it.publish("lobby", text)
            await trio.sleep(20.0)
            assert peer.offsets("lobby") == [1, 2, 3, 4, 5, 6, 7]

    async def test_a_failed_load_is_told_to_all_and_tried_again_by_the_next(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
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
            await it.join(it.peer(), "lobby")

    async def test_a_cancelled_load_leaves_nothing(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            it.log.delay = 5.0
            with trio.move_on_after(1.0):
                await it.join(it.peer(), "lobby")
            assert it.hub.rooms == {}
            await it.join(it.peer(), "lobby")

    async def test_who_waits_for_a_load_that_is_called_off_goes_on_itself(self, autojump_clock: Clock) -> None:
        """It was refused at the other's deadline, and kept its connection where the other's was closed."""
        async with chatting() as it:
            it.log.delay = 5.0
            peers = [it.peer() for _ in range(3)]

            async def join(peer: Peer, patience: float) -> None:
                with trio.move_on_after(patience):
                    await it.join(peer, "lobby")

            async with trio.open_nursery() as nursery:
                for peer, patience in zip(peers, (1.0, 20.0, 20.0), strict=True):
                    nursery.start_soon(join, peer, patience)
                    await trio.testing.wait_all_tasks_blocked()
            await it.publish("lobby", "hello")
            assert [peer.offsets("lobby") for peer in peers] == [[], [1], [1]]
            assert it.log.reads == 2, "the one that was called off, and one for both"

    async def test_several_rooms_load_side_by_side(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            it.log.delay = 1.0
            begun = trio.current_time()
            await it.load("a", "b", "c")
            assert trio.current_time() - begun < 5.0, "as long as one"
            assert all(it.hub.room(name) for name in "abc")

    async def test_the_first_failure_calls_off_the_others(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            it.log.delay, it.log.failing_reads = 1.0, 3
            with pytest.raises(LogUnavailable):
                await it.load("a", "b", "c")
            assert it.hub.rooms == {}

    async def test_retention_while_loading_is_not_forgotten(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.publish("lobby", *["hi"] * 10)
            it.log.delay = 1.0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.load, "lobby")
                await trio.sleep(1.5)  # the head was read; its answer is on its way
                it.hub.retained(await it.log.retain(max_messages=3, max_age_ms=0, now_ms=0))
            room = it.hub.room("lobby")
            assert room is not None
            assert room.first == 8


class TestMemory:
    async def test_an_empty_room_stays_for_a_while_and_leaves(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            member = await it.join(it.peer(), "lobby")
            await trio.sleep(EMPTY_STAYS * 3)
            assert it.hub.room("lobby") is not None, "somebody is in it"
            it.leave(member)
            await trio.sleep(EMPTY_STAYS - 2)
            assert it.hub.room("lobby") is not None
            await trio.sleep(4)
            assert it.hub.rooms == {}

    async def test_a_member_that_returns_in_time_finds_the_ring(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            member = await it.join(it.peer(), "lobby")
            room = member.room
            it.leave(member)
            await trio.sleep(EMPTY_STAYS - 2)
            again = await it.join(it.peer(), "lobby")
            await trio.sleep(EMPTY_STAYS * 2)
            assert again.room is room is it.hub.room("lobby")

    async def test_rooms_that_do_not_exist_do_not_fill_memory(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "MAX_EMPTY", 10)
        async with chatting() as it:
            await it.join(it.peer(), "kept")
            for number in range(100):
                await it.load(f"room-{number}")
            assert set(it.hub.rooms) == {"kept", *(f"room-{number}" for number in range(90, 100))}

    async def test_a_room_that_emptied_during_a_broadcast_leaves_too(
        self, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatserver.chat.broadcast.STEP_MEMBERS", 1)
        async with chatting() as it:
            members = [await it.join(it.peer(), "lobby") for _ in range(6)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.publish, "lobby", "hi")
                while members[0].room.broadcast is None:
                    await trio.lowlevel.checkpoint()
                for member in members:
                    it.leave(member)
            await trio.sleep(EMPTY_STAYS + 5)
            assert it.hub.rooms == {}

    async def test_a_room_that_was_written_to_as_its_time_came_leaves_too(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.load("lobby")
            await trio.sleep(EMPTY_STAYS - 0.5)
            answers: list[Stored | LogError] = []
            it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), answers.append)
            room = it.hub.rooms["lobby"]
            assert room.pending == 1
            it.hub.registry._empty[room] = 0.0
            it.hub.tick()
            await it.until_idle()
            assert len(answers) == 1
            await trio.sleep(EMPTY_STAYS * 2)
            assert it.hub.rooms == {}

    async def test_a_used_room_is_kept(self, autojump_clock: Clock) -> None:
        async with chatting() as it, it.hub.using("lobby", HERE) as room:
            await trio.sleep(EMPTY_STAYS * 3)
            assert it.hub.room("lobby") is room

    async def test_members_and_waiters_are_freed_without_the_collector(self, autojump_clock: Clock) -> None:
        """They are not tracked: a cycle would stay for ever, and `gc` would not tell."""
        async with chatting() as it:
            peer = it.peer()
            member = await it.join(peer, "lobby")
            it.leave(member)
            waiter = await it.poll(peer, "lobby", "ops")
            await it.publish("lobby", "hi")
            assert waiter.first is None
            peer.answers.clear()
            await trio.sleep(2.0)
            assert sys.getrefcount(member) == 2, "this name and the argument"
            assert sys.getrefcount(waiter) == 2
            assert member.connection is None

    async def test_statistics(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.join(it.peer(), "lobby")
            await it.poll(it.peer(), "lobby", "ops")
            await it.publish("elsewhere", "hi")
            assert it.hub.statistics() == {"rooms": 2, "members": 1, "waiters": 2, "published": 1, "kept": 0}

    async def test_statistics_look_at_no_room(self, autojump_clock: Clock) -> None:
        """There may be 100,000, and anybody may ask."""

        class Unseen(dict[str, Room]):
            def values(self) -> NoReturn:
                raise AssertionError("walked over")

            __iter__ = items = values

        async with chatting() as it:
            it.hub.registry.rooms = it.hub.rooms = Unseen()
            member = await it.join(it.peer(), "lobby")
            waiter = await it.poll(it.peer(), "lobby", "ops")
            before = it.hub.statistics()
            it.leave(member)
            it.hub.release(waiter)
            after = it.hub.statistics()
        assert [(each["rooms"], each["members"], each["waiters"]) for each in (before, after)] == [(2, 1, 2), (2, 0, 0)]


class TestMembers:
    async def test_a_member_hears_what_comes_after_its_place(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.publish("lobby", "one", "two", "three")
            now, before = it.peer(), it.peer()
            await it.join(now, "lobby")
            await it.join(before, "lobby", back=2)
            await it.publish("lobby", "four")
            assert now.offsets("lobby") == [4]
            assert before.offsets("lobby") == [2, 3, 4]

    async def test_leaving_twice_is_harmless_and_final(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peer = it.peer()
            member = await it.join(peer, "lobby")
            it.leave(member)
            it.hub.leave(member)
            await it.publish("lobby", "hi")
            assert peer.offsets("lobby") == []
            assert member.source is Source.NOTHING
            assert len(member.room.presence) == 0

    async def test_rooms_do_not_mix(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peer = it.peer()
            await it.join(peer, "lobby")
            await it.join(peer, "ops")
            await it.publish("lobby", "hi")
            await it.publish("ops", "ho")
            await it.publish("elsewhere", "hum")
            assert [words[:3] for words in peer.lines() if words[0] == "M"] == [["M", "lobby", "1"], ["M", "ops", "1"]]

    async def test_news_of_a_record_that_was_read_already_is_not_told_again(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peer = it.peer()
            await it.join(peer, "lobby")
            await it.publish("lobby", "one", "two")
            it.hub.news(await it.log.latest("lobby", 1))
            await it.until_idle()
            assert peer.offsets("lobby") == [1, 2]
            ring = it.hub.rooms["lobby"].ring
            assert ring is not None
            assert ring.first == 1, "and the ring is as it was"


class TestPolls:
    async def test_a_poll_is_answered_once_by_the_first_news(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peer = it.peer()
            await it.poll(peer, "lobby", "ops")
            await it.publish("ops", "hi")
            assert peer.answers == [[("lobby", 0), ("ops", 0)]]
            await it.publish("lobby", "too late")
            assert len(peer.answers) == 1
            assert it.hub.statistics()["waiters"] == 0

    async def test_presence_is_no_news_for_a_poll(self, autojump_clock: Clock) -> None:
        """People come and go: a poll that were answered each time would be a busy loop over the network."""
        async with chatting() as it:
            peer = it.peer()
            await it.poll(peer, "lobby")
            member = await it.join(it.peer(), "lobby")
            await trio.sleep(3.0)
            it.leave(member)
            await trio.sleep(3.0)
            assert peer.answers == []
            await it.publish("lobby", "hi")
            assert len(peer.answers) == 1

    async def test_a_poll_parked_behind_news_that_it_has_is_not_answered_for_it(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.join(it.peer(), "lobby")
            it.hub.news([Record("lobby", 1, 0, "u_1", "Ann", "hi")])
            peer = it.peer()
            it.hold_now(peer, ["lobby"])  # before the polls of those news are answered
            await it.until_idle()
            assert peer.answers == []
            it.hub.news([Record("lobby", 2, 0, "u_1", "Ann", "ho")])
            await it.until_idle()
            assert peer.answers == [[("lobby", 1)]]

    async def test_a_released_poll_is_not_answered(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            peer = it.peer()
            waiter = await it.poll(peer, "lobby")
            it.hub.release(waiter)
            await it.publish("lobby", "hi")
            assert peer.answers == []

    async def test_a_poller_is_present_between_two_polls(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            watcher, poller = it.peer(), it.peer()
            await it.join(watcher, "lobby")
            for _ in range(5):
                await it.poll(poller, "lobby")
                await trio.sleep(5.0)
                await it.publish("lobby", "hi")
                await trio.sleep(LEASE - 2)
            assert [told for told in watcher.presence("lobby") if told[1] != "-"] == [], "nobody was said to leave"
            await trio.sleep(LEASE + 2)
            assert watcher.presence("lobby")[-1] == ("-", str(poller.number), 1)

    async def test_a_poll_answered_at_once_makes_present_too(self, autojump_clock: Clock) -> None:
        async with chatting() as it:
            await it.load("lobby")
            room = it.hub.rooms["lobby"]
            person = Principal(7, HERE)
            it.hub.polled(room, person)
            it.hub.polled(room, person)
            assert room.presence.people() == [person]
            await trio.sleep(LEASE + 2)
            assert len(room.presence) == 0
