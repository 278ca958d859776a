"""The pump and held polls: each is answered once, and nobody waits for a herd of them."""

import itertools

import pytest
import trio
import trio.testing

from chatserver.chat import pump as pump_module
from chatserver.log.interface import Draft, LogError, Record, Stored
from tests.support.chatting import chatting

Clock = trio.testing.MockClock


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
