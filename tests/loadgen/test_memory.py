"""What attackers cost a server, told apart from what its victims' messages do."""

from hypothesis import given
from hypothesis import strategies as st

from loadgen.span import Growth, Size

MB = 1_000_000


def baseline(rate: int, *, jump: int = 0, after: int = 0) -> list[Size]:
    """Three seconds of a server that grows by `rate` a second, and once by more."""
    return [Size(10 + at / 2, 80 * MB + (jump if at > after else 0) + rate * at // 2) for at in range(7)]


@given(rate=st.integers(0, 500_000), cost=st.integers(0, 50 * MB), after=st.integers(1, 20), jump=st.integers(0, 5))
def test_what_victims_say_is_taken_off(rate: int, cost: int, after: int, jump: int) -> None:
    """And that alone: whatever the server needed once, for its first work, it does not need again and again."""
    grown = Growth(baseline(rate, jump=3 * MB, after=jump))
    last = 80 * MB + 3 * MB + 3 * rate
    found = grown.beyond(Size(13 + after, last + rate * after + cost))
    assert found is not None
    assert abs(found - cost) <= 10 * after, "but for rounding"


def test_the_worst_moment_counts() -> None:
    grown = Growth(baseline(0))
    assert grown.most([Size(14, 81 * MB), Size(15, 88 * MB), Size(16, 82 * MB)]) == 8 * MB
    assert grown.most([]) is None


def test_a_baseline_that_shrinks_or_is_short_explains_nothing() -> None:
    assert Growth(baseline(-100_000)).rate == 0
    assert Growth(baseline(100_000)[:3]).rate == 0
    assert Growth([Size(0, 80 * MB)]).beyond(Size(1, 81 * MB)) == MB
    assert Growth([]).beyond(Size(1, MB)) is None
    assert Growth([]).most([Size(1, MB)]) is None
