"""How findings are worded."""

import pytest

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable, Unit, describe, longest, merge

WORDS: list[tuple[Finding, Unit, str]] = [
    (Found(value=10.018, uncertainty=0.06), Unit.SECONDS, "10.0 s ±0.06"),
    (Found(value=10.018, uncertainty=0.06, others=(10.0, 10.05)), Unit.SECONDS, "10.0 s ±0.06"),
    (Found(value=75, uncertainty=0.06, others=(60, 89)), Unit.SECONDS, "60.0 s to 89.0 s"),
    (Found(value=5, uncertainty=0.06, others=(float("inf"),)), Unit.SECONDS, "5.00 s or more"),
    (Found(value=1, others=(0, 1)), Unit.YES_NO, "not always"),
    (Found(value=2.5, uncertainty=0.3), Unit.SECONDS, "2.50 s ±0.30"),
    (Found(value=16384, uncertainty=1), Unit.BYTES, "16,384 B"),
    (Found(value=16384, uncertainty=64), Unit.BYTES, "16,384 B (to 16,448)"),
    (Found(value=512, uncertainty=256), Unit.RATE, "512 B/s (ended at 256 B/s)"),
    (Found(value=100), Unit.FIELDS, "100 fields"),
    (Found(value=99.07), Unit.PERCENT, "99.07%"),
    (Found(value=1), Unit.YES_NO, "yes"),
    (Found(value=0), Unit.YES_NO, "no"),
    (NoneSeen(looked=105.2), Unit.SECONDS, "none seen within 105 s"),
    (NoneSeen(looked=2.25), Unit.SECONDS, "none seen within 2.2 s"),
    (NoneSeen(looked=105.2), Unit.RATE, "none seen within 105 s"),
    (NoneSeen(looked=65536), Unit.FRAGMENTS, "none seen up to 65,536 fragments"),
    (NotApplicable(why="the target is plain http"), Unit.SECONDS, "not applicable"),
    (Failed(why="connection refused"), Unit.SECONDS, "failed"),
]


def test_a_finding_in_words() -> None:
    for finding, unit, words in WORDS:
        assert describe(finding, unit) == words, finding


def found(value: float, *others: float, how: str = "") -> Found:
    return Found(value=value, uncertainty=0.1, how=how, others=others)


NONE = NoneSeen(looked=100)
FAILED, LEFT_OUT = Failed(why="RST"), NotApplicable(why="no TLS")


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([found(12), found(10), found(11)], found(11, 10, 12)),
        ([found(10), NONE, found(11)], NoneSeen(looked=100, how="2 of 3 ended after 10.0 s ±0.10")),
        ([found(10), NoneSeen(looked=9), found(11)], found(11, 10)),
        ([found(10), NoneSeen(looked=10.5), found(11)], found(11, 10)),  # the longest that was ended lasted longer
        ([NONE, NoneSeen(looked=93)], NONE),
        ([found(10), FAILED, found(11)], found(11, 10, how="1 of 3 failed: RST")),
        ([found(10), FAILED, FAILED], FAILED),
        ([LEFT_OUT, FAILED, LEFT_OUT], FAILED),
        ([LEFT_OUT, LEFT_OUT], LEFT_OUT),
    ],
)
def test_samples_are_merged_to_the_least_favourable(samples: list[Finding], expected: Finding) -> None:
    assert merge(samples) == expected


def test_samples_of_a_rate() -> None:
    """A reader's 50 B/s were "ended after 50.0 s", and a rate above 100 was longer than 100 s without an end."""
    floor = Found(value=3072, uncertainty=2072, how="1,000 B/s: RST after 31.2 s")
    how = "1 of 3 found 3,072 B/s (ended at 1,000 B/s)"
    assert merge([NONE, floor, NONE], Unit.RATE) == NoneSeen(looked=100, how=how)


def test_where_none_is_good_one_that_ended_counts() -> None:
    assert merge([NONE, found(10), NONE], kept_is_good=True) == found(10)


@pytest.mark.parametrize(
    ("stalled", "byte", "line", "fast", "expected", "nature"),
    [
        (found(10), found(10.4), found(10), found(10), found(10.4), "a total deadline"),
        (found(10), found(10), found(30), found(31), found(30), "progress extends it"),
        (found(10), NONE, NONE, NONE, NONE, "no total deadline"),
        (found(10), found(10), NONE, NONE, NONE, "no total deadline"),
        (found(5), found(5), found(5), NONE, found(5, float("inf")), "a least rate"),
        (found(20), found(20), found(20), found(40), found(20, 40), "a least rate"),
        (found(5), found(5), found(5), NoneSeen(looked=32), found(5, float("inf")), "a least rate"),
        (found(10), found(10), NoneSeen(looked=8), NoneSeen(looked=3), found(10), "a total deadline"),
        (NONE, NONE, NONE, NONE, NONE, ""),
        (FAILED, FAILED, FAILED, FAILED, FAILED, ""),
        (LEFT_OUT, LEFT_OUT, LEFT_OUT, FAILED, FAILED, ""),
        (LEFT_OUT, LEFT_OUT, LEFT_OUT, LEFT_OUT, LEFT_OUT, ""),
        (found(10), FAILED, FAILED, found(10), FAILED, ""),  # it was good without the drips
        (found(10), found(10), LEFT_OUT, LEFT_OUT, found(10), "a total deadline"),
    ],
)
def test_the_nature_of_a_deadline(
    stalled: Finding, byte: Finding, line: Finding, fast: Finding, expected: Finding, nature: str
) -> None:
    finding = longest({"stalled": stalled, "a byte": byte, "a line": line, "fast": fast}, "fast")
    assert type(finding) is type(expected)
    if isinstance(finding, Found) and isinstance(expected, Found):
        assert (finding.value, finding.others) == (expected.value, expected.others)
    if isinstance(finding, Found | NoneSeen):
        assert finding.how.endswith(nature)
        assert nature or not finding.how
