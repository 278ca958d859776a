"""How long a pass of the poller lasts beside other tasks, when the poller naps; expiries; each is queued once."""

import itertools
import os
from functools import partial
from unittest import mock

import pytest
import trio
import trio.lowlevel
import trio.testing

from chatserver.net import poller, scheduler
from chatserver.net.connection import Connection
from chatserver.net.poller import LONGEST_PASS, MANY_EVENTS, MAX_EXPIRED, PASS, PONG_NAP, READ_BYTES, SHARE
from chatserver.net.readiness import READ
from chatserver.net.scheduler import QUANTUM
from chatserver.net.states import Priority, State
from tests.net.polled import polled
from tests.support.parked import Parked, take
from tests.support.serving import eventually
from tests.support.troubled import BIG

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize(
    ("least", "others", "lasts"),
    [(0.0, False, PASS), (0.0, True, 0.0), (0.002, True, 0.002), (0.01, True, 0.01), (0.01, False, 0.01)],
)
def test_a_pass_ends_for_other_tasks_after_its_share(
    it: Parked, monkeypatch: pytest.MonkeyPatch, least: float, others: bool, lasts: float
) -> None:
    """Without a share, tasks of 8,000 clients that join room after room take most of the loop: a p99 of 250 ms.

    A join that needs the log is four steps of a task: if each waits for a whole pass, a newcomer waits 15 ms beside
    8,000 peers that flood with pings.
    """
    monkeypatch.setattr(poller, "others_can_run", lambda: others)
    now, work = 100.0, QUANTUM[Priority.NORMAL]

    def pass_time(connection: Connection) -> None:
        nonlocal now
        now += work

    for module in (poller, scheduler):
        monkeypatch.setattr(module, "perf_counter", lambda: now)
    it.recorder.on["received"] = pass_time
    for number in range(100):
        _, peer = it.place(State.KEEPALIVE, address=f"192.0.2.{number}")
        peer.send(b"x")
    began = now
    it.poller._pass(least)
    assert max(lasts, work) == pytest.approx(now - began, abs=1.01 * work)
    assert len(it.of("received")) == round((now - began) / work)


@pytest.mark.parametrize(("events", "polls"), [(1, 1), (MANY_EVENTS - 1, 1), (MANY_EVENTS, 2)])
def test_the_kernel_is_asked_again_after_many_events(
    it: Parked, monkeypatch: pytest.MonkeyPatch, events: int, polls: int
) -> None:
    """After few, which one pass reads in a moment, it mostly knows of no others."""
    monkeypatch.setattr(poller, "others_can_run", lambda: False)
    for module in (poller, scheduler):
        monkeypatch.setattr(module, "perf_counter", lambda: 0.0)  # a busy machine may stop us for longer than a pass
    ready = mock.Mock(wraps=it.readiness.ready)
    monkeypatch.setattr(it.readiness, "ready", ready)
    for _ in range(events):
        it.place(State.KEEPALIVE)[1].send(b"x")
    assert not it.poller._pass(0.0)
    assert (len(it.of("received")), ready.call_count) == (events, polls)


@pytest.mark.parametrize(("took", "least"), [(0.001, SHARE * 0.001), (1.0, LONGEST_PASS)])
async def test_time_of_other_tasks_lengthens_the_next_pass_and_sleep_does_not(
    it: Parked, monkeypatch: pytest.MonkeyPatch, took: float, least: float
) -> None:
    asked, passes = itertools.count(), []
    monkeypatch.setattr(poller, "thread_time", lambda: next(asked) * took)

    def note(least: float) -> bool:
        passes.append(least)
        if len(passes) >= 3:
            it.turn_over()
        return not it.connections.scheduler.idle

    monkeypatch.setattr(it.poller, "_pass", note)
    work = it.connections.scheduler.submit
    work(Priority.BULK, lambda item: False, object())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.poller.run)
        await trio.testing.wait_all_tasks_blocked()
        work(Priority.BULK, lambda item: False, object())
        await eventually(lambda: len(passes) == 4)
        nursery.cancel_scope.cancel()
    assert passes == pytest.approx([0.0, least, least, 0.0])


async def test_other_tasks_run_between_passes_that_leave_work(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    passes: list[int] = []

    def note(least: float) -> bool:
        passes.append(turns)
        return len(passes) < 5

    monkeypatch.setattr(it.poller, "_pass", note)
    it.connections.scheduler.submit(Priority.BULK, lambda item: False, object())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.poller.run)
        while len(passes) < 5:
            turns += 1
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert passes[4] - passes[0] >= 3, "in each round of the loop both run, in any order"


