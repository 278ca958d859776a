"""Searching a limit: the steps, the end, and what an unclear answer does."""

from itertools import count

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen
from loadgen.fingerprint.search import UnclearError, search

FOREVER = float("inf")


async def find(limit: float, first: int = 8, most: int = 1 << 20, *, sizes: list[int] | None = None) -> Finding:
    async def attempt(size: int) -> str | None:
        if sizes is not None:
            sizes.append(size)
        return "413" if size > limit else None

    return await search(attempt, first=first, most=most, until=FOREVER)


@settings(deadline=None)
@given(limit=st.integers(8, (1 << 17) - 1))
def test_small_limits_are_found_exactly(limit: int) -> None:
    assert trio.run(find, limit) == Found(value=limit, uncertainty=1, how="413")


@settings(deadline=None)
@given(limit=st.integers(1 << 17, (1 << 20) - 1))
def test_large_limits_are_found_to_one_part_in_256(limit: int) -> None:
    found = trio.run(find, limit)
    assert isinstance(found, Found)
    assert found.value <= limit < found.value + found.uncertainty
    assert found.uncertainty <= limit / 256 + 1


async def test_the_steps_double_and_then_halve_and_then_ask_at_both_edges() -> None:
    sizes: list[int] = []
    await find(21, sizes=sizes)
    assert sizes == [8, 16, 32, 24, 20, 22, 21, 22, 21]


async def test_no_limit() -> None:
    sizes: list[int] = []
    assert await find(FOREVER, most=100, sizes=sizes) == NoneSeen(looked=100)
    assert sizes == [8, 16, 32, 64, 100, 100]


@settings(deadline=None)
@given(limit=st.integers(8, 5000), at=st.integers(0, 30), refused=st.booleans())
def test_one_accident_is_no_limit(limit: int, at: int, refused: bool) -> None:
    """A single RST was once an exact limit. An answer that is yes by accident is none either."""

    async def find() -> Finding:
        steps = count()

        async def attempt(size: int) -> str | None:
            passes = not refused if next(steps) == at else size <= limit
            return None if passes else "RST"

        return await search(attempt, first=8, most=1 << 20, until=FOREVER)

    assert trio.run(find) == Found(value=limit, uncertainty=1, how="RST")


async def test_a_server_that_lets_through_what_it_refused_before_has_no_limit() -> None:
    asked: set[int] = set()

    async def attempt(size: int) -> str | None:
        again = size in asked
        asked.add(size)
        return None if again else "RST"

    finding = await search(attempt, first=8, most=1 << 20, until=FOREVER)
    assert isinstance(finding, Failed)
    assert finding.why.startswith("the same size is let through and refused")


async def test_a_limit_below_the_first_step() -> None:
    assert await find(3) == Found(value=0, uncertainty=8, how="413")


async def test_an_unclear_step_is_tried_once_more(autojump_clock: MockClock) -> None:
    answers = iter([UnclearError("answered 503"), None, None, "413", "413", "413", "413", None])

    async def attempt(size: int) -> str | None:
        answer = next(answers)
        if isinstance(answer, UnclearError):
            raise answer
        return answer

    assert await search(attempt, first=2, most=1 << 20, until=FOREVER) == Found(value=4, uncertainty=1, how="413")


@pytest.mark.parametrize(
    ("clear_to", "limit", "expected"),
    [
        (0, FOREVER, Failed(why="no answer")),
        (64, FOREVER, NoneSeen(looked=64, how="no answer")),
        (20, 30, NoneSeen(looked=16, how="no answer")),
    ],
)
async def test_a_search_that_stays_unclear_says_how_far_it_came(
    clear_to: int, limit: float, expected: Finding, autojump_clock: MockClock
) -> None:
    async def attempt(size: int) -> str | None:
        if size > clear_to:
            raise UnclearError("no answer")
        return "413" if size > limit else None

    assert await search(attempt, first=8, most=1 << 20, until=FOREVER) == expected


async def test_unclear_while_halving(autojump_clock: MockClock) -> None:
    async def attempt(size: int) -> str | None:
        if size == 24:
            raise UnclearError("no answer")
        return "413" if size > 30 else None

    finding = await search(attempt, first=8, most=1 << 20, until=FOREVER)
    assert finding == Found(value=16, uncertainty=16, how="413; then no answer")


async def test_when_time_is_over(autojump_clock: MockClock) -> None:
    async def attempt(size: int) -> str | None:
        await trio.sleep(1)
        return None

    until = trio.current_time() + 3.5
    finding = await search(attempt, first=8, most=1 << 20, until=until)
    assert finding == NoneSeen(looked=32, how="time was over")
    finding = await search(attempt, first=8, most=1 << 20, until=until)
    assert finding == Failed(why="no step of the search was answered in time")
