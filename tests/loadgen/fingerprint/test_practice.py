"""The marks of the results."""

import pytest

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.practice import Limit, Mark, mark
from loadgen.fingerprint.probes import LIMITS

HEAD, FLOOR, IDLE = LIMITS["head_deadline_s"], LIMITS["slow_read_floor_bps"], LIMITS["ws_idle_deadline_s"]
CROWD, TYPIST, FIELDS = LIMITS["connections_per_address"], LIMITS["slow_typist_served"], LIMITS["head_fields"]
MEANWHILE = LIMITS["answers_meanwhile_percent"]


@pytest.mark.parametrize(
    ("limit", "finding", "expected"),
    [
        (HEAD, Found(value=10), Mark.GOOD),
        (HEAD, Found(value=4.9), Mark.HARSH),
        (HEAD, Found(value=4.9, uncertainty=0.2), Mark.GOOD),  # it may be 5
        (HEAD, Found(value=30.1, uncertainty=0.2), Mark.GOOD),
        (HEAD, Found(value=60, uncertainty=0.2), Mark.LENIENT),
        (HEAD, Found(value=29, others=(28, 31)), Mark.LENIENT),  # the longest sample decides
        (HEAD, Found(value=10, others=(2, 11)), Mark.GOOD),  # one that ended early may be an accident
        (HEAD, Found(value=5, others=(float("inf"),)), Mark.LENIENT),
        (HEAD, NoneSeen(looked=105), Mark.MISSING),
        (HEAD, NoneSeen(looked=29), Mark.UNDECIDED),
        (HEAD, NotApplicable(why=""), Mark.NONE),
        (HEAD, Failed(why=""), Mark.NONE),
        (FLOOR, Found(value=256, uncertainty=128), Mark.GOOD),
        (FLOOR, Found(value=3072, uncertainty=2048), Mark.HARSH),
        (FLOOR, Found(value=512, others=(512, 2048)), Mark.GOOD),  # of a rate the median decides
        (FLOOR, NoneSeen(looked=60), Mark.MISSING),
        (FLOOR, NoneSeen(looked=59), Mark.UNDECIDED),
        (IDLE, NoneSeen(looked=105), Mark.GOOD),
        (IDLE, NoneSeen(looked=20), Mark.UNDECIDED),
        (IDLE, Found(value=15), Mark.HARSH),
        (CROWD, Found(value=512), Mark.GOOD),
        (CROWD, Found(value=100), Mark.HARSH),
        (CROWD, NoneSeen(looked=600), Mark.LENIENT),
        (CROWD, NoneSeen(looked=475), Mark.UNDECIDED),  # a server that accepts slowly was called lenient
        (TYPIST, Found(value=1), Mark.GOOD),
        (TYPIST, Found(value=0), Mark.HARSH),
        (TYPIST, Found(value=1, others=(1, 0)), Mark.HARSH),
        (FIELDS, Found(value=4096, uncertainty=4000), Mark.LENIENT),
        (FIELDS, NoneSeen(looked=8192), Mark.MISSING),
        (MEANWHILE, Found(value=100), Mark.GOOD),
        (MEANWHILE, Found(value=50), Mark.MISSING),
    ],
)
def test_marks(limit: Limit, finding: Finding, expected: Mark) -> None:
    assert mark(limit, finding) is expected