@pytest.mark.parametrize(
    ("states", "naps"), [([State.PINGED], True), ([State.OPEN], False), ([State.PINGED, State.OPEN], False)]
)
def test_after_a_pass_of_pongs_only_the_poller_naps(it: Parked, states: list[State], naps: bool) -> None:
    for state in states:
        it.place(state)[1].send(b"x")
    it.poller._pass(60.0)
    assert (len(it.of("received")), it.poller.naps) == (len(states), naps)


async def test_after_a_nap_the_poller_sleeps_until_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async with polled() as it:
        passes, run_pass = [], it.poller._pass

        def note(least: float) -> bool:
            passes.append(trio.current_time())
            return run_pass(least)

        monkeypatch.setattr(it.poller, "_pass", note)
        it.place(State.PINGED)[1].send(b"x")
        await it.until(lambda: len(it.of("received")) == 1)
        await trio.sleep(10 * PONG_NAP)
        assert len(passes) == 2
        assert passes[1] - passes[0] >= PONG_NAP


def test_the_poller_does_not_nap_after_it_has_accepted(it: Parked) -> None:
    """The newcomer's first bytes are here at once. The pass ends before its time, since nothing is left."""
    it.readiness.add(it.listener.descriptor, READ)
    it.knock()
    it.poller._pass(60.0)
    assert (it.connections.held, it.poller.naps) == (1, False)


async def test_a_deferred_call_is_made_before_the_loop_waits_and_after_a_round_that_leaves_work() -> None:
    """By whatever task it is deferred; a pass may last long."""
    made: list[str] = []
    left = ["by a step"]
    async with polled() as it:
        scheduler = it.connections.scheduler
        scheduler.defer(partial(made.append, "by another task"))
        assert made == []
        await trio.testing.wait_all_tasks_blocked()
        assert made == ["by another task"]

        def step(_: object) -> bool:
            while left:
                scheduler.defer(partial(made.append, left.pop()))
            return len(made) == 1

        scheduler.submit(Priority.BULK, step, None)
        assert not it.poller._pass(0.1), "this step goes on until the call is made"
        assert made == ["by another task", "by a step"]


async def test_a_task_that_can_run_is_seen(it: Parked) -> None:
    assert not poller.others_can_run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        assert poller.others_can_run()
    assert not poller.others_can_run()


# -- expiries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.2, 10.0])
async def test_expiry_reaches_the_handler(autojump_clock: trio.testing.MockClock, seconds: float) -> None:
    """The wheel is woken for a deadline before the end of its nap."""
    async with polled(head_deadline=seconds) as it:
        times: list[float] = []
        it.recorder.on["expired"] = lambda each: times.append(trio.current_time())
        connection, _ = it.connect()
        begun = trio.current_time()
        await it.until(lambda: it.of("expired") == [connection])
        assert times == [pytest.approx(begun + seconds, abs=0.11)]
        assert max(it.ticks) < 0.1, "it was never late"


async def test_a_stall_of_the_loop_is_a_late_tick(autojump_clock: trio.testing.MockClock) -> None:
    """The start of a pass moves all deadlines by a longer stall, and the tick after it counted as late by nothing.

    So `chatserver_loop_lag_seconds` never exceeded 0.2 s, and its alert did not fire for a loop that stood still for
    half of the time.
    """
    async with polled() as it:
        before = len(it.ticks)
        autojump_clock.jump(3.0)
        await it.until(lambda: len(it.ticks) > before)
        assert it.ticks[before] == pytest.approx(2.5, abs=0.6), "it was planned for within a second"


async def test_many_expiries_let_others_run(autojump_clock: trio.testing.MockClock) -> None:
    crowd = 4 * MAX_EXPIRED
    async with polled(head_deadline=1.0, total=2 * crowd) as it:
        for _ in range(crowd):
            it.connect()
        submitted: list[int] = []
        expire = it.poller.expire

        def note(connection: Connection) -> None:
            expire(connection)
            submitted.append(len(it.of("expired")))

        it.poller.expire = note  # type: ignore[method-assign]
        await it.until(lambda: len(it.of("expired")) == crowd)
        assert submitted[0] == 0
        assert submitted[-1] > 0, "the first are handled before the last are submitted"


