"""When operations are due, and how many in a stretch: arithmetic that must agree with the clock's own counting."""

from itertools import pairwise
from random import Random

import pytest

from loadgen.victims.clock import Schedule


@pytest.mark.parametrize(
    ("begin", "end", "count"),
    [
        (0.0, 10.0, 0),
        (10.0, 10.0, 0),
        (10.0, 10.05, 1),
        (10.0, 11.0, 10),
        (10.1, 10.2, 1),
        (9.0, 10.25, 3),
        (12, 11, 0),
    ],
)
def test_a_stretch_has_its_beginning_and_not_its_end(begin: float, end: float, count: int) -> None:
    assert Schedule(10.0, 0.1).count_between(begin, end) == count


def test_stretches_that_follow_each_other_have_every_operation_once() -> None:
    random = Random(1)
    for _ in range(200):
        schedule = Schedule(random.uniform(0, 1e6), random.choice((0.1, 0.3, 1 / 3, 2.0)))
        marks = sorted(schedule.first + random.uniform(-5, 60) for _ in range(6))
        issued = [schedule.due(number) for number in range(1_000)]
        for begin, end in pairwise(marks):
            assert schedule.count_between(begin, end) == sum(begin <= due < end for due in issued)
