"""Memory over all rooms: what is counted, who gives it up, and how many rooms there may be."""

import gc
import tracemalloc

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat.presence import LEASE
from chatserver.chat.principal import Principal
from chatserver.chat.registry import EMPTY_STAYS, LOW_WATER, NETWORK_SHARE, RoomsFullError
from chatserver.chat.ring import ENTRY_BYTES, Ring, RingSize
from chatserver.log.interface import LogError, Record
from chatserver.meters import ByteBudget
from tests.support.chatting import Chatting, chatting
from tests.support.scripted import HERE, LineEncoder, LineEncoding

Clock = trio.testing.MockClock
#: A text of which a few fill the small budget of these tests.
LONG = "x" * 1_000


def records(first: int, last: int, *, size: int = 30) -> list[Record]:
    return [Record("lobby", offset, 0, "u_1", "Ann", "x" * size) for offset in range(first, last + 1)]


FRAMES, EVENTS = LineEncoding(), LineEncoding(tells_presence=False)


def rings(budget: ByteBudget, count: int) -> list[Ring]:
    return [Ring("lobby", RingSize(LineEncoder(), 20, 2_000, budget)) for _ in range(count)]


# -- the count --------------------------------------------------------------------------------------------------------


def test_an_encoding_in_use_is_one_more_copy() -> None:
    budget = ByteBudget(1 << 30)
    (ring,) = rings(budget, 1)
    ring.add(records(1, 10))
    assert budget.used == 10 * (30 + ENTRY_BYTES)
    ring.chunk(FRAMES, 9)
    assert budget.used == 2 * 10 * (30 + ENTRY_BYTES), "for every message, even if nobody lacks the older ones"
    ring.chunk(EVENTS, 9)
    assert budget.used == 3 * 10 * (30 + ENTRY_BYTES)


def test_joined_chunks_count_until_the_next_message() -> None:
    budget = ByteBudget(1 << 30)
    (ring,) = rings(budget, 1)
    ring.add(records(1, 10))
    ring.chunk(FRAMES, 9)
    before = budget.used
    chunk, _ = ring.chunk(FRAMES, 0)
    assert budget.used >= before + len(chunk)
    ring.add(records(11, 11))
    assert budget.used == 2 * 11 * (30 + ENTRY_BYTES)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["add", "frames", "events", "cut"]), st.integers(0, 30)),
        max_size=40,
    )
)
def test_the_budget_is_the_sum_of_the_rings(acts: list[tuple[int, str, int]]) -> None:
    budget = ByteBudget(1 << 30)
    three = rings(budget, 3)
    for index, act, number in acts:
        ring = three[index]
        if act == "add":
            ring.add(records(ring.last + 1 + number % 2, ring.last + 1 + number % 5, size=number))
        elif act == "cut":
            ring.cut(number * 50)
            assert ring.kept <= number * 50
            assert ring.first + len(ring._json) == ring.last + 1
        else:
            ring.chunk(FRAMES if act == "frames" else EVENTS, max(ring.first - 1, ring.last - number))
        assert budget.used == sum(each.kept for each in three)
    for ring in three:
        ring.released()
    assert budget.used == 0


def test_what_is_counted_is_what_is_kept() -> None:
    """Held against the allocator, with both encodings in use: no less than nine tenths of it, no more than 1.3."""
    gc.collect()
    tracemalloc.start()
    try:
        budget = ByteBudget(1 << 30)
        ring = Ring("lobby", RingSize(LineEncoder(), 2_000, 1 << 20, budget))
        for offset in range(1, 1_001):
            ring.add([Record("lobby", offset, 0, "u_1", "Ann", f"{offset:0200}")])
            ring.chunk(FRAMES, offset - 1)
            ring.chunk(EVENTS, offset - 1)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.9 < budget.used / size < 1.3, (budget.used, size)


# -- relief -----------------------------------------------------------------------------------------------------------


def ring_of(it: Chatting, room: str) -> Ring:
    ring = it.hub.rooms[room].ring
    assert ring is not None
    return ring


async def fill(it: Chatting, *rooms: str, messages: int = 10) -> None:
    for room in rooms:
        await it.publish(room, *[LONG] * messages)


async def test_empty_rooms_go_first_the_oldest_before_the_others(autojump_clock: Clock) -> None:
    async with chatting(all_rings_bytes=60_000) as it:
        member = it.peer()
        await it.join(member, "mine")
        await fill(it, "mine", "a", "b", "c", "d")
        for name in ("a", "b", "c", "d"):
            async with it.hub.using(name, HERE):
                pass
            await trio.sleep(0.01)
        assert list(it.hub.rooms) == ["mine", "c", "d"]
        assert it.hub.statistics()["kept"] <= 60_000
        assert len(ring_of(it, "mine")._json) == 10


