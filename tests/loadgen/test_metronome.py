"""What counts as the generator's own lateness, and what does not."""

import time

import trio

from loadgen.timers import now
from loadgen.victims.metronome import LOOK_SECONDS, Metronome


async def test_it_wakes_at_the_moment_and_not_before() -> None:
    metronome = Metronome()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metronome.run)
        due = now() + 0.05
        await metronome.sleep_until(due)
        assert now() >= due
        nursery.cancel_scope.cancel()


async def test_who_comes_late_from_a_slow_server_is_not_our_own_lateness() -> None:
    metronome = Metronome()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metronome.run)
        for _ in range(5):
            await metronome.sleep_until(now() - 60)
        await metronome.sleep_until(now() + 0.05)
        nursery.cancel_scope.cancel()
    assert metronome.lag.count
    assert metronome.lag.longest is not None
    assert metronome.lag.longest < 30


async def test_a_process_that_stood_still_counts_for_as_long_as_it_did() -> None:
    metronome = Metronome()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metronome.run)
        await metronome.sleep_until(now() + 0.02)
        before = metronome.lag.count
        time.sleep(0.5)  # noqa: ASYNC251  that nothing else runs is the point
        await metronome.sleep_until(now())
        nursery.cancel_scope.cancel()
    assert metronome.lag.longest is not None
    assert metronome.lag.longest >= 0.49
    assert metronome.lag.count - before >= 0.49 / LOOK_SECONDS
