"""The arithmetic of figures and of memory, on readings that the test makes up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import bar
from loadgen.measured import recover_seconds
from loadgen.report import Sample
from loadgen.span import Growth, Size


def entry(seconds: float, *, phase: str = "recovery", succeeded: int = 50, failed: int = 0, p99: float = 1.0) -> Sample:
    return Sample(
        seconds=seconds, phase=phase, held={}, ended={}, refused={}, succeeded=succeeded, failed=failed, p99_ms=p99
    )


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ([entry(20.7), entry(21.7)], 0.0),
        ([entry(20.7, failed=1), entry(21.7)], 0.5),
        ([entry(20.7), entry(21.7, p99=99.0), entry(22.7), entry(23.2)], 1.5),
        ([entry(20.7), entry(21.7, succeeded=0), entry(22.7)], 1.5),
        ([entry(20.7), entry(21.7, failed=1)], None),
        ([entry(20.7), entry(21.7), entry(21.75, succeeded=0)], 0.0),  # too short for an operation to end in it
        ([entry(20.7), entry(21.7, failed=1), entry(21.75, succeeded=0)], None),
        ([], None),
    ],
)
def test_recovery_is_measured_in_seconds_whatever_the_entries_of_the_timeline_are(
    entries: list[Sample], seconds: float | None
) -> None:
    """An entry was taken for a second, and a phase ends with an entry of any length."""
    timeline = [entry(19.7, phase="attack", failed=3), entry(20.2, phase="attack", failed=3), *entries]
    assert recover_seconds(timeline, {"recovery"}, 10.0) == seconds


def test_without_a_bar_nothing_is_said_of_the_recovery() -> None:
    assert recover_seconds([entry(1.0, phase="attack"), entry(2.0)], {"recovery"}, None) is None


def test_tls_costs_memory_that_no_server_can_save() -> None:
    """OpenSSL's 14 KB for each were over a limit of 2 KiB in every row."""
    assert (bar.allowed_bytes(100, tls=False), bar.allowed_bytes(100, tls=False, left=True)) == (729_088, 626_688)
    assert bar.allowed_bytes(100, tls=True) > 100 * 43_000
    assert bar.allowed_bytes(100, tls=True, left=True) > 100 * 14_000


# Memory


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
