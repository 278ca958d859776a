"""Members behind the ring are fed from the log, in order, fairly, with shared pages; losses are explicit gaps."""

from collections.abc import AsyncIterator
from unittest import mock

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.chat import broadcast as broadcast_module
from chatserver.chat import ring as ring_module
from chatserver.chat.member import Source
from chatserver.log.interface import Kind, Range, Record
from tests.support.chatting import Chatting, change, chatting, plant
from tests.support.scripted import ENDLESS, Peer
from tests.support.steps import FEW, StepCounts, few_in_a_step


@pytest.fixture
async def it() -> AsyncIterator[Chatting]:
    """A hub with a ring that a few messages fill."""
    async with chatting(ring_messages=5) as found:
        yield found


async def crowd_behind(it: Chatting, count: int, *, messages: int) -> list[Peer]:
    """`count` members at one cursor that took nothing of these messages."""
    slow = await it.members(count)
    for peer in slow:
        peer.space = 0
    await trio.sleep(10.0)  # presence has been told: next they are offered messages and gaps
    for number in range(messages):
        await it.publish("lobby", f"text-{number}")
    return slow


async def behind(it: Chatting, *, messages: int) -> Peer:
    (slow,) = await crowd_behind(it, 1, messages=messages)
    return slow


async def test_a_member_that_takes_exactly_a_chunk_gets_the_next_when_it_takes_more(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "CHUNK_BYTES", 1)  # each message is one
    slow = await behind(it, messages=3)
    it.sink.take(slow, len(b"P lobby - - 1\nM lobby 1 text-0\n"))
    assert slow.offsets("lobby") == [1]
    it.sink.take(slow, ENDLESS)
    assert slow.offsets("lobby") == [1, 2, 3]


async def test_a_slow_reader_costs_no_chunk(it: Chatting) -> None:
    """A joined chunk for each of many slow readers at different cursors would fill memory."""
    slow = await behind(it, messages=1)
    before = it.sink.writes
    await it.publish("lobby", *["hi"] * 10)
    assert it.sink.writes == before
    it.sink.take(slow, ENDLESS)
    await it.until_idle()
    assert slow.offsets("lobby") == list(range(1, 12))


@pytest.mark.parametrize("bite", [7, ENDLESS])
async def test_behind_the_ring_it_is_fed_from_the_log_in_order(it: Chatting, bite: int) -> None:
    slow = await behind(it, messages=150)
    assert it.log.reads <= 2, "the log is not read for a peer that takes nothing"
    while slow.reached("lobby") < 150:
        it.sink.take(slow, bite)
        await it.until_idle()
    assert slow.gaps("lobby") == []


@pytest.mark.parametrize(("messages", "gaps"), [(50 + 5, 0), (50 + 6, 1)])
async def test_the_distance_behind_is_counted_from_the_members_cursor(
    it: Chatting, monkeypatch: pytest.MonkeyPatch, messages: int, gaps: int
) -> None:
    monkeypatch.setattr(broadcast_module, "MAX_BEHIND", 50)
    await it.publish("lobby", *["said before"] * 60)
    slow = await behind(it, messages=messages)
    it.sink.take(slow, ENDLESS)
    await it.until_idle()
    assert [until for _, until in slow.gaps("lobby")] == [60 + messages - 5] * gaps, "up to what the ring holds"
    assert slow.reached("lobby") == 60 + messages
    assert it.hub.broadcaster.gaps == gaps


@pytest.mark.parametrize(("kept", "known"), [(5, True), (1, False), (3, False), (10, False)])
async def test_messages_removed_by_retention_are_a_gap(it: Chatting, kept: int, *, known: bool) -> None:
    """The removal is known to the hub, or to the log alone, which removes them between two reads."""
    slow = await behind(it, messages=30)
    firsts = await it.log.retain(lambda _: (kept, 0))
    if known:
        it.hub.retained(firsts)
    before = it.log.reads
    it.sink.take(slow, ENDLESS)
    await it.until_idle()
    (gap,) = slow.gaps("lobby")
    assert gap[1] == 30 - kept
    assert slow.reached("lobby") == 30
    assert it.log.reads == before or not known, "the log is not read for removed messages"


