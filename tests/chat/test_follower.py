"""A log that another process writes to as well: no record is missed, doubled or out of order, whatever the hints."""

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.chat import log_reader
from chatserver.chat.follower import COMPARE_INTERVAL
from chatserver.log.interface import Draft, Kind
from tests.support.chatting import Chatting, change, chatting
from tests.support.scripted import HERE

#: Seconds within which a lost hint is made up for.
SOON = 2 * COMPARE_INTERVAL


# -- hints ------------------------------------------------------------------------------------------------------------


async def test_after_a_hint_the_room_is_read_and_all_members_are_told(shared: Chatting) -> None:
    ann, bob = shared.peer(), shared.peer()
    await shared.join(ann, "lobby")
    await shared.poll(bob, "lobby")
    shared.log.reads = 0
    shared.elsewhere(*(Draft("lobby", "u_1", "Ann", text) for text in ("one", "two")))
    shared.hub.follower.on_hints({"lobby": shared.elsewhere(change(Kind.EDIT, 1, "uno"))})
    await shared.hinted(0)  # an older hint comes late
    assert ann.offsets("lobby") == [1, 2, 3]
    assert bob.answers == [[("lobby", 0)]]
    assert shared.log.reads == 1, "the edited message is in the same page"


async def test_two_rooms_are_read_at_the_same_time(shared: Chatting) -> None:
    """An idle reader is woken again and again."""
    peers = {name: (await shared.members(1, name))[0] for name in ("a", "b")}
    shared.log.delay = 0.1
    for offset in (1, 2, 3):
        shared.hub.follower.on_hints({name: shared.elsewhere_said(name, "hi") for name in peers})
        await trio.sleep(0.25)
        assert [peer.offsets(name)[-1] for name, peer in peers.items()] == [offset] * 2


async def test_our_own_news_during_the_read_for_a_wrong_hint_is_told_once(shared: Chatting) -> None:
    [ann] = await shared.members(1)
    shared.log.delay = 0.1
    shared.hub.follower.on_hints({"lobby": 5})
    await trio.sleep(0.05)
    await shared.publish("lobby", "one")
    await trio.sleep(0.5)
    assert (ann.offsets("lobby"), shared.encoder.encoded) == ([1], 1)


