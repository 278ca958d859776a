"""How findings are worded."""

import pytest

from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, Unit, describe, remark


@pytest.mark.parametrize(
    ("finding", "unit", "words"),
    [
        (Found(value=10.018, uncertainty=0.06), Unit.SECONDS, "10.0 s ±0.06"),
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
    ],
)
def test_words(finding: Finding, unit: Unit, words: str) -> None:
    assert describe(finding, unit) == words


def test_remarks() -> None:
    assert remark(Found(value=1, how="408, FIN")) == "408, FIN"
    assert remark(NoneSeen(looked=1)) == ""
    assert remark(NotApplicable(why="no TLS")) == "no TLS"
    assert remark(Failed(why="RST")) == "RST"
