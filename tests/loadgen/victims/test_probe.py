"""When operations are due, how they are booked, and what counts as the generator's own lateness."""

import os
import time
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
import trio

from loadgen.net import sockets, target
from loadgen.net.answers import NO_TURN, UNANSWERED
from loadgen.net.target import FIRST_VICTIM
from loadgen.net.timers import now
from loadgen.report.latency import LOOK_SECONDS
from loadgen.victims.probe import Clock, Context, Recorder, Schedule
from tests.loadgen.stage import listening
from tests.support.darkness import needs_darkness


async def test_who_comes_late_from_a_slow_server_is_not_our_own_lateness() -> None:
    clock = Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        for _ in range(5):
            await clock.sleep_until(now() - 60)
        due = now() + 0.05
        await clock.sleep_until(due)
        assert now() >= due
        nursery.cancel_scope.cancel()
    [late] = clock.lag.phases.values()
    assert 0 < (late.looks.longest or 0) < 30


async def test_a_process_that_stood_still_counts_for_as_long_as_it_did() -> None:
    clock, began = Clock(), now()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        await clock.sleep_until(now() + 0.02)
        clock.lag.begin("still")
        most = now() - began
        time.sleep(0.5)  # noqa: ASYNC251  that nothing else runs is the point
        await clock.sleep_until(now())
        nursery.cancel_scope.cancel()
    before, still = (late.looks for late in clock.lag.phases.values())
    assert (before.longest or 0) <= most, "lateness is booked in its own phase"
    assert (still.longest or 0) >= 0.5 - LOOK_SECONDS
    assert still.count >= 0.49 / LOOK_SECONDS


async def test_a_task_that_wakes_as_the_clock_ends_with_the_run_sleeps_no_more() -> None:
    """The timer was closed: on a busy machine the victims' process could end with a traceback."""
    clock, ended, slept = Clock(), trio.Event(), []

    async def run() -> None:
        try:
            await clock.run()
        finally:
            ended.set()

    async def sleep() -> None:
        with trio.CancelScope(shield=True):
            await ended.wait()
        slept.append("begun")
        await clock.sleep_until(now())
        slept.append("ended")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(sleep)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert slept == ["begun"]


