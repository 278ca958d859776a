"""The verdict and the tables, from plain findings."""

from loadgen.figures import Condition
from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.results import LAG_LIMIT_SECONDS, Result, figures, judge, nature
from loadgen.report import Outcome, Verdict

GOOD = Result("head", "head_deadline_s", Found(value=10.0004, uncertainty=0.1))
MISSING = Result("slow readers", "slow_read_floor_bps", NoneSeen(looked=105))
HARSH = Result("typist", "slow_typist_served", Found(value=0, how="FIN"))
LEFT_OUT = Result("hello", "tls_deadline_s", NotApplicable(why="the target is plain http"))
FAILED = Result("fields", "head_fields", Failed(why="no answer in time"))
UNDECIDED = Result("keep-alive", "keepalive_deadline_s", NoneSeen(looked=20))


def verdict(
    *results: Result, conditions: tuple[Condition, ...] = (), lag: float = 0.0, stopped: bool = False
) -> Verdict:
    return judge(results, conditions, lag=lag, stopped=stopped)


def test_the_default_bar() -> None:
    assert verdict(GOOD, LEFT_OUT, UNDECIDED) == Verdict(outcome="held", reasons=[])
    assert verdict(GOOD, MISSING, HARSH, FAILED) == Verdict(
        outcome="fell short",
        reasons=[
            "missing: slow readers (none seen within 105 s)",
            "harsh: typist (no)",
            "failed: fields (no answer in time)",
        ],
    )


def test_thresholds_replace_it() -> None:
    assert verdict(MISSING, conditions=(Condition("limits_missing", ">", 1),)).outcome == "held"
    floor = Condition("slow_read_floor_bps", "<", 100)
    assert verdict(MISSING, conditions=(floor,)).reasons == ["slow_read_floor_bps is 0 (slow_read_floor_bps<100)"]
    keep = Condition("keepalive_deadline_s", ">", 75)
    assert verdict(UNDECIDED, conditions=(keep,)).reasons == ["keepalive_deadline_s is inf (keepalive_deadline_s>75)"]
    hello = Condition("tls_deadline_s", ">", 10)
    assert verdict(LEFT_OUT, conditions=(hello,)).outcome == "fell short", "asked for and not measured"


def test_stopped_and_late() -> None:
    assert verdict(MISSING, stopped=True).outcome == Outcome.INTERRUPTED.name.lower()
    late = verdict(MISSING, lag=LAG_LIMIT_SECONDS * 2)
    assert late.outcome == "invalid"
    assert late.reasons[0].startswith("the prober's own schedule was 2.0 s late")


def test_figures() -> None:
    found = figures([GOOD, MISSING, HARSH, LEFT_OUT, FAILED, UNDECIDED])
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


def test_the_nature_of_a_deadline() -> None:
    def of(seconds: float) -> Finding:
        return Found(value=seconds, uncertainty=0.1)

    none = NoneSeen(looked=105)
    assert nature(of(10), of(10.9)) == "a total deadline"
    assert nature(of(10), of(30)) == "progress extends it"
    assert nature(of(10), none) == "each byte starts the clock anew"
    assert nature(of(10), of(5)) == nature(none, none) == nature(none, of(10)) == ""
