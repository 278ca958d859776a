"""Publishers ahead of a room's members are paused, and resumed whatever happens to room, log or publisher."""

from collections.abc import AsyncIterator
from unittest import mock

import pytest
from msgspec.structs import replace

from chatserver.chat.broadcast import STEP_PUBLISHERS
from chatserver.log.interface import Draft, Kind, LogBusy, LogError, Refused, Stored
from tests.support.chatting import Chatting, change, chatting, plant
from tests.support.scripted import Peer


@pytest.fixture
async def it() -> AsyncIterator[Chatting]:
    """A hub with a small ring and one member. A publisher is paused when it is ahead by over half the ring."""
    async with chatting(ring_messages=10) as found:
        await found.join(found.peer(), "lobby")
        yield found


def publish(it: Chatting, publisher: Peer, count: int, *, key: str | None = None) -> list[Stored | LogError]:
    """Publish `count` messages in one group and pause a publisher that is ahead. Returns the answers."""
    answers: list[Stored | LogError] = []
    with it.together():
        for _ in range(count):
            room = it.hub.publish(Draft("lobby", "u_1", "Ann", "hi", key), answers.append)
            assert room is not None
            if room.congested:
                room.pause(publisher)
    return answers


async def answer_of(it: Chatting, draft: Draft) -> Stored | LogError:
    answers: list[Stored | LogError] = []
    it.hub.publish(draft, answers.append)
    await it.until_idle()
    return answers[0]


def paused(it: Chatting) -> list[object]:
    return list(it.hub.rooms["lobby"].paused or ())


async def test_a_publisher_ahead_by_half_a_ring_is_paused_and_resumed(it: Chatting) -> None:
    listener, publisher = it.peer(), it.peer()
    await it.join(listener, "lobby")
    publish(it, publisher, 5)
    assert paused(it) == []
    publish(it, publisher, 1)
    assert paused(it) == [publisher]
    await it.until_idle()
    assert publisher.resumed == 1
    assert paused(it) == []
    assert listener.offsets("lobby") == list(range(1, 7))
    assert listener.gaps("lobby") == []


async def test_a_draft_has_the_last_offset_in_memory(it: Chatting) -> None:
    """A log in which messages of another server are gone notices it by that."""
    publish(it, it.peer(), 2)
    await it.until_idle()
    with mock.patch.object(it.log, "submit") as submit:
        for room in ("lobby", "elsewhere"):
            it.hub.publish(Draft(room, "u_1", "Ann", "hi"), mock.Mock())
    assert [call.args[0].known for call in submit.call_args_list] == [2, 0]


async def test_publishers_resume_after_the_members_were_offered_everything(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.chat.broadcast.STEP_MEMBERS", 1)
    await it.members(19)
    publisher = it.peer()
    resumed: list[int] = []  # before each write
    it.sink.before_offer = lambda peer: resumed.append(publisher.resumed)
    publish(it, publisher, 8)
    assert paused(it) == [publisher]
    await it.until_idle()
    assert resumed == [0] * 20
    assert publisher.resumed == 1


async def test_bytes_count_as_well() -> None:
    async with chatting(ring_messages=1000, ring_bytes=1000) as it:
        await it.members(1)
        room = it.hub.publish(Draft("lobby", "u_1", "Ann", "x" * 501), lambda result: None)
        assert room is not None
        congested = [room.congested]
        it.sink.before_offer = lambda peer: congested.append(room.congested)
        await it.until_idle()
        congested.append(room.congested)
        assert congested == [True, True, False], "before the commit, before the broadcast, after it"


async def test_a_room_without_members_pauses_no_publisher(it: Chatting) -> None:
    (member,) = it.hub.rooms["lobby"].members
    it.leave(member)
    publish(it, it.peer(), 50)
    assert paused(it) == []
    await it.until_idle()
    await it.members(1)
    assert not it.hub.rooms["lobby"].congested, "messages from before the member's join do not count"


async def test_messages_loaded_with_a_room_pause_no_publisher(it: Chatting) -> None:
    await it.publish("other", *["hi"] * 10)
    await it.join(it.peer(), "other")
    assert not it.hub.rooms["other"].congested


async def test_a_closed_publisher_is_not_resumed(it: Chatting) -> None:
    """A step on its closed connection would raise in the task of all broadcasts and end the process."""
    gone, unforgotten, waits = it.peer(), it.peer(), it.peer()
    for publisher in (gone, unforgotten, waits):
        publish(it, publisher, 8)
    gone.gone = unforgotten.gone = True
    for _ in range(2):  # harmless the second time
        it.hub.rooms["lobby"].forget_publisher(gone)
    assert paused(it) == [unforgotten, waits]
    await it.until_idle()
    assert (gone.resumed, unforgotten.resumed, waits.resumed) == (0, 0, 1)


async def test_a_fault_in_resuming_one_costs_only_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(ring_messages=10, faults=1) as it:
        member, publishers = it.peer(), [it.peer() for _ in range(3)]
        await it.join(member, "lobby")
        for publisher in publishers:
            publish(it, publisher, 8)
        plant(monkeypatch, it.sink, "resume", lambda connection: connection is publishers[0])
        await it.until_idle()
        assert [publisher.gone for publisher in publishers] == [True, False, False]
        assert [publisher.resumed for publisher in publishers] == [0, 1, 1]
        assert member.offsets("lobby") == list(range(1, 25))


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_failing_log_and_repeated_keys_resume_too(it: Chatting, key: str | None) -> None:
    """Without news there is no broadcast that resumes them."""
    publisher = it.peer()
    it.log.failing_commits = int(key is None)
    answers = publish(it, publisher, 8, key=key)
    assert paused(it) == [publisher]
    await it.until_idle()
    assert [isinstance(answer, LogError) for answer in answers] == [key is None] * 8
    assert len(it.failures) == (8 if key is None else 0)
    assert (it.unstored, it.deletions) == ([], []), "they may be stored, and no moderator has deleted anything"
    assert publisher.resumed == 1
    room = it.hub.rooms["lobby"]
    assert (room.pending, room.pending_bytes, paused(it)) == (0, 0, [])
    assert room.last == (0 if key is None else 1)


async def test_a_fault_in_answering_one_leaves_no_other_paused(it: Chatting) -> None:
    def fail(result: object) -> None:
        raise RuntimeError("a bug")

    publisher, room = it.peer(), it.hub.rooms["lobby"]
    it.log.failing_commits = 1
    with it.together():
        for _ in range(8):
            it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), fail)
        room.pause(publisher)
    await it.until_idle()
    assert (publisher.resumed, room.pending) == (1, 0)


