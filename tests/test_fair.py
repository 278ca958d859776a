"""Networks, fairness between them, long work, and shared queries: equal concurrent ones are made once."""

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from chatserver import fair
from chatserver.fair import ARRIVALS, CREDIT, FairQueue, LongWork, SingleFlight
from chatserver.net.connection import network_of

pytestmark = pytest.mark.jumping_clock


def test_the_network_of_an_address() -> None:
    for address, network in (
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
    ):
        assert network_of(address) == network


# -- fairness ---------------------------------------------------------------------------------------------------------


def with_share(lines: dict[str, list[Any]]) -> set[str]:
    """The networks with at least the mean number of entries, but not all entries."""
    total, active = sum(map(len, lines.values())), sum(map(bool, lines.values()))
    return {name for name, line in lines.items() if len(line) * active >= total > len(line) > 0}


@example(["a"] * 7 + [None] * 5 + [*"bcdefg"])  # five new networks while "a" waits for its turn
@example(["b"] * (CREDIT + 2) + ["a"] * CREDIT + [None] * (2 * CREDIT) + ["a"])  # without credit "a" waits for its turn
@given(st.lists(st.one_of(st.none(), st.sampled_from("aaaaaabcdefg")), min_size=10, max_size=120))
def test_against_a_simple_model(steps: list[str | None]) -> None:
    """A push of a network, or (None) a pop: each entry once, those of one network in order, fair between networks.

    A network with credit waits for others with credit, and for one entry of others for each few of these. Without
    credit it waits for these and for one entry of each other network, however many these push meanwhile.
    """
    queue, lines = FairQueue[tuple[str, int]](), dict[str, list[int]]()
    fresh, turns, credit, came = list[str](), list[str](), dict[str, int](), 0
    for number, network in enumerate([*steps, *[None] * len(steps)]):
        if network is not None:
            queue.push(network, (network, number))
            credit.setdefault(network, CREDIT)
            if not lines.get(network) and credit[network]:
                fresh.append(network)
            lines.setdefault(network, []).append(number)
        elif any(lines.values()):
            is_turn = not fresh
            if fresh and came >= ARRIVALS:
                came = 0
                while turns and not lines[turns[0]]:
                    del credit[turns.pop(0)]
                is_turn = bool(turns) and not credit[turns[0]]
            if not is_turn:
                turn = fresh.pop(0)
                credit[turn] -= 1
                came += turn not in turns
                turns += [turn] if turn not in turns else []
            else:
                turn = turns.pop(0)
                while not lines[turn]:
                    del credit[turn]
                    turn = turns.pop(0)
                turns.append(turn)
                came = 0
                assert not credit[turn]
            assert queue.pop() == (turn, lines[turn].pop(0))
            if lines[turn] and credit[turn] and turn not in fresh:
                fresh.append(turn)
            if not any(lines.values()):
                turns.clear()
                credit.clear()
        assert len(queue) == sum(map(len, lines.values()))
        assert bool(queue) == any(lines.values())
        assert {name for name in "abcdefg" if queue.has_share(name)} == with_share(lines)
        assert dict(queue.firsts()) == {name: (name, line[0]) for name, line in lines.items() if line}
    assert not queue
    with pytest.raises(IndexError):
        queue.pop()