async def test_then_every_room_keeps_its_share(autojump_clock: Clock) -> None:
    """Slow members read the rest from the log: none loses a message, and small rooms keep what they have."""
    async with chatting(all_rings_bytes=40_000) as it:
        peers = [it.peer() for _ in range(5)]
        slow = it.peer(space=10)
        await it.join(slow, "large-0")
        for index, peer in enumerate(peers[:4]):
            await it.join(peer, f"large-{index}")
        await it.join(peers[4], "small")
        await fill(it, "small", messages=1)
        await fill(it, *[f"large-{index}" for index in range(4)], messages=14)
        await trio.sleep(2.0)
        assert it.hub.statistics()["kept"] <= 40_000
        assert len(ring_of(it, "small")._json) == 1
        share = int(40_000 * LOW_WATER) // 5
        assert all(len(ring_of(it, f"large-{index}")._json) >= 1 for index in range(4))
        assert min(ring_of(it, f"large-{index}").kept for index in range(4)) <= share
        for index, peer in enumerate(peers[:4]):
            assert peer.offsets(f"large-{index}") == list(range(1, 15))


async def test_answers_count_and_are_given_up(autojump_clock: Clock) -> None:
    async with chatting(all_rings_bytes=40_000) as it:
        await it.join(it.peer(), "lobby")
        room = it.hub.rooms["lobby"]
        before = it.hub.statistics()["kept"]
        room.remember("one", b"x" * 30_000)
        room.remember("two", b"x" * 30_000)
        assert it.hub.statistics()["kept"] == before + 60_000
        await trio.sleep(1.5)
        assert it.hub.statistics()["kept"] == before
        assert room.cache is None


async def test_a_room_that_leaves_gives_everything_back(autojump_clock: Clock) -> None:
    async with chatting() as it:
        await fill(it, "lobby")
        async with it.hub.using("lobby", HERE) as room:
            room.remember("one", b"x" * 1_000)
        assert it.hub.statistics()["kept"] > 10_000
        await trio.sleep(EMPTY_STAYS + 2)
        assert it.hub.rooms == {}
        assert it.hub.statistics()["kept"] == 0


# -- how many rooms ---------------------------------------------------------------------------------------------------


def network(number: int) -> str:
    return f"198.51.100.{number}"


async def test_no_more_rooms_than_there_may_be(autojump_clock: Clock) -> None:
    async with chatting(max_rooms=3) as it:
        for number, name in enumerate("abc"):
            await it.join(it.peer(network=network(number)), name)
        with pytest.raises(RoomsFullError, match="3 rooms"):
            await it.join(it.peer(network=network(4)), "d")
        await it.join(it.peer(network=network(4)), "a")
        assert sorted(it.hub.rooms) == ["a", "b", "c"]


async def test_an_empty_room_makes_room(autojump_clock: Clock) -> None:
    async with chatting(max_rooms=2) as it:
        await it.join(it.peer(network=network(1)), "a")
        async with it.hub.using("b", network(2)):
            pass
        await it.join(it.peer(network=network(3)), "c")
        assert sorted(it.hub.rooms) == ["a", "c"]


async def test_a_network_has_a_share_of_the_rooms(autojump_clock: Clock) -> None:
    """A network in as many rooms as it may be in keeps no other network out of a new room."""
    async with chatting(max_rooms=10 * NETWORK_SHARE) as it:
        for number in range(10):
            await it.join(it.peer(), f"room-{number}")
        with pytest.raises(RoomsFullError, match="for this network"):
            await it.join(it.peer(), "one-more")
        await it.join(it.peer(network=network(1)), "one-more")
        await it.join(it.peer(), "one-more")  # it is there already, and another's
        assert len(it.hub.rooms) == 11


async def test_a_share_is_given_back_with_the_room(autojump_clock: Clock) -> None:
    async with chatting(max_rooms=2 * NETWORK_SHARE) as it:
        members = [await it.join(it.peer(), name) for name in ("a", "b")]
        it.log.failing_reads = 1
        with pytest.raises(RoomsFullError):
            await it.load("c")
        it.leave(members[0])
        await trio.sleep(EMPTY_STAYS + 2)
        with pytest.raises(LogError):
            await it.load("c")
        await it.join(it.peer(), "c")
        for member in [*members[1:], *it.hub.rooms["c"].members]:
            it.hub.leave(member)
        await trio.sleep(EMPTY_STAYS + 2)
        assert it.hub.rooms == {}
        assert it.hub.registry._of_network == {}


async def test_leases_in_many_rooms_are_seen_to_in_steps(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("chatserver.chat.hub.LOOKED_AT", 2)
    async with chatting() as it:
        names = [f"room-{number}" for number in range(10)]
        for name in names:
            async with it.hub.using(name, HERE) as room:
                it.hub.polled(room, Principal(1, HERE))
        await trio.sleep(LEASE - 1)
        assert all(len(it.hub.rooms[name].presence) == 1 for name in names)
        await trio.sleep(2.5)
        assert all(len(it.hub.rooms[name].presence) == 0 for name in names)
        assert not it.hub._leasing