async def test_publishers_resume_when_the_last_member_leaves(it: Chatting) -> None:
    publisher = it.peer()
    publish(it, publisher, 8)
    assert paused(it) == [publisher]
    (member,) = it.hub.rooms["lobby"].members
    it.leave(member)
    assert publisher.resumed == 1


async def test_thousands_of_publishers_are_resumed_in_steps(it: Chatting) -> None:
    """A room that is congested again meanwhile resumes no more of them until the members have caught up."""
    publishers = [it.peer() for _ in range(2 * STEP_PUBLISHERS + 1)]
    for publisher in publishers:
        it.hub.rooms["lobby"].pause(publisher)
    with it.together():
        it.hub.broadcaster.resume_publishers(it.hub.rooms["lobby"])
        it.hub.broadcaster.resume_publishers(it.hub.rooms["lobby"])
        assert paused(it) == publishers[STEP_PUBLISHERS:]
        publish(it, publishers[0], 8)
    waiting: list[int] = []
    it.sink.before_offer = lambda peer: waiting.append(len(paused(it)))
    await it.until_idle()
    assert set(waiting) == {STEP_PUBLISHERS + 2}
    assert [publisher.resumed for publisher in publishers] == [2] + [1] * 2 * STEP_PUBLISHERS
    assert it.hub.rooms["lobby"].paused is None, "an emptied dict keeps its memory"


async def test_a_member_that_takes_nothing_delays_no_publisher(it: Chatting) -> None:
    """An offer is enough: the member keeps its cursor, and is fed from the log if the ring has moved on."""
    await it.join(it.peer(space=0), "lobby")
    publisher = it.peer()
    for round_ in range(1, 6):
        publish(it, publisher, 8)
        await it.until_idle()
        assert publisher.resumed == round_


async def test_a_busy_log_refuses_and_counts_nothing(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.log.groups.MAX_PENDING", 2)
    with it.together():
        publish(it, it.peer(), 2)
        with pytest.raises(LogBusy):
            publish(it, it.peer(), 1)
    assert (it.hub.rooms["lobby"].pending, len(it.failures)) == (2, 1)
    await it.until_idle()
    refused = await answer_of(it, change(Kind.DELETE, 99))
    assert isinstance(refused, Refused)
    assert (it.hub.rooms["lobby"].pending, len(it.failures)) == (0, 1), "a refusal is no failure of the log"
    assert [draft.kind for draft in it.unstored] == [Kind.MESSAGE, Kind.DELETE]


async def test_a_moderators_deletion_that_is_sent_again_is_noted_once(it: Chatting) -> None:
    await it.publish("lobby", "one")
    deletion = replace(change(Kind.DELETE, 1), as_moderator=True, key="k")
    answers = [await answer_of(it, deletion) for _ in range(2)]
    assert [isinstance(answer, Stored) and answer.fresh for answer in answers] == [True, False]
    assert it.deletions == [(1, "")]
