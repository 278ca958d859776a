"""Messages between processes that are lost, doubled or garbage: all agree again, and no change is told twice."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chatserver.chat import cluster as module
from chatserver.chat.cluster import EXPIRY, REPORT_INTERVAL, RESEND_INTERVAL, Cluster
from chatserver.chat.cluster_presence import ClusterPresence
from chatserver.chat.hub import Hub
from chatserver.chat.process_messages import Kicked, Person, ProcessReport, RoomReport, encode
from chatserver.chat.registry import EMPTY_ROOM_SECONDS
from tests.chat.processes import MENDED, SAID, Air, Pair
from tests.support.chatting import Chatting, SmallSettings
from tests.support.scripted import Peer
from tests.support.steps import FEW, StepCounts, few_in_a_step


@pytest.mark.parametrize("stays", [True, False])
async def test_a_departure_whose_report_was_lost_is_learned(air: Air, pair: Pair, *, stays: bool) -> None:
    """The report of all rooms that follows does not name the room, and may name no room at all."""
    ours, other = pair
    member = (await other.join(1)).members[0]
    if stays:
        await other.join(1, "den")
    await trio.sleep(SAID)
    assert ours.people() == {1}
    air.spoil = lambda message: []
    other.it.leave(member)
    await trio.sleep(1.5 * REPORT_INTERVAL)  # so short that the process is not forgotten
    air.spoil = lambda message: [message]
    await trio.sleep(MENDED)
    assert (ours.people(), ours.people("den")) == (set(), {1} if stays else set())


async def test_repeated_reports_cost_rooms_no_work(air: Air, pair: Pair) -> None:
    """With 55 processes most reports are repeated; work in unchanged rooms would take a whole core."""
    ours, other = pair
    for number in range(20):
        await ours.join(number, f"room-{number}")
        await other.join(100 + number, f"room-{number}")
    await trio.sleep(SAID)
    before = len(air.said)
    with mock.patch.object(
        ClusterPresence, "apply_remote", autospec=True, side_effect=ClusterPresence.apply_remote
    ) as hear:
        air.spoil = lambda message: []
        await other.join(200, "room-7")
        await trio.sleep(1.5 * REPORT_INTERVAL)  # after two lost messages the process would be removed elsewhere
        air.spoil = lambda message: [message]
        await trio.sleep(MENDED)
    again = [room.room for said in air.said[before:] for room in said.rooms]
    assert {f"room-{number}" for number in range(20)} <= set(again)
    assert ours.people("room-7") == {7, 107, 200}
    assert hear.call_count == 1


async def test_a_full_report_may_take_many_rounds(air: Air, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEOPLE_PER_ROUND", 20)
    monkeypatch.setattr(module, "PEOPLE_PER_MESSAGE", 7)
    ours, other = pair
    for number in range(60):
        await other.join(1, f"room-{number}")
    before = air.said[-1].number
    await trio.sleep(SAID)
    sent = [each for each in zip(air.times, air.said, strict=True) if each[1].number > before and each[1].rooms]
    assert max(len(said.rooms) for _, said in sent) <= 4
    times = [when for when, _ in sent]
    assert all(later - sooner > 0.9 * module.PAUSE for sooner, later in pairwise(times)), "a socket's buffer holds ten"
    first = [said for when, said in sent if when < times[0] + REPORT_INTERVAL / 2]
    assert sum(len(said.rooms) for said in first) <= (20 + 8) / 2, "with one person each"
    await trio.sleep(10.0)
    assert all(ours.people(f"room-{number}") == {1} for number in range(60))
    ours.cluster._processes.clear()  # forget all other processes
    air.said.clear()
    await trio.sleep(MENDED + 10.0)
    assert sum(said.begin for said in air.said) == sum(said.end for said in air.said) == 1
    assert all(ours.people(f"room-{number}") == {1} for number in range(60))


async def test_unreported_rooms_that_are_gone_are_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = pair
    members = [await other.it.join(Peer(1), f"room-{number}") for number in range(100)]
    await trio.sleep(SAID)
    assert all(ours.people(f"room-{number}") == {1} for number in range(100))
    monkeypatch.setattr(module, "MAX_GONE", 20)
    monkeypatch.setattr(module, "PEOPLE_PER_ROUND", 2)
    monkeypatch.setattr(module, "PEOPLE_PER_MESSAGE", 2)
    for member in members[5:]:
        other.it.leave(member)
    await trio.sleep(EMPTY_ROOM_SECONDS + SAID)
    assert len(other.cluster._unreported) <= module.MAX_GONE + len(other.it.hub.rooms) == 25
    await trio.sleep(MENDED + 10.0)
    assert [room for room in range(100) if ours.people(f"room-{room}")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("rate", "least", "most"), [(1, 2, 4), (2_000, 14, 21)])
async def test_larger_full_reports_are_rarer(
    air: Air, pair: Pair, monkeypatch: pytest.MonkeyPatch, rate: int, least: int, most: int
) -> None:
    """Otherwise 53 processes that each lose some messages request a thousand rooms of all others every 3 s."""
    monkeypatch.setattr(module, "RESENT_ROOMS_PER_SECOND", rate)
    _, other = pair
    for number in range(20):
        await other.join(1, f"room-{number}")
    await trio.sleep(SAID)
    air.said.clear()
    for _ in range(60):
        other.cluster._all_wanted = True
        await trio.sleep(1.0)
    assert least <= sum(said.begin for said in air.said) <= most


async def test_a_report_of_all_rooms_looks_at_few_in_a_step(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50,000 rooms it took 35 ms, whenever another process had started or had lost a message."""
    monkeypatch.setattr(module, "PEOPLE_PER_MESSAGE", FEW)
    ours, other = pair
    for number in range(20):
        await other.join(1, f"room-{number}")
    await trio.sleep(MENDED)
    few_in_a_step(monkeypatch)
    ours.cluster._processes.clear()
    with StepCounts() as steps:
        here = ClusterPresence.here.fget  # type: ignore[attr-defined]
        monkeypatch.setattr(ClusterPresence, "here", property(steps.counted(here)))
        await trio.sleep(MENDED)
        monkeypatch.undo()
    assert max(steps.counts) <= 2 * FEW
    assert all(ours.people(f"room-{number}") == {1} for number in range(20))


