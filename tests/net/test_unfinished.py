"""The count of what is not whole: what is small is anybody's, what is long is bounded for all together."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.unfinished import SMALL, Unfinished


class Kept(msgspec.Struct):
    counted: int = 0


def test_what_is_kept_is_counted_once_and_given_back_once() -> None:
    unfinished = Unfinished(100_000)
    one, other = Kept(), Kept()
    assert unfinished.fits(one, 3000)
    assert unfinished.fits(other, 4000)
    assert unfinished.fits(one, 5000)
    assert unfinished.used == 9000
    unfinished.gone(one)
    unfinished.gone(one)
    assert unfinished.used == 4000
    unfinished.gone(other)
    assert unfinished.used == 0


def test_over_the_bound_whoever_sends_more_is_refused_until_somebody_is_gone() -> None:
    unfinished = Unfinished(10_000)
    one, other = Kept(), Kept()
    assert unfinished.fits(one, 5000)
    assert unfinished.fits(other, 4000)
    assert not unfinished.fits(other, 7000)
    unfinished.gone(other)
    assert unfinished.fits(one, 9000)


def test_a_small_one_is_anybodys_and_not_counted() -> None:
    unfinished = Unfinished(10_000)
    full, small = Kept(), Kept()
    assert unfinished.fits(full, 10_000)
    assert unfinished.fits(small, SMALL)
    assert unfinished.used == 10_000
    assert not unfinished.fits(small, SMALL + 1)


def test_one_that_becomes_small_again_is_counted_no_more() -> None:
    unfinished = Unfinished(10_000)
    one = Kept()
    assert unfinished.fits(one, 9000)
    assert unfinished.fits(one, 10)
    assert unfinished.used == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6000)), max_size=60))
def test_it_is_never_over_its_bound_if_who_is_refused_goes(steps: list[tuple[int, int]]) -> None:
    unfinished, keepers = Unfinished(12_000), [Kept() for _ in range(6)]
    lengths = [0] * 6
    for which, kept in steps:
        lengths[which] = kept
        if not unfinished.fits(keepers[which], kept):
            unfinished.gone(keepers[which])
            lengths[which] = 0
        assert unfinished.used == sum(length for length in lengths if length > SMALL) <= 12_000
