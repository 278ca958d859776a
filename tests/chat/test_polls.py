"""Held polls: each is answered once for news, beside the members, and many polls are one pass at a time."""

import pytest
import trio

from chatserver.chat import broadcast as broadcast_module
from chatserver.chat.member import PollWaiter
from chatserver.chat.registry import EMPTY_ROOM_SECONDS
from chatserver.log.interface import Record
from tests.support.chatting import Chatting, chatting
from tests.support.scripted import Peer
from tests.support.steps import StepCounts


def news(it: Chatting, offset: int, *names: str) -> None:
    it.hub.news([Record(name, offset, 0, "u_1", "Ann", "x") for name in names])


async def held(it: Chatting, count: int, *names: str) -> list[Peer]:
    """`count` held polls on these rooms."""
    peers = [it.peer() for _ in range(count)]
    for peer in peers:
        await it.poll(peer, *names)
    return peers


@pytest.fixture
def _one_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 1)


async def test_polls_on_several_rooms_are_answered_once_for_all_their_news(it: Chatting) -> None:
    polls = await held(it, 20, "a", "b", "c")
    news(it, 1, "b", "a")
    await it.until_idle()
    news(it, 1, "c")  # too late
    await it.until_idle()
    assert [peer.answers for peer in polls] == [[[("a", 0), ("b", 0), ("c", 0)]]] * 20
    assert it.hub.statistics()["waiters"] == 0
    assert all(not room.waiters for room in it.hub.rooms.values())


async def test_presence_is_no_news_and_a_released_poll_is_not_answered(it: Chatting) -> None:
    """Polls that are answered at each arrival and departure would be a busy loop over the network."""
    peer, released = it.peer(), it.peer()
    await it.poll(peer, "lobby")
    it.hub.release(await it.poll(released, "lobby"))
    member = await it.join(it.peer(), "lobby")
    await trio.sleep(3.0)
    it.leave(member)
    await trio.sleep(3.0)
    assert peer.answers == []
    await it.publish("lobby", "hi")
    assert (len(peer.answers), released.answers) == (1, [])


async def test_a_room_with_nothing_but_a_held_poll_stays_in_memory(it: Chatting) -> None:
    peer, released = it.peer(), it.peer()
    await it.poll(peer, "lobby")
    it.hub.release(await it.poll(released, "lobby"))
    await trio.sleep(EMPTY_ROOM_SECONDS + 20.0)
    await it.publish("lobby", "hi")
    assert peer.answers == [[("lobby", 0)]]


@pytest.mark.usefixtures("_one_a_step")
async def test_a_poll_is_not_answered_for_news_before_its_cursor(it: Chatting) -> None:
    """The news came during a pass, so another pass for it follows, and visits a poll that was held in between."""
    early, *_ = await held(it, 10, "lobby")
    news(it, 1, "lobby")
    while not early.answers:
        await trio.lowlevel.checkpoint()
    news(it, 2, "lobby")
    it.hold_now(early, ["lobby"])
    await it.until_idle()
    assert early.answers == [[("lobby", 0)]]
    news(it, 3, "lobby")
    await it.until_idle()
    assert early.answers == [[("lobby", 0)], [("lobby", 2)]]


@pytest.mark.usefixtures("_one_a_step")
async def test_members_and_other_rooms_do_not_wait_for_polls(it: Chatting) -> None:
    [member] = await it.members(1)
    polls, (lonely,) = await held(it, 50, "lobby"), await held(it, 1, "small")
    news(it, 1, "lobby", "small")
    while member.offsets("lobby") != [1] or not lonely.answers:
        await trio.lowlevel.checkpoint()
    assert sum(bool(peer.answers) for peer in polls) <= 2, "most are still held"
    await it.until_idle()
    assert [len(peer.answers) for peer in polls] == [1] * 50


@pytest.mark.usefixtures("_one_a_step")
async def test_a_poll_that_returns_during_the_pass_is_answered_again(it: Chatting) -> None:
    early, *late = await held(it, 10, "lobby")
    news(it, 1, "lobby")
    while not early.answers:
        await trio.lowlevel.checkpoint()
    it.hold_now(early, ["lobby"])
    news(it, 2, "lobby")
    assert not all(peer.answers for peer in late)
    await it.until_idle()
    assert early.answers == [[("lobby", 0)], [("lobby", 1)]]
    assert all(peer.answers == [[("lobby", 0)]] for peer in late)


@pytest.mark.usefixtures("_one_a_step")
async def test_news_faster_than_polls_are_answered_is_one_pass_at_a_time(it: Chatting) -> None:
    """A list of all polls for each message would let a publisher fill memory while the loop is busy."""
    polls = await held(it, 50, "lobby")
    for offset in range(1, 1001):
        news(it, offset, "lobby")
        assert it.schedule.waiting <= 1
    await it.until_idle()
    assert [len(peer.answers) for peer in polls] == [1] * 50
    assert it.schedule.waiting == 0


@pytest.mark.usefixtures("_one_a_step")
async def test_polls_that_end_while_others_are_answered(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    polls = await held(it, 50, "lobby")
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


async def test_a_poll_of_many_rooms_counts_for_several(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one step, eight polls of a hundred rooms would take 2 ms, and each connection can hold a poll."""
    await held(it, 8, *(f"r{number}" for number in range(100)))
    await held(it, 9, "r0")
    with StepCounts() as steps:
        monkeypatch.setattr(it.sink, "answer", steps.counted(it.sink.answer))
        news(it, 1, "r0")
        await it.until_idle()
    assert [answers for answers in steps.counts if answers] == [1] * 8 + [8, 1]


async def test_a_fault_costs_the_rest_of_the_pass_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_module, "STEP_POLLS", 2)
    async with chatting(faults=1) as it:
        polls = await held(it, 6, "lobby")
        with monkeypatch.context() as patch:
            patch.setattr(it.sink, "answer", lambda waiter: 1 // 0)
            news(it, 1, "lobby")
            await it.until_idle()
        assert it.hub.rooms["lobby"].answering is None
        assert not any(peer.answers for peer in polls)
        news(it, 2, "lobby")
        await it.until_idle()
        assert [len(peer.answers) for peer in polls] == [1] * 6
