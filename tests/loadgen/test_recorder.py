"""How operations are booked: a failure takes the whole timeout, in the phase in which it was due."""

from collections import Counter

from loadgen.timers import now
from loadgen.victims.probe import Recorder


def test_a_failure_takes_the_whole_timeout_and_counts_where_it_was_due() -> None:
    recorder = Recorder()
    recorder.timeout_seconds = 5.0
    before = now()
    recorder.begin("attack")
    for victim, due, reason in (
        (0, before, "closed"),
        (0, now(), ""),
        (1, now(), "closed"),
        (1, now(), "answered 503"),
    ):
        recorder.book("ws", victim, due, reason)
    attack, warm_up = recorder.results(Counter({("attack", "ws"): 3}))
    assert (warm_up.phase, warm_up.failed, warm_up.first_failure, warm_up.expected) == (
        "warm-up",
        {"closed": 1},
        before,
        0,
    )
    assert (attack.failed, attack.latency.count, attack.expected) == ({"closed": 1, "answered 503": 1}, 3, 3)
    assert (attack.latency.at(50) or 0) >= 4.99, "two of three failed at once"
    assert (attack.worst_median or 0) >= 5.0, "of the second victim"
    taken = recorder.recent.take()
    assert (taken.latency.count, taken.failed) == (1, 3)
    assert recorder.recent.failed == recorder.recent.latency.count == 0
