"""The pump's walks: everybody in one write, nobody's turn too long, presence behind messages."""

import itertools

import pytest
import trio
import trio.testing

from chatserver.chat import pump as pump_module
from chatserver.chat.ring import Form
from chatserver.chat.room import Room
from chatserver.log.interface import Draft
from tests.support.chatting import Chatting, chatting

Clock = trio.testing.MockClock


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
