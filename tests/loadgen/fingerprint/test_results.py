"""The verdict and the tables, from plain findings."""

from loadgen.figures import Condition
from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.practice import LAG_LIMIT_SECONDS, Result, judge, values_of
from loadgen.fingerprint.probes import LIMITS
from loadgen.report import Outcome, Verdict


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


def test_the_default_bar() -> None:
    assert verdict(GOOD, LEFT_OUT, UNDECIDED) == Verdict(outcome="held", reasons=[], notes=["1 good, 1 undecided"])
    assert verdict(GOOD, MISSING, HARSH, FAILED) == Verdict(
        outcome="fell short",
        reasons=[
            "missing: slow readers (none seen within 105 s)",
            "harsh: head, typed in 8 s (no)",
            "failed: fields (no answer in time)",
        ],
        notes=["1 good, 1 harsh, 1 missing"],
    )


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
    assert judge([MISSING], (), stopped=True).outcome == Outcome.INTERRUPTED.name.lower()
    late = judge([MISSING], (), lag=LAG_LIMIT_SECONDS * 2)
    assert late.outcome == "invalid"
    assert late.reasons[0].startswith("the prober's own schedule was 2.0 s late")
    died = judge([GOOD, FAILED], (), died="the server died 3 s into the run")
    assert (died.outcome, died.reasons) == ("fell short", ["the server died 3 s into the run"])


def test_figures() -> None:
    found = values_of([GOOD, MISSING, HARSH, LEFT_OUT, FAILED, UNDECIDED])
    assert found["head_deadline_s"] == 10.0
    assert found["slow_read_floor_bps"] is found["tls_deadline_s"] is found["head_fields"] is None
    counts = {name: found[name] for name in found if name.startswith(("limits_", "probes_"))}
    assert counts == {
        "limits_good": 1,
        "limits_lenient": 0,
        "limits_harsh": 1,
        "limits_missing": 1,
        "limits_undecided": 1,
        "probes_failed": 1,
    }
