"""The histogram of the loop's passes."""

from chatserver.observe.loop import BUCKETS, Durations


def test_durations_are_counted_by_upper_bounds_with_their_sum_and_maximum() -> None:
    durations = Durations()
    for seconds in (0.0, BUCKETS[0], 2.0**-9, 2.0, 0.25, 0.5):
        durations.add(seconds)
    assert durations.buckets == [2, 1, 0, 0, 0, 0, 0, 1, 1, 1]
    assert (durations.total, durations.longest) == (sum((0.0, BUCKETS[0], 2.0**-9, 2.0, 0.25, 0.5)), 2.0)
