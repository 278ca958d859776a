"""When messages are due: a schedule that depends on nothing but its rates."""

from random import Random
from typing import ClassVar

import pytest

from loadgen.latency import Lag
from loadgen.traffic import Pace, Traffic


def test_a_steady_rate() -> None:
    pace = Pace(10.0, 4.0, 4.0, 0.0)
    assert [pace.due(number) for number in range(3)] == [10.0, 10.25, 10.5]
    assert Pace(10.0, 0.0, 0.0, 0.0).due(0) == float("inf")


@pytest.mark.parametrize(("begin", "end"), [(0.0, 100.0), (100.0, 0.0), (20.0, 60.0), (50.0, 50.0)])
def test_a_rate_grows_evenly_to_the_other(begin: float, end: float) -> None:
    pace = Pace(0.0, begin, end, 10.0)
    dues = [pace.due(number) for number in range(1200)]
    assert dues == sorted(dues)
    total = (begin + end) / 2 * 10
    half = (begin + (begin + end) / 2) / 2 * 5
    assert sum(due < 10.0 for due in dues) == pytest.approx(total, abs=1.5)
    assert sum(due < 5.0 for due in dues) == pytest.approx(half, abs=1.5)
    if end:
        after = [due for due in dues if due >= 10.0][:2]
        assert after[1] - after[0] == pytest.approx(1 / end)


class _Mute:
    """A speaker whose server never answers."""

    index = 0
    room = "lobby"
    echoes: ClassVar[bool] = False

    def publish(self, number: int, text: str) -> None:
        pass


def test_only_who_has_come_can_be_missed() -> None:
    """A scenario may open its speakers in the phase in which they speak: what is due before that is nobody's."""
    traffic, speaker = Traffic(Random(1), at=lambda when, action: None, lag=Lag()), _Mute()
    traffic.start(1.0)  # one message is due at once
    assert (traffic.intended, traffic.result().unsent) == (1, 0)
    traffic.enter(speaker)
    traffic.start(1.0)
    assert traffic.result().unacknowledged == 1
    traffic.leave(speaker)
    traffic.start(1.0)
    assert traffic.result().unsent == 1, "the server ended the only one"