async def test_a_fault_in_an_expiry_ends_that_connection_and_the_others_of_its_slot_expire(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """They had no deadline any more, nor had any later connection with their descriptors."""
    async with polled(head_deadline=1.0) as it:
        broken, *others = [it.connect()[0] for _ in range(4)]
        expire = it.poller.expire

        def fail(connection: Connection) -> None:
            if connection is broken:
                raise KeyError("a bug")
            expire(connection)

        it.poller.expire = fail  # type: ignore[method-assign]
        await it.until(lambda: it.of("expired") == others)
        assert it.of("faulted") == [broken]
        it.faults = 1


def waiting(it: Parked) -> int:
    return sum(it.connections.scheduler.statistics().values())


def test_a_peer_that_reads_slowly_and_sends_ahead_is_queued_once(it: Parked) -> None:
    """Otherwise 8,000 members that join and leave a busy room without a pause fill memory: 16,000 entries a second."""
    connection, peer = it.place(State.OPEN)
    for _ in range(50):
        it.connections.resume(connection, later=True)  # there are frames left in its inbox
        it.connections.send(connection, BIG)
        assert connection.blocked
        take(peer)
        it.poller._gather()
        it.connections.resume(connection)  # an answer of the log
        assert waiting(it) == 1
        it.connections.scheduler.round()
        assert it.of("resumed") == [connection]
        it.recorder.events.clear()
        it.poller._gather()
        it.connections.resume(connection)
        assert waiting(it) == 1
        it.drain(connection, peer)
        it.turn_over()
        assert it.of("writable")
        assert it.of("resumed") == [connection], "although it was queued for something else when it was resumed"
        it.recorder.events.clear()


def test_a_connection_resumed_when_its_bytes_wait_is_resumed_and_read(it: Parked) -> None:
    connection, peer = it.place(State.KEEPALIVE)
    peer.send(b"x")
    it.poller._gather()
    it.connections.enter(connection, State.SERVING, object())
    it.connections.resume(connection)
    assert waiting(it) == 1
    it.recorder.on["resumed"] = lambda each: it.connections.enter(each, State.KEEPALIVE)
    it.turn_over()
    assert [event for event, _, _ in it.recorder.events] == ["resumed", "released", "received"]
    assert it.details("received") == [b"x"]
    it.connections.resume(connection)
    peer.send(b"y")
    it.poller._gather()
    assert waiting(it) == 1, "it is armed and queued"
    it.turn_over()
    assert it.details("received") == [b"x", b"y"]


@pytest.mark.parametrize("size", [0, 1, 2 * READ_BYTES])
def test_a_connection_resumed_while_a_read_of_it_is_queued_is_resumed(it: Parked, size: int) -> None:
    """Whatever the read finds: under TLS, bytes that are no whole record are nothing to the handler."""
    connection, peer = it.place(State.KEEPALIVE, small=False)
    peer.send(bytes(size or 1))
    it.poller._gather()
    it.connections.resume(connection)
    if not size:
        os.read(connection.descriptor, 1)
    polled: list[int] = []
    it.recorder.on["resumed"] = lambda each: polled.append(it.armed(each))
    it.turn_over()
    assert it.of("resumed") == [connection]
    assert polled == [0], "while it is queued its events would be gathered as well"
    assert sum(len(data) for data in it.details("received") if isinstance(data, bytes)) == size


def test_a_connection_that_its_handler_resumes_in_a_full_read_is_queued_once(it: Parked) -> None:
    """An upgrade with frames behind it that fill a read: no other read of it is queued beside its resumption."""
    _, peer = it.place(State.KEEPALIVE, small=False)
    left: list[int] = []
    it.recorder.on["received"] = it.connections.resume
    it.recorder.on["resumed"] = lambda each: left.append(waiting(it))
    peer.send(bytes(READ_BYTES))
    it.poller._gather()
    it.run_rounds()
    assert left == [0]


def test_a_peer_reported_behind_one_that_is_queued_is_read(it: Parked) -> None:
    """It is armed for one event, so it would never be read."""
    peers = [it.place(State.KEEPALIVE) for _ in range(3)]
    it.connections.resume(peers[1][0])
    for _, peer in peers:
        peer.send(b"x")
    it.poller._gather()
    it.turn_over()
    assert set(it.of("received")) == {connection for connection, _ in peers}