async def test_a_bug_in_a_read_costs_its_room_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(shared=True, faults=1) as it:
        [ann] = await it.members(1)
        with monkeypatch.context() as patch:
            patch.setattr(it.log, "read", lambda *_, **__: 1 // 0)
            await it.hinted(it.elsewhere_said("lobby", "one"))
        await it.hinted(1)
        assert ann.offsets("lobby") == [1]


async def test_rooms_beyond_one_comparison_are_in_the_next(shared: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.chat.follower.MAX_READ", 2)
    peers = {name: shared.peer() for name in ("a", "b", "c", "d", "e")}
    for name, peer in peers.items():
        await shared.join(peer, name)
        shared.elsewhere_said(name, "one")
    await trio.sleep(4 * COMPARE_INTERVAL)
    assert all(peer.offsets(name) == [1] for name, peer in peers.items())


async def test_records_of_others_between_our_own_are_read_first(shared: Chatting) -> None:
    """Each record is told once and in order, although only our own news arrives."""
    [ann] = await shared.members(1)
    await shared.publish("lobby", "one")
    shared.elsewhere_said("lobby", "two", "three")
    await shared.publish("lobby", "four", "five")
    assert ann.offsets("lobby") == [1, 2, 3, 4, 5]
    await shared.publish("lobby", "six")
    assert ann.offsets("lobby") == [1, 2, 3, 4, 5, 6]


async def test_late_news_is_not_told_twice(shared: Chatting) -> None:
    """After a hint the room is read beyond a record of our own, and then its news arrives."""
    [ann] = await shared.members(1)
    records = shared.log.commit_elsewhere([Draft("lobby", "u_1", "Ann", "ours")])
    await shared.hinted(shared.elsewhere_said("lobby", "theirs"))
    shared.hub.news(records)
    await shared.until_idle()
    assert (ann.offsets("lobby"), shared.hub.rooms["lobby"].last) == ([1, 2], 2)


async def test_a_wrong_hint_costs_one_read_at_most(shared: Chatting) -> None:
    [ann] = await shared.members(1)
    await shared.publish("lobby", "one", "two")
    for last, hint in enumerate((-7, 0, 4, 6, 10**12), 2):  # one is right, the last two are too high
        shared.log.reads = 0
        await shared.hinted(hint)
        assert shared.log.reads == (hint > last), hint
        await shared.publish("lobby", "more")
        assert ann.offsets("lobby") == list(range(1, last + 2))
        assert shared.log.reads == (hint > last), "the next news needs no read"


async def test_a_hint_brings_no_room_into_memory(shared: Chatting) -> None:
    shared.hub.follower.on_hints({"lobby": shared.elsewhere_said("lobby", "one"), "*sanctions": 1, "": 5})
    await trio.sleep(SOON)
    assert shared.hub.rooms == {}
    assert shared.log.reads == 0


async def test_hints_during_a_read_are_one_more_read(shared: Chatting) -> None:
    [ann] = await shared.members(1)
    shared.log.delay, shared.log.reads = 0.2, 0
    for text in ("one", "two", "three", "four"):
        await shared.hinted(shared.elsewhere_said("lobby", text))
    await trio.sleep(0.85)
    assert ann.offsets("lobby") == [1, 2, 3, 4]
    assert shared.log.reads <= 2


async def test_a_hint_while_a_room_is_loaded_is_not_forgotten(shared: Chatting) -> None:
    shared.elsewhere_said("lobby", "one")
    shared.log.delay = 0.2
    ann = shared.peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: shared.join(ann, "lobby"))
        await trio.sleep(0.1)
        shared.hub.follower.on_hints({"lobby": 1})  # the load will bring it
        await trio.sleep(0.6)  # the newest records are read, and the answer is on its way
        shared.hub.follower.on_hints({"lobby": shared.elsewhere_said("lobby", "two")})
    await trio.sleep(0.5)
    assert ann.offsets("lobby") == [2]
    ring = shared.hub.rooms["lobby"].ring
    assert ring is not None
    assert shared.hub.budget.used == ring.kept, "the room has had one ring"


async def test_a_log_that_fails_is_read_again(shared: Chatting) -> None:
    [ann] = await shared.members(1)
    for outage in (1, 2):
        shared.log.failing_reads = 6
        with capture_logs() as lines:
            shared.hub.follower.on_hints({"lobby": shared.elsewhere_said("lobby", "one")})
            await trio.sleep(10.0)
        assert ann.offsets("lobby")[-1] == outage
        assert sorted(line["event"] for line in lines) == ["catch_up_failed", "rooms_not_compared"]


async def test_comparisons_that_fail_are_one_line_until_one_succeeds(shared: Chatting) -> None:
    """There was one each second, for as long as a database was away."""
    await shared.members(1)
    for failures in (3, 2):
        shared.log.failing_reads = failures
        with capture_logs() as lines:
            await trio.sleep((failures + 2) * COMPARE_INTERVAL)
        assert [line["event"] for line in lines] == ["rooms_not_compared"]


async def test_many_pages_are_read_in_a_row(shared: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.chat.follower.FOLLOW_PAGE", 4)
    [ann] = await shared.members(1)
    await shared.hinted(shared.elsewhere_said("lobby", *(f"text-{number}" for number in range(30))))
    assert ann.offsets("lobby") == list(range(1, 31))


async def test_messages_removed_by_retention_elsewhere_are_a_gap(shared: Chatting) -> None:
    [ann] = await shared.members(1)
    shared.elsewhere(*(Draft("lobby", "u_1", "Ann", text) for text in ("one", "two", "three")))
    shared.elsewhere(change(Kind.EDIT, 1, "uno"))
    await shared.log.retain(lambda _: (1, 0))
    await trio.sleep(SOON)
    assert (ann.gaps("lobby"), ann.offsets("lobby")) == ([(0, 3)], [4])
    assert shared.hub.rooms["lobby"].first == 4


async def test_a_room_that_leaves_memory_during_a_read_stays_out(shared: Chatting) -> None:
    [ann] = await shared.members(1)
    shared.log.delay = 100.0
    await shared.hinted(shared.elsewhere_said("lobby", "one"))
    shared.sink.die(ann)
    await trio.sleep(500.0)
    assert shared.hub.rooms == {}
    assert (shared.hub.budget.used, len(shared.hub.reader)) == (0, 0)


# -- one process alone ------------------------------------------------------------------------------------------------


async def test_alone_the_log_is_never_read_for_news(it: Chatting) -> None:
    [ann] = await it.members(1)
    it.log.reads = 0
    for _ in range(5):
        await it.publish("lobby", "one", "two")
    await trio.sleep(10 * COMPARE_INTERVAL)
    assert ann.offsets("lobby") == list(range(1, 11))
    assert it.log.reads == 0


async def test_alone_news_during_a_load_are_read_again_after_a_failure(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was too much to keep meanwhile; no comparison with the log makes up for it."""
    monkeypatch.setattr(log_reader, "MOST_NEWS", 0)
    await it.publish("lobby", "one")
    it.log.delay = 1.0
    ann = it.peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: it.join(ann, "lobby"))
        await trio.sleep(3.5)  # the newest records are read, and the answer is on its way
        await it.publish("lobby", "two")
        it.log.failing_reads = 1
    await trio.sleep(10.0)
    assert (ann.offsets("lobby"), it.log.failing_reads) == ([2], 0)


# -- cursors that are ahead -------------------------------------------------------------------------------------------


async def test_cursors_that_are_ahead_are_reached_by_one_read(shared: Chatting) -> None:
    """Clients bring the cursor of another process before any hint."""
    await shared.publish("lobby", "one")
    async with shared.hub.registry.using("lobby", HERE) as room:
        shared.log.delay, shared.log.reads = 0.1, 0
        last = shared.elsewhere_said("lobby", "two", "three")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(shared.hub.follower.reach, room, last)
        assert (room.last, shared.log.reads) == (last, 1)
        await shared.hub.follower.reach(room, last + 5)
        assert (room.last, shared.log.reads) == (last, 2), "the log knows no such record"
