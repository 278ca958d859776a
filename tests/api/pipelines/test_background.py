"""Steps after an answer: their number and time are bounded, and a fault in one affects no other."""

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.api.pipelines import background as module
from chatserver.api.pipelines.background import BACKGROUND_DEADLINE, BackgroundSteps
from chatserver.log.interface import LogUnavailable


async def test_steps_over_the_bound_are_skipped_and_logged_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """This happens when the disk does not answer while searches are answered from the cache."""
    monkeypatch.setattr(module, "MAX_RUNNING", 3)
    done: list[int] = []

    async def step(number: int) -> None:
        await trio.sleep(1)
        done.append(number)

    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            after = BackgroundSteps(nursery, print)
            for number in range(6):
                after.start(step, number)
            assert after.running == 3
            await trio.sleep(2)
            after.start(step, 6)
            assert after.running == 1
            for number in range(7, 10):
                after.start(step, number)
    assert sorted(done) == [0, 1, 2, 6, 7, 8]
    assert [line["event"] for line in lines] == ["not_stored"] * 2, "once each time"


async def test_a_step_that_hangs_or_fails_releases_its_place(autojump_clock: trio.testing.MockClock) -> None:
    caught: list[object] = []

    async def fail(error: Exception) -> None:
        raise error

    async with trio.open_nursery() as nursery:
        after = BackgroundSteps(nursery, caught.append)
        after.start(trio.sleep_forever)
        after.start(fail, LogUnavailable("the disk is full"))
        after.start(fail, ZeroDivisionError())
        await trio.sleep(BACKGROUND_DEADLINE / 2)
        assert after.running == 1
    assert after.running == 0
    assert caught == [after]