@example(["push a", "push a", "pop", "remove a", *["push b"] * (CREDIT + 2)])  # the round ends with the last entry
@example(["push a", "push a", *["push b"] * (CREDIT + 2), "pop", "remove a"])  # "a" keeps its place in the round
@example(["push a", "remove a", "push b", "push b", "push c"])  # "a" counts no longer for a share
@example([*["push a"] * (CREDIT + 1), "push b", *["pop"] * CREDIT, "remove a"])  # its credit is used
@example(  # "a" has used its credit, and is new again after its turn without an entry
    [*["push b"] * (CREDIT + 5), *["pop"] * CREDIT, *["push a"] * CREDIT, *["pop"] * (CREDIT + 2), "push a"]
)
@given(
    st.lists(
        st.sampled_from(["push a", "push b", "push c", "pop", "take", "remove a", "remove b", "remove c"]),
        min_size=8,
        max_size=60,
    )
)
def test_removed_entries_delay_no_other(steps: list[str]) -> None:
    """The other entries are popped or taken once each, and those of one network in order."""
    queue, lines = FairQueue[tuple[str, int]](), {name: list[tuple[str, int]]() for name in "abc"}
    for number, step in enumerate([*steps, *["pop"] * len(steps)]):
        line = lines.get(step[-1], [])
        if step.startswith("push"):
            queue.push(step[-1], (step[-1], number))
            line.append((step[-1], number))
        elif line:
            queue.remove(step[-1], line.pop(len(line) // 2))
        elif any(lines.values()):
            before = len(queue)
            popped = [queue.pop()] if step == "pop" else queue.take(3)
            assert len(popped) == (1 if step == "pop" else min(before, 3))
            for entry in popped:
                assert entry == lines[entry[0]].pop(0)
        assert len(queue) == sum(map(len, lines.values()))
        assert {name for name in "abc" if queue.has_share(name)} == with_share(lines)
        assert dict(queue.firsts()) == {name: line[0] for name, line in lines.items() if line}
    assert not queue


def test_new_networks_neither_stop_the_rounds_nor_are_kept() -> None:
    """A network without credit must not wait as long as new networks push entries."""
    queue = FairQueue[str]()
    for number in range(CREDIT + 20):
        queue.push("member", f"member {number}")
    served = 0
    for number in range(1000):
        queue.push(f"network {number}", "stranger")
        served += queue.pop().startswith("member")
    assert served == CREDIT + 20
    assert len(queue._lines) <= len(queue) + 2 * ARRIVALS


def test_networks_whose_entries_are_removed_are_not_kept() -> None:
    """This happens when peers, each with a new IPv6 /64, send requests to a slow log and reset."""
    queue = FairQueue[str]()
    queue.push("slow", "slow")
    for number in range(100):
        queue.push(f"network {number}", "gone")
        queue.remove(f"network {number}", "gone")
    assert list(queue._lines) == ["slow"]
    assert queue.pop() == "slow"
    for number in range(100):
        for entry in ("served", "gone"):
            queue.push(f"{entry} {number}", entry)
        assert queue.pop() == "served"
        queue.remove(f"gone {number}", "gone")
    assert not queue._lines


# -- long work --------------------------------------------------------------------------------------------------------


def test_one_run_of_long_work_is_under_way_and_a_fault_ends_only_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair, "STEP", 0.0)
    done, faulty = list[int](), [True]

    def work() -> Iterator[None]:
        for number in range(3):
            done.append(number)
            yield
        if faulty.pop():
            raise ZeroDivisionError

    queued = list[tuple[Callable[[object], bool], object]]()
    long = LongWork(work, lambda step, item: queued.append((step, item)), "the owner")
    for _ in range(2):
        long.begin()
    [(step, owner)] = queued
    assert (owner, step(owner), done) == ("the owner", True, [0])
    long.begin()
    assert [len(queued), step(owner), step(owner)] == [1, True, True]
    with pytest.raises(ZeroDivisionError):
        step(owner)
    faulty.append(False)
    long.begin()
    assert [step(owner) for step, owner in queued[1:] * 4] == [True, True, True, False]
    assert done == [0, 1, 2] * 2


# -- shared queries ---------------------------------------------------------------------------------------------------


#: The log answers with its number of queries.
COUNT = object()


class Asking:
    """Callers, and a log that answers after a second with its number of queries, or with a given result."""

    def __init__(self) -> None:
        self.flight: SingleFlight[str, object] = SingleFlight()
        self.asked = 0
        self.says: object = COUNT
        self.answers: list[object] = []

    async def _read(self) -> object:
        self.asked += 1
        asked = self.asked
        await trio.sleep(1.0)
        if isinstance(self.says, Exception):
            raise self.says
        return asked if self.says is COUNT else self.says

    async def ask(self, key: str = "a", patience: float = 60.0) -> None:
        with trio.move_on_after(patience):
            try:
                self.answers.append(await self.flight.get(key, self._read))
            except OSError as error:
                self.answers.append(str(error))


@pytest.fixture
def asking() -> Asking:
    return Asking()


@pytest.mark.parametrize(
    ("says", "answer"),
    [
        (COUNT, 1),
        ([], []),  # an empty page is an answer: no second query
        (None, None),  # and so is None
        (OSError("no disk"), "no disk"),
    ],
)
async def test_concurrent_calls_share_one_query_and_a_later_call_makes_another(
    asking: Asking, says: object, answer: object
) -> None:
    asking.says = says
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(asking.ask)
        await trio.sleep(0.5)
        assert len(asking.flight) == 1
        nursery.start_soon(asking.ask)
    assert (asking.asked, asking.answers) == (1, [answer] * 101)
    assert len(asking.flight) == 0
    asking.says = COUNT
    assert await asking.flight.get("a", asking._read) == 2


async def test_keys_do_not_share(asking: Asking) -> None:
    async with trio.open_nursery() as nursery:
        for key in "abc":
            nursery.start_soon(asking.ask, key)
            await trio.sleep(0.4)
        for key in "bc":  # "a" has its answer
            nursery.start_soon(asking.ask, key)
    assert asking.answers == [1, 2, 2, 3, 3]


async def test_when_the_first_caller_is_cancelled_the_next_makes_the_query(asking: Asking) -> None:
    """The cancellation concerns the first caller only."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(asking.ask, patience=0.5))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            nursery.start_soon(asking.ask)
    assert (asking.asked, asking.answers) == (2, [2] * 5)
    await asking.ask(patience=0.5)
    assert len(asking.flight) == 0, "a cancelled single call leaves nothing"


async def test_a_cancelled_call_is_freed_without_the_collector() -> None:
    """Kept as the error of its own flight, a cancellation held the frames of all that it went through."""
    flight, kept = SingleFlight[str, None](), list[weakref.ref[trio.Event]]()

    async def ask() -> None:
        never = trio.Event()
        kept.append(weakref.ref(never))
        await never.wait()

    gc.disable()
    try:
        with trio.move_on_after(1):
            await flight.get("a", ask)
        await trio.lowlevel.checkpoint()  # trio itself keeps the last outcome
        assert [each() for each in kept] == [None]
    finally:
        gc.enable()
