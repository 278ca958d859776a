"""The marks of the findings, and what they come to: the verdict and the figures."""

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.practice import LAG_LIMIT_SECONDS, Limit, Mark, Result, judge, mark, values_of
from loadgen.fingerprint.probes import LIMITS
from loadgen.report.conditions import Condition
from loadgen.report.schema import Outcome, Verdict

HEAD, FLOOR, IDLE = LIMITS["head_deadline_s"], LIMITS["slow_read_floor_bps"], LIMITS["ws_idle_deadline_s"]
CROWD, TYPIST, FIELDS = LIMITS["connections_per_address"], LIMITS["slow_typist_served"], LIMITS["head_fields"]
LINGER, MEANWHILE = LIMITS["linger_deadline_s"], LIMITS["answers_meanwhile_percent"]


MARKS: list[tuple[Limit, Finding, Mark]] = [
    (HEAD, Found(value=10), Mark.GOOD),
    (HEAD, Found(value=4.9), Mark.HARSH),
    (HEAD, Found(value=4.9, uncertainty=0.2), Mark.GOOD),  # it may be 5
    (HEAD, Found(value=30.1, uncertainty=0.2), Mark.GOOD),
    (HEAD, Found(value=60, uncertainty=0.2), Mark.LENIENT),
    (HEAD, Found(value=29, others=(28, 31)), Mark.LENIENT),  # the longest sample decides
    (HEAD, Found(value=10, others=(2, 11)), Mark.GOOD),  # one that ended early may be an accident
    (HEAD, Found(value=5, others=(float("inf"),)), Mark.LENIENT),
    (HEAD, NoneSeen(looked=105), Mark.MISSING),
    (HEAD, NoneSeen(looked=32), Mark.UNDECIDED),  # nginx, with its 60 s, had none
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
    (LINGER, Found(value=31.6, uncertainty=0.4), Mark.GOOD),  # Apache, good in one run, was lenient in the next
    (LINGER, Found(value=60.1, uncertainty=0.4), Mark.LENIENT),
    (MEANWHILE, Found(value=100), Mark.GOOD),
    (MEANWHILE, Found(value=50), Mark.MISSING),
]


def test_a_mark_compares_with_good_practice() -> None:
    for limit, finding, expected in MARKS:
        assert mark(limit, finding) is expected, (limit, finding)


def test_good_practice_in_words() -> None:
    limits = (HEAD, CROWD, LINGER, MEANWHILE, TYPIST, IDLE)
    words = ["5 to 30 s", "at least 300 connections", "at most 32 s", "at least 99%", "yes", "none"]
    assert [limit.bounds for limit in limits] == words


def result(figure: str, finding: Finding) -> Result:
    return Result(LIMITS[figure], finding)


GOOD = result("head_deadline_s", Found(value=10.0004, uncertainty=0.1))
MISSING = result("slow_read_floor_bps", NoneSeen(looked=105))
HARSH = result("slow_typist_served", Found(value=0, how="FIN"))
LEFT_OUT = result("tls_deadline_s", NotApplicable(why="the target is plain http"))
FAILED = result("head_fields", Failed(why="no answer in time"))
UNDECIDED = result("keepalive_deadline_s", NoneSeen(looked=20))


def verdict(*results: Result, conditions: tuple[Condition, ...] = (), no_bar: bool = False) -> Verdict:
    return judge(results, conditions, no_bar=no_bar)


def test_the_default_bar_is_that_nothing_is_missing_or_harsh() -> None:
    assert verdict(GOOD, LEFT_OUT, UNDECIDED) == Verdict(
        outcome=Outcome.HELD, reasons=[], notes=["1 good, 1 undecided"]
    )
    missing, failed = "missing: slow readers (none seen within 105 s)", "failed: fields (no answer in time)"
    reasons = [missing, "harsh: head, typed in 8 s (no)", failed]
    told = Verdict(outcome=Outcome.FELL_SHORT, reasons=reasons, notes=["1 good, 1 harsh, 1 missing"])
    assert verdict(GOOD, MISSING, HARSH, FAILED) == told


def test_a_probe_that_failed_is_not_the_target_s_fault() -> None:
    """It was: exit code 1 for a probe that had met no answer in time."""
    found = verdict(GOOD, FAILED)
    assert (found.outcome, found.reasons) == ("invalid", ["failed: fields (no answer in time)"])


def test_thresholds_add_to_it_or_stand_alone() -> None:
    floor = Condition("slow_read_floor_bps", "<", 100)
    too_low = "slow_read_floor_bps is 0 (slow_read_floor_bps<100)"
    assert verdict(MISSING, conditions=(floor,)).reasons == ["missing: slow readers (none seen within 105 s)", too_low]
    assert verdict(MISSING, conditions=(floor,), no_bar=True).reasons == [too_low]
    assert verdict(MISSING, FAILED, conditions=(Condition("limits_missing", ">", 1),), no_bar=True).outcome == "held"
    keep = Condition("keepalive_deadline_s", ">", 75)
    assert verdict(UNDECIDED, conditions=(keep,)).reasons == ["keepalive_deadline_s is inf (keepalive_deadline_s>75)"]
    hello = Condition("tls_deadline_s", ">", 10)
    assert verdict(LEFT_OUT, conditions=(hello,)).outcome == "fell short", "asked for and not measured"


def test_a_threshold_is_broken_by_any_sample() -> None:
    ranged = result("head_deadline_s", Found(value=20, others=(10, 25)))
    for condition in (Condition("head_deadline_s", ">", 22), Condition("head_deadline_s", "<", 15)):
        assert verdict(ranged, conditions=(condition,)).outcome == "fell short"
    assert verdict(ranged, conditions=(Condition("head_deadline_s", ">", 25),)).outcome == "held"


def test_stopped_late_and_died() -> None:
    assert judge([MISSING], (), stopped=True).outcome is Outcome.INTERRUPTED
    assert judge([FAILED], (), stopped=True).notes == [], "there was an empty one where nothing was decided yet"
    late = judge([MISSING], (), lag=LAG_LIMIT_SECONDS * 2)
    assert late.outcome == "invalid"
    assert late.reasons[0].startswith("the prober's own schedule was 2.0 s late")
    died = judge([GOOD, FAILED], (), died="the server died 3 s into the run")
    assert (died.outcome, died.reasons) == ("fell short", ["the server died 3 s into the run"])


def test_the_figures_have_values_and_the_number_of_each_mark() -> None:
    found = values_of([GOOD, MISSING, HARSH, LEFT_OUT, FAILED, UNDECIDED])
    assert found["head_deadline_s"] == 10.0
    assert found["slow_read_floor_bps"] is found["tls_deadline_s"] is found["head_fields"] is None
    counts = {name: found[name] for name in found if name.startswith(("limits_", "probes_"))}
    assert counts == dict.fromkeys(counts, 1) | {"limits_lenient": 0}
    assert len(counts) == 6
