"""The histogram of the loop's passes."""

from chatserver.observe.loop import BUCKETS, Durations
from chatserver.observe.metrics import _histogram


def test_durations_are_counted_by_upper_bounds_with_their_sum_and_maximum() -> None:
    durations, total = Durations(), 0.0
    for seconds in (0.0, BUCKETS[0], 2.0**-9, 2.0, 0.25, 0.5):
        durations.add(seconds)
        total += seconds
    assert durations.longest == 2.0
    *counted, (_, sum_) = [(sample.name, sample.value) for sample in _histogram("passes", "", durations).samples]
    assert counted == [
        *(("passes_bucket", count) for count in (2, 3, 3, 3, 3, 3, 3, 4, 5, 6, 6)), ("passes_count", 6),
    ]  # fmt: skip
    assert sum_ == total
