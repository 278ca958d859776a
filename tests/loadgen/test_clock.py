"""What counts as the generator's own lateness, and what does not."""

import time

import trio

from loadgen.timers import now
from loadgen.victims.clock import LOOK_SECONDS, Clock


async def test_it_wakes_at_the_moment_and_not_before() -> None:
    clock = Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        due = now() + 0.05
        await clock.sleep_until(due)
        assert now() >= due
        nursery.cancel_scope.cancel()


async def test_who_comes_late_from_a_slow_server_is_not_our_own_lateness() -> None:
    clock = Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        for _ in range(5):
            await clock.sleep_until(now() - 60)
        await clock.sleep_until(now() + 0.05)
        nursery.cancel_scope.cancel()
    assert clock.lag.count
    assert clock.lag.longest is not None
    assert clock.lag.longest < 30


async def test_a_process_that_stood_still_counts_for_as_long_as_it_did() -> None:
    clock = Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        await clock.sleep_until(now() + 0.02)
        before = clock.lag.count
        time.sleep(0.5)  # noqa: ASYNC251  that nothing else runs is the point
        await clock.sleep_until(now())
        nursery.cancel_scope.cancel()
    assert clock.lag.longest is not None
    assert clock.lag.longest >= 0.49
    assert clock.lag.count - before >= 0.49 / LOOK_SECONDS