async def test_a_clock_is_set_to_the_next_alarm_or_look_whichever_is_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Victims that begin with the next look would be late by the time between two, and a server be blamed for it."""
    clock, times = Clock(), list[float]()
    monkeypatch.setattr(clock._wake, "set", times.append)
    clock.lag.next_look = 50.0
    async with trio.open_nursery() as nursery:
        for when in (60.0, 40.0, 45.0):
            nursery.start_soon(clock.sleep_until, when)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    clock._wake.close()
    assert times == [50.0, 40.0, 40.0]


async def test_what_a_victim_read_late_is_noted() -> None:
    async with listening() as server:
        context = Context(target.find(server.url), "late")
        async with context.dial(1) as line:
            peer = await server.accept()
            assert peer.socket.getpeername()[0] == context.target.source(FIRST_VICTIM + 1), "each has its own"
            os.write(peer.socket.fileno(), b"answer")
            time.sleep(0.3)  # noqa: ASYNC251  that nothing else runs is the point
            assert await line.receive() == b"answer"
    [late] = context.clock.lag.phases.values()
    assert (late.reading.longest or 0) >= 0.2


@needs_darkness
async def test_victims_whose_packets_are_lost_before_the_attack_are_noted() -> None:
    """In the attack an overloaded target may drop packets itself."""
    async with listening() as server:
        context = Context(target.find(server.url), "lossy")
        for index, is_lossy in enumerate((True, False, True)):
            if is_lossy:
                context.recorder.begin("attack" if index else "baseline")
            async with context.dial(index) as line:
                peer = (await server.accept()).socket.fileno()
                if is_lossy:
                    sockets.deafen(peer)
                await line.send(b"request")
                while is_lossy and not sockets.has_sent_again(line.fileno):  # noqa: ASYNC110  the kernel does, after 0.2 s
                    await trio.sleep(0.01)
                if is_lossy:
                    sockets.undeafen(peer)
                os.write(peer, b"answer")
                assert await line.receive() == b"answer"
        assert context.sent_again == {0}


def test_stretches_that_follow_each_other_have_every_operation_once() -> None:
    """A stretch has its beginning and not its end, also where an operation is due just then."""
    random = Random(1)
    for _ in range(50):
        schedule = Schedule(random.uniform(0, 1e6), random.choice((0.1, 0.3, 1 / 3, 2.0)))
        some = [schedule.first + random.uniform(-5, 60) for _ in range(6)]
        marks = sorted([*some, schedule.first, schedule.due(3), schedule.due(4)])
        issued = [schedule.due(number) for number in range(1_000)]
        for begin, end in pairwise(marks):
            assert schedule.count_between(begin, end) == sum(begin <= due < end for due in issued)
            assert schedule.count_between(end, begin) == 0


# Bookings


def test_a_failure_takes_the_whole_timeout_and_counts_where_it_was_due() -> None:
    """With a timeout of 5 s one was said to have taken 10 s: it was noticed at the end of the run."""
    recorder = Recorder()
    recorder.timeout_seconds = 5.0
    before = now() - 9.0
    recorder.begin("attack")
    begun, _ = recorder.phases[-1]
    for victim, due, reason in (
        (0, before, "closed"),
        (0, begun, ""),
        (1, begun + 0.2, "closed"),
        (1, begun + 0.1, "answered 503"),
        (1, begun + 0.3, "closed"),
    ):
        recorder.book("ws", victim, due, reason)
    warm_up, attack = recorder.results(Counter({("attack", "ws"): 3}))
    assert (warm_up.phase, warm_up.failed, warm_up.first_failure, warm_up.expected) == ("", {"closed": 1}, before, 0)
    assert warm_up.latency.longest == 5.0
    assert (attack.failed, attack.latency.count, attack.expected) == ({"closed": 2, "answered 503": 1}, 4, 3)
    assert (attack.first_failure, attack.latency.longest, attack.worst_median) == (begun + 0.1, 5.0, 5.0)
    assert 0 <= (attack.latency.at(1) or 0) < 4, "what succeeded took as long as it did"
    taken = recorder.recent.take()
    assert (taken.latency.count, taken.failed) == (1, [before, begun + 0.2, begun + 0.1, begun + 0.3])
    assert not recorder.recent.failed
    assert not recorder.recent.latency.count


@pytest.mark.parametrize(
    ("number", "apart", "answered", "reason", "is_outage"),
    [
        (100, 0.051, (), UNANSWERED, True),
        (100, 0.051, (7.0,), UNANSWERED, False),  # one was answered meanwhile
        (100, 0.050, (), UNANSWERED, False),  # not for a whole timeout
        (99, 0.060, (), UNANSWERED, False),  # not a hundred
        (100, 0.051, (), NO_TURN, False),  # other answers came
        (100, 0.051, (), "closed", False),  # no lateness anyway
    ],
)
def test_that_nobody_is_answered_for_a_whole_timeout_is_an_outage(
    number: int, apart: float, answered: tuple[float, ...], reason: str, is_outage: bool
) -> None:
    """Slow clients stopped a server of few threads, and that somebody was answered before made this mere lateness."""
    recorder = Recorder()
    recorder.timeout_seconds, start = 5.0, now()
    recorder.phases = [(start - 100, "before"), (start, "attack")]
    for at in range(number):
        recorder.book("ws", 0, start + 3 + at * apart, reason)
    for due in (-50, 1, 2, *answered, 11):
        recorder.book("new-ws", 0, start + due)
    found = {(each.phase, each.outage) for each in recorder.results(Counter())}
    assert found == {("before", False), ("attack", is_outage)}