@pytest.mark.parametrize("bite", [7, ENDLESS])
async def test_records_that_the_log_has_lost_are_a_gap(
    it: Chatting, monkeypatch: pytest.MonkeyPatch, bite: int
) -> None:
    """With a damaged page of its file: those behind them were sent twice."""
    slow = await behind(it, messages=30)
    read = it.log.read

    async def read_what_is_left(wanted: Range) -> list[Record]:
        return [record for record in await read(wanted) if record.offset not in {8, 9, 15}]

    monkeypatch.setattr(it.log, "read", read_what_is_left)
    while slow.reached("lobby") < 30:
        it.sink.take(slow, bite)
        await it.until_idle()
    assert slow.gaps("lobby") == [(7, 9), (14, 15)]


async def test_a_log_that_has_nothing_more_is_a_gap_up_to_the_ring(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be read again and again."""
    slow = await behind(it, messages=30)
    reads = mock.AsyncMock(return_value=[])
    monkeypatch.setattr(it.log, "read", reads)
    it.sink.take(slow, ENDLESS)
    await it.until_idle()
    assert (slow.gaps("lobby")[0][1], slow.reached("lobby"), reads.await_count) == (25, 30, 1)


async def test_a_gap_for_a_dead_member_costs_only_that_member(it: Chatting) -> None:
    slow = await behind(it, messages=30)
    await it.log.retain(lambda _: (10, 0))
    it.log.delay = 0.1
    it.sink.take(slow, ENDLESS)
    slow.dies_at_next_write = True
    await trio.sleep(10.0)
    assert slow.gone
    fine = it.peer()
    await it.join(fine, "lobby", back=25)
    await trio.sleep(10.0)
    assert fine.reached("lobby") == 30, "the readers go on"


async def test_a_room_that_runs_ahead_of_a_failing_log_leaves_a_gap(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its members wait for the log while it fails, and do not receive new messages."""
    monkeypatch.setattr(broadcast_module, "MAX_BEHIND", 50)
    slow = await behind(it, messages=30)
    it.log.failing_reads = 1 << 30
    it.sink.take(slow, ENDLESS)
    with capture_logs() as lines:
        await trio.sleep(9.5)
    assert (1 << 30) - it.log.failing_reads == 10, "it is tried once a second"
    assert [line["event"] for line in lines] == ["catch_up_failed"], "there was one each second of an outage"
    assert slow.gaps("lobby") == [], "it can still get everything"
    await it.publish("lobby", *map(str, range(60)))
    await trio.sleep(10.0)
    ((_, until),) = slow.gaps("lobby")
    assert until == 90 - 5
    assert slow.reached("lobby") == 90


async def test_each_outage_of_the_log_is_one_line(it: Chatting) -> None:
    for _ in range(2):
        slow = await behind(it, messages=10)
        it.log.failing_reads = 3
        it.sink.take(slow, ENDLESS)
        with capture_logs() as lines:
            await trio.sleep(9.5)
        assert [line["event"] for line in lines] == ["catch_up_failed"]
        assert slow.reached("lobby") == it.hub.rooms["lobby"].last


async def test_a_page_has_no_more_bytes_than_a_chunk(it: Chatting) -> None:
    """A hundred long messages would be 800 KB, of which a connection takes a part."""
    slow = await behind(it, messages=0)
    await it.publish("lobby", *["x" * 8000] * 25)
    before = it.log.reads
    it.sink.take(slow, ENDLESS)
    await it.until_idle()
    assert (slow.reached("lobby"), it.log.reads - before) == (25, 3), "eight, eight, and the four before the ring"


async def test_a_member_that_leaves_during_a_read_is_sent_nothing(it: Chatting) -> None:
    slow = await behind(it, messages=30)
    it.log.delay = 1.0
    it.sink.take(slow, ENDLESS)
    await trio.sleep(0.5)
    (member,) = slow.members
    assert member.source is Source.LOG
    it.leave(member)
    before = len(slow.wire)
    await trio.sleep(10.0)
    assert len(slow.wire) == before
    assert not it.hub.behind.places


async def test_all_members_at_a_cursor_leave_before_its_read(it: Chatting) -> None:
    others, slow = await crowd_behind(it, 3, messages=50), await crowd_behind(it, 3, messages=50)
    it.log.delay = 1.0
    it.sink.take_all([*others, *slow])
    assert len(it.hub.behind.places) == 2
    before = it.log.reads
    for peer in slow:
        it.sink.die(peer)
    await trio.sleep(20.0)
    assert it.log.reads - before == 1, "only for the others"
    assert [peer.reached("lobby") for peer in others] == [100] * 3
    assert not it.hub.behind.places
    assert not it.hub.behind.queue


async def test_all_readers_work(it: Chatting) -> None:
    """An idle reader is woken for members that fall behind later."""
    for _ in range(3):
        slow = [await behind(it, messages=10) for _ in range(2)]
        it.log.delay = 1.0
        it.sink.take_all(slow)
        await trio.sleep(3.0)  # both reads at the same time: one takes 2 s
        assert [peer.reached("lobby") for peer in slow] == [it.hub.rooms["lobby"].last] * 2
        it.log.delay = 0.0
        for peer in slow:
            it.sink.die(peer)


async def test_a_record_read_before_its_news_is_told_once(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader finds a record in the log before the hub hears of it."""
    slow = await behind(it, messages=10)
    monkeypatch.setattr(it.hub, "news", lambda records: None)
    await it.publish("lobby", "ahead")
    monkeypatch.undo()
    it.sink.take(slow, ENDLESS)
    await it.until_idle()
    assert slow.reached("lobby") == 11
    it.hub.news(await it.log.read(Range("lobby", 1, last=True)))
    await it.publish("lobby", "next")
    assert slow.offsets("lobby") == list(range(1, 13))


# -- shared, and fair -------------------------------------------------------------------------------------------------


async def test_members_at_one_cursor_share_each_page_also_while_it_is_read(it: Chatting) -> None:
    """Otherwise 400 readers at one cursor of a room are 400 reads of the log for each page."""
    slow = await crowd_behind(it, 40, messages=90)
    it.log.delay = 1.0
    before = it.log.reads
    for peer in slow:
        it.sink.take(peer, ENDLESS)
        await trio.sleep(0.02)
    await trio.sleep(5.0)
    assert [peer.offsets("lobby") for peer in slow] == [list(range(1, 91))] * 40
    assert it.log.reads - before == 1


async def test_a_page_is_encoded_and_joined_once_for_each_encoding(it: Chatting) -> None:
    slow = await crowd_behind(it, 10, messages=50)
    events = it.peer()
    await it.join(events, "lobby", encoding=it.encoder.events, back=50)
    await it.until_idle()
    assert events.reached("lobby") == 50
    before = it.encoder.frames.pushed
    it.log.delay = 0.1
    it.sink.chunks.clear()
    it.sink.take_all(slow)
    await trio.sleep(5.0)
    assert all(peer.reached("lobby") == 50 for peer in slow)
    assert it.encoder.frames.pushed - before <= 50 + 5, "the page and the messages of the ring"
    assert len({id(chunk) for chunk in it.sink.chunks if b"text-" in chunk}) == 1


async def test_of_many_at_one_cursor_a_few_are_fed_in_a_step(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one step, 300 members that return behind the ring of one room would take 17 ms."""
    few_in_a_step(monkeypatch)
    slow = await crowd_behind(it, 40, messages=50)
    it.log.delay = 0.1
    it.sink.take_all(slow)
    await trio.sleep(0.15)  # the log has been read
    with StepCounts() as steps:
        it.sink.before_offer = steps.count
        await trio.sleep(5.0)
    assert all(peer.offsets("lobby") == list(range(1, 51)) for peer in slow)
    assert max(steps.counts) == FEW


async def test_of_many_at_one_cursor_no_member_gets_a_text_deleted_before_its_step(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_in_a_step(monkeypatch)
    slow = await crowd_behind(it, 40, messages=50)
    it.log.delay = 0.1
    it.sink.take_all(slow)
    await trio.sleep(0.15)
    known: list[int] = []

    def knowing() -> int:
        return sum(b"text-2\n" in peer.wire for peer in slow)

    def offered(peer: Peer) -> None:
        if not known and knowing() == 2:
            known.append(0)
            it.hub.publish(change(Kind.DELETE, 3), lambda result: known.append(knowing()))

    it.sink.before_offer = offered
    await trio.sleep(5.0)
    assert all(peer.offsets("lobby") == list(range(1, 52)) for peer in slow)
    assert 2 < known[1] < 40, "it was deleted while they were fed"
    assert knowing() == known[1]


async def test_networks_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of one network, each at a different cursor, and a last member of another network."""
    monkeypatch.setattr("chatserver.chat.hub.READERS", 1)
    async with chatting(ring_messages=5) as it:
        await it.publish("lobby", *["hi"] * 60)
        await it.load("lobby")
        it.log.delay = 1.0
        crowd, person = [it.peer(network="192.0.2.7") for _ in range(40)], it.peer(network="198.51.100.9")
        for index, peer in enumerate([*crowd, person]):
            await it.join(peer, "lobby", back=50 - index)
        while person.reached("lobby") < 60:  # noqa: ASYNC110
            await trio.sleep(0.1)
        served = sum(peer.reached("lobby") == 60 for peer in crowd)
        assert served <= 2, "one read was running and one was next"
        await trio.sleep(200.0)
        assert all(peer.reached("lobby") == 60 for peer in crowd)


async def test_a_fault_with_one_member_costs_only_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(ring_messages=5, faults=1) as it:
        slow = await crowd_behind(it, 5, messages=50)
        plant(monkeypatch, it.hub.broadcaster, "give", lambda member, *_: member.connection is slow[1])
        it.log.delay = 0.1
        it.sink.take_all(slow)
        await trio.sleep(5.0)
        assert [peer.gone for peer in slow] == [False, True, False, False, False]
        assert all(peer.reached("lobby") == 50 for peer in slow if not peer.gone)


async def test_a_fault_in_a_read_costs_the_members_at_its_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug, not an error of the log: the readers and the members at other cursors go on."""
    async with chatting(ring_messages=5, faults=2) as it:
        (other,), slow = await crowd_behind(it, 1, messages=10), await crowd_behind(it, 2, messages=50)
        plant(monkeypatch, it.hub._catch_up._log, "encoded", lambda _, records, __: records[0].offset == 11)
        it.sink.take_all([*slow, other])
        await trio.sleep(10.0)
        assert [peer.gone for peer in slow] == [True, True]
        assert other.reached("lobby") == 60


async def test_members_are_fed_on_after_a_reader_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in another task beside it has that happen. They waited for ever, and so did all who came to their place."""
    monkeypatch.setattr("chatserver.chat.hub.READERS", 0)
    async with chatting(ring_messages=5) as it, trio.open_nursery() as nursery:
        slow = await crowd_behind(it, 2, messages=20)
        it.log.delay = 1.0
        for peer in slow:
            it.sink.take(peer, ENDLESS)
            with trio.move_on_after(0.5):
                await it.hub._catch_up.run()
        nursery.start_soon(it.hub._catch_up.run)
        await trio.sleep(5.0)
        assert [peer.reached("lobby") for peer in slow] == [20, 20]
        assert not it.hub.behind.places
        nursery.cancel_scope.cancel()