async def test_a_process_that_does_not_answer_is_asked_now_and_then(air: Air, pair: Pair) -> None:
    ours, _ = pair
    for number in range(2, 62):
        ours.cluster.receive(encode(ProcessReport(7, number)))
        await trio.sleep(0.5)
    asked = [said for said in air.said if said.resend == [7]]
    assert 30 / RESEND_INTERVAL - 3 <= len(asked) <= 30 / RESEND_INTERVAL + 1


# -- one message after the other --------------------------------------------------------------------------------------


class Ear:
    """A cluster that receives what a test says as process 7, with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kicks: list[Kicked] = []
        self.cluster = a_cluster(lambda: self.now)

    def hear(self, number: int, *rooms: str, left: str = "", **fields: Any) -> None:
        """A message with one person in each of these rooms, and none in the room `left`."""
        found = [RoomReport(room, 1, [Person(len(room), "192.0.2.1")]) for room in rooms]
        found += [RoomReport(left, 0, [])] if left else []
        self.kicks += self.cluster.receive(encode(ProcessReport(7, number, rooms=found, **fields)))

    async def people(self) -> int:
        """The people elsewhere, after a round."""
        await self.cluster._expire()
        return self.cluster.statistics()["people"]


async def test_a_message_that_comes_again_or_late_is_ignored() -> None:
    it = Ear()
    it.hear(1, "a")
    for _ in range(2):
        it.hear(2, left="a", kicked=[Kicked("a", "u_bob")])
        it.hear(1, "a")
    assert (await it.people(), it.kicks) == (0, [Kicked("a", "u_bob")])


async def test_a_lost_kick_comes_with_the_next(air: Air, pair: Pair) -> None:
    """A moderator was told that the user was out, and the worker that lost the one datagram kept the connection."""
    ours, other = pair
    await trio.sleep(SAID)
    air.spoil = lambda message: []
    other.cluster.kick("u_bob", "lobby", "")
    await trio.sleep(1.1 * REPORT_INTERVAL)
    air.spoil = lambda message: [message]
    other.cluster.kick("u_eve", "lobby", "")
    await trio.sleep(EXPIRY + SAID)
    assert ours.kicks == [Kicked("lobby", "u_bob"), Kicked("lobby", "u_eve")]
    assert air.said[-1].repeated == []


async def test_a_room_is_gone_only_when_a_whole_report_does_not_name_it() -> None:
    it = Ear()
    it.hear(1, "a", "b", "c")
    it.hear(2, "a", begin=True)
    assert await it.people() == 3, "others may follow"
    it.hear(3, "b", end=True)
    it.hear(4, "c")
    assert await it.people() == 3, "one has come back at once"
    it.hear(5, "a", begin=True)
    it.hear(7, "b", end=True)
    it.hear(8, "a")
    assert await it.people() == 3, "a part was lost"
    it.hear(9, "a", begin=True, end=True)
    assert await it.people() == 1


async def test_a_process_that_returns_while_it_is_forgotten_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.fair.STEP", 0.0)  # other tasks have a turn after each room
    it = Ear()
    it.hear(1, "a", "b")
    it.now = EXPIRY
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.people)
        while it.cluster.statistics()["people"] == 2:
            await trio.lowlevel.checkpoint()
        it.hear(2, "c", "d")
    assert it.cluster.statistics() == {"processes": 1, "people": 2, "unreadable": 0}
    it.now = 2 * EXPIRY
    assert await it.people() == 0


@cache
def a_hub() -> Hub:
    return Chatting(SmallSettings(), shared=False).hub


def a_cluster(clock: Callable[[], float] = lambda: 0.0) -> Cluster:
    return Cluster(a_hub().rooms, a_hub().housekeeping, Air().tell, clock=clock)


@given(st.binary(max_size=200))
def test_garbage_is_ignored(message: bytes) -> None:
    cluster = a_cluster()
    cluster.receive(message)
    assert cluster.statistics()["processes"] in (0, 1)


def test_messages_that_cannot_be_decoded_are_counted_and_the_first_is_logged() -> None:
    cluster = a_cluster()
    giant = encode(ProcessReport(7, 1, rooms=[RoomReport(f"{number:064}", 1, []) for number in range(2_000)]))
    fields = encode(ProcessReport(8, 1))
    nested = bytes([fields[0] + 1]) + fields[1:] + b"\x91" * 100_000  # one field more, of a later version
    with capture_logs() as logs:
        for message in (b"", b"\x92\x01\xa1\xff", giant, nested):
            cluster.receive(message)
    assert cluster.statistics() == {"processes": 0, "people": 0, "unreadable": 4}
    assert [line["event"] for line in logs] == ["process_message_unreadable"]


@pytest.mark.parametrize("count", [-5, 1 << 62])
async def test_a_count_that_no_room_can_have_is_garbage(pair: Pair, count: int) -> None:
    """A negative count must not end the process that reports the room next."""
    ours, _ = pair
    watcher = await ours.join(1)
    for process in (7, 8):
        ours.cluster.receive(encode(ProcessReport(process, 1, rooms=[RoomReport("lobby", count, [])])))
    await trio.sleep(SAID)
    assert watcher.presence("lobby") == [("1", "-", 1)]


async def test_more_names_than_people_are_no_negative_count(pair: Pair) -> None:
    ours, _ = pair
    for process in (7, 8):
        names = [Person(number, "192.0.2.1") for number in (5, 6)]
        ours.cluster.receive(encode(ProcessReport(process, 1, rooms=[RoomReport("lobby", 0, names)])))
    assert ours.count() == 2
