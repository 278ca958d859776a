"""Size limits: the steps and the end of a search, unclear answers, and requests made to a size."""

from collections.abc import Callable
from itertools import count, cycle

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen
from loadgen.fingerprint.probes.sizes import blank, padding, search
from loadgen.fingerprint.site import TurnedAwayError
from loadgen.net.wire import request

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
    assert await find(21, sizes=sizes) == Found(value=21, uncertainty=1, how="413")
    assert sizes == [8, 16, 32, 24, 20, 22, 21, 22, 21]


@pytest.mark.parametrize(
    ("limit", "expected"), [(FOREVER, NoneSeen(looked=100)), (3, Found(value=0, uncertainty=8, how="413"))]
)
async def test_limits_beyond_the_steps(limit: float, expected: Finding) -> None:
    assert await find(limit, most=100) == expected


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
    assert finding == Failed(why="the same size is let through and refused: 17")
    answers = cycle(["RST", None, "RST", "RST"])
    why = "the same size is let through and refused: 9"  # "0", which was not asked for
    assert await told(lambda _: next(answers)) == Failed(why=why)


Said = Callable[[int], str | TurnedAwayError | None]


async def told(said: Said, *, first: int = 8, seconds: float = 0.0, until: float = FOREVER) -> Finding:
    async def attempt(size: int) -> str | None:
        await trio.sleep(seconds)
        answer = said(size)
        if isinstance(answer, TurnedAwayError):
            raise answer
        return answer

    return await search(attempt, first=first, most=1 << 20, until=until)


async def test_an_unclear_step_is_tried_once_more(autojump_clock: MockClock) -> None:
    answers = iter([TurnedAwayError("answered 503"), None, None, "413", "413", "413", "413", None])
    assert await told(lambda _: next(answers), first=2) == Found(value=4, uncertainty=1, how="413")


@pytest.mark.parametrize(
    ("unclear", "limit", "expected"),
    [
        (range(1, 1 << 20), FOREVER, Failed(why="no answer")),
        (range(65, 1 << 20), FOREVER, NoneSeen(looked=64, how="no answer")),
        (range(21, 1 << 20), 30, NoneSeen(looked=16, how="no answer")),
        (range(24, 25), 30, Found(value=16, uncertainty=16, how="413; then no answer")),  # while halving
    ],
)
async def test_a_search_that_stays_unclear_says_how_far_it_came(
    unclear: range, limit: float, expected: Finding, autojump_clock: MockClock
) -> None:
    def said(size: int) -> str | TurnedAwayError | None:
        return TurnedAwayError("no answer") if size in unclear else "413" if size > limit else None

    assert await told(said) == expected


async def test_when_time_is_over(autojump_clock: MockClock) -> None:
    until = trio.current_time() + 3.5
    assert await told(lambda _: None, seconds=1, until=until) == NoneSeen(looked=32, how="time was over")
    nothing = Failed(why="no step of the search was answered in time")
    assert await told(lambda _: None, seconds=1, until=until) == nothing


# -- requests and messages made to a size ------------------------------------------------------------------------------


@settings(deadline=None)
@given(size=st.integers(10, 20_000), line=st.integers(100, 5_000))
def test_padding_takes_exactly_its_bytes(size: int, line: int) -> None:
    def head(*fields: str) -> bytes:
        return request("GET", "/", "127.0.0.1", *fields)

    fields = padding(size, line)
    assert len(head(*fields)) - len(head()) == size
    assert all(9 < len(field + "\r\n") <= line for field in fields)


def test_a_size_of_zero_needs_no_padding() -> None:
    assert padding(0, 4000) == ()


@settings(deadline=None)
@given(size=st.integers(0, 300_000))
def test_blanks_have_exactly_their_size(size: int) -> None:
    assert b"".join(blank(size)) == b" " * size
