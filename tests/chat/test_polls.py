"""Held polls: each is answered once for what is new, beside the members; and many of them are one pass at a time."""

import pytest
import trio
import trio.testing

from chatserver.chat import broadcast as broadcast_module
from chatserver.chat.member import PollWaiter
from chatserver.log.interface import Draft, Record
from tests.support.chatting import Chatting, chatting

Clock = trio.testing.MockClock


def news(it: Chatting, offset: int, *names: str) -> None:
    it.hub.news([Record(name, offset, 0, "u_1", "Ann", "x") for name in names])


async def test_members_do_not_wait_for_polls(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 1)
    async with chatting() as it:
        member, polls = it.peer(), [it.peer() for _ in range(50)]
        await it.join(member, "lobby")
        for peer in polls:
            await it.poll(peer, "lobby")
        news(it, 1, "lobby")
        while member.offsets("lobby") != [1]:
            await trio.lowlevel.checkpoint()
        assert sum(bool(peer.answers) for peer in polls) < 25, "most are held yet"
        await it.until_idle()
        assert all(len(peer.answers) == 1 for peer in polls)


async def test_rooms_take_turns(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 10)
    async with chatting() as it:
        crowd, lonely = [it.peer() for _ in range(50)], it.peer()
        for peer in crowd:
            await it.poll(peer, "large")
        await it.poll(lonely, "small")
        news(it, 1, "large", "small")
        while not lonely.answers:
            await trio.lowlevel.checkpoint()
        assert sum(len(peer.answers) for peer in crowd) <= 2 * 10


async def test_who_comes_back_meanwhile_is_answered_again(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 1)
    async with chatting() as it:
        early, *late = polls = [it.peer() for _ in range(10)]
        for peer in polls:
            await it.poll(peer, "lobby")
        news(it, 1, "lobby")
        while not early.answers:
            await trio.lowlevel.checkpoint()
        it.hold_now(early, ["lobby"])
        news(it, 2, "lobby")
        assert not all(peer.answers for peer in late)
        await it.until_idle()
        assert early.answers == [[("lobby", 0)], [("lobby", 1)]]
        assert all(peer.answers == [[("lobby", 0)]] for peer in late)


async def test_news_faster_than_polls_are_answered_is_one_pass_at_a_time(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message had a list of all polls made for it: a publisher and a busy loop could fill memory with them."""
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 1)
    async with chatting() as it:
        polls = [it.peer() for _ in range(50)]
        for peer in polls:
            await it.poll(peer, "lobby")
        for offset in range(1, 1001):
            news(it, offset, "lobby")
            assert it.schedule.waiting <= 1
        await it.until_idle()
        assert [len(peer.answers) for peer in polls] == [1] * 50
        assert it.schedule.waiting == 0


async def test_polls_that_go_while_others_are_answered(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 1)
    async with chatting() as it:
        polls = [it.peer() for _ in range(50)]
        for peer in polls:
            await it.poll(peer, "lobby")
        answer = it.sink.answer

        def answer_while_they_go(waiter: PollWaiter) -> None:
            for peer in polls[1::2]:
                it.sink.die(peer)
            answer(waiter)

        monkeypatch.setattr(it.sink, "answer", answer_while_they_go)
        news(it, 1, "lobby")
        await it.until_idle()
        assert [len(peer.answers) for peer in polls] == [1, 0] * 25
        assert it.hub.rooms["lobby"].answering is None


async def test_a_fault_costs_the_rest_of_the_pass_only(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 2)
    async with chatting(faults=1) as it:
        polls = [it.peer() for _ in range(6)]
        for peer in polls:
            await it.poll(peer, "lobby")
        monkeypatch.setattr(it.sink, "answer", lambda waiter: 1 // 0)
        news(it, 1, "lobby")
        await it.until_idle()
        monkeypatch.undo()
        assert it.hub.rooms["lobby"].answering is None
        assert not any(peer.answers for peer in polls)
        news(it, 2, "lobby")
        await it.until_idle()
        assert [len(peer.answers) for peer in polls] == [1] * 6


async def test_a_poll_on_several_rooms_is_answered_once_for_all_their_news(autojump_clock: Clock) -> None:
    async with chatting() as it:
        polls = [it.peer() for _ in range(20)]
        for peer in polls:
            await it.poll(peer, "a", "b", "c")
        news(it, 1, "a", "b", "c")
        await it.until_idle()
        assert [len(peer.answers) for peer in polls] == [1] * 20
        assert it.hub.statistics()["waiters"] == 0
        assert all(not room.waiters for room in it.hub.rooms.values())


async def test_publishers_do_not_wait_for_polls(autojump_clock: Clock) -> None:
    """A poll that is lapped by its room is answered from the log; only members are waited for."""
    async with chatting(ring_messages=10) as it:
        await it.poll(it.peer(), "lobby")
        for _ in range(20):
            room = it.hub.publish(Draft("lobby", "u_1", "Ann", "x"), lambda result: None)
            assert room is not None
            assert not room.congested
        await it.until_idle()
