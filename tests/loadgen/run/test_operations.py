"""What the victims' operations come to, on results that the test makes up."""

from collections import Counter

import pytest

from loadgen.clients.messages import PhaseResult
from loadgen.net.answers import NO_TURN, UNANSWERED
from loadgen.run.operations import Operations
from tests.loadgen.readings import lasted

NAMED = {"before": "baseline", "first wave": "attack", "second wave": "attack", "after": "recovery"}


def result(phase: str, kind: str, *millis: float, expected: int | None = None, **failed: int) -> PhaseResult:
    due = len(millis) if expected is None else expected
    return PhaseResult(phase=phase, kind=kind, latency=lasted(*millis), failed=Counter(failed), expected=due)


def found(*results: PhaseResult) -> Operations:
    return Operations(results, NAMED)


def test_phases_that_count_alike_are_pooled_and_newcomers_are_apart() -> None:
    operations = found(
        result("first wave", "ws", 1, 2, oops=1),
        result("second wave", "get", 3, 4, oops=1, **{NO_TURN: 1}),  # the latter is late, and has not failed
        result("second wave", "new-ws", 9, 9, oops=1),
        result("before", "ws", 5),
        result("before", "new-ws", 1, oops=1),
        result("after", "new-ws", 1, oops=1),
    )
    assert operations.latency("attack").count == 4
    assert (operations.failed("attack"), operations.success_percent("attack")) == (2, 25.0)
    assert (operations.failed("baseline"), operations.failed("recovery")) == (0, None)
    assert operations.success_percent("recovery") is None
    assert operations.newcomers() == {
        "newcomers_came": 2, "newcomers_success_percent": 50.0, "newcomers_failed": 3, "newcomers_p99_ms": 9.0,
    }  # fmt: skip
    assert found().newcomers()["newcomers_failed"] is None


def test_the_first_failure_is_counted_from_the_begin_of_the_attack() -> None:
    early, later = result("first wave", "ws", 1), result("second wave", "get", 1)
    assert found(early, later).first_failure(10.0) is None
    early.first_failure, later.first_failure = 11.25, 12.5
    assert (found(early, later).first_failure(10.0), found(early).first_failure(11.5)) == (1.25, 0.0)


def test_a_kind_is_judged_by_itself_if_it_has_a_hundred_operations() -> None:
    operations = found(
        result("before", "ws", *[1] * 100), result("before", "get", *[1] * 99), result("before", "new-ws", 1)
    )
    assert list(operations.p99s("baseline")) == ["victims", "newcomers", "WebSocket round trip"]


@pytest.mark.parametrize(
    ("attacked", "is_only_late"),
    [
        (result("first wave", "ws", 1), True),
        (result("first wave", "ws", 1, 9, **{UNANSWERED: 1}), True),
        (result("first wave", "ws", 1, 9, 9, **{UNANSWERED: 1, NO_TURN: 1}), True),
        (result("first wave", "ws", 1, 9, 9, **{UNANSWERED: 1, "oops": 1}), False),
    ],
)
@pytest.mark.parametrize("is_outage", [False, True])
def test_failures_that_are_only_late_are_told_from_others(
    attacked: PhaseResult, is_only_late: bool, is_outage: bool
) -> None:
    attacked.outage = is_outage
    operations = found(attacked, result("before", "ws", 1), result("after", "new-ws", 1, oops=1))
    late = {"baseline_failed", "recovery_failed", *["attack_failed"] * (is_only_late and not is_outage)}
    assert set(operations.only_late()) == late, "newcomers failed after the attack"
    assert operations.has_outage() is is_outage


def test_what_is_late_is_named_with_its_bar() -> None:
    assert found(
        result("before", "ws", *[4] * 3), result("first wave", "ws", *[30] * 3), result("after", "ws", *[28] * 3)
    ).late() == ["victims in the attack 30 ms (bar 29)"]
    assert found(result("first wave", "ws", 900)).late() == [], "there is no bar without a baseline"


def test_the_worst_victim_is_judged_by_the_baseline_of_its_kind() -> None:
    slow = result("first wave", "get", 1)
    slow.worst_median = 0.1
    quicker = result("second wave", "get", 1)
    quicker.worst_median = 0.05
    quick = result("first wave", "ws", 1)
    quick.worst_median = 0.002
    operations = found(slow, quicker, quick, result("before", "get", 3), result("before", "ws", 3))
    assert operations.worst_victim_over_bar() == pytest.approx(100 - 28, abs=0.1)
    assert found(slow).worst_victim_over_bar() is None


@pytest.mark.parametrize(
    ("results", "faults"),
    [
        ([result("before", "ws", 1)], []),
        ([result("before", "ws", 1, **{UNANSWERED: 1})], ["no operation was answered in time before the attack"]),
        ([result("before", "ws", 1, oops=1)], []),  # answered, and wrongly
        # nginx with `limit_req` was blamed for its limit
        (
            [result("before", "get", 1, 2, **{"answered 429": 1})],
            ["the target allows a client less than a victim asks"],
        ),
        ([result("before", "get", 1, 2, oops=1, **{"answered 429": 1})], []),
        # and a chat for its limit of a user, which all victims are with the token of one
        (
            [
                result("before", "ws", 1, 1, **{"error rate_limited": 1}),
                result("before", "poll", 1, **{"answered 429": 1}),
            ],
            ["the target allows a client less than a victim asks: answered 429 and error rate_limited"],
        ),
        # a chat whose guests may only read: its page is served, and nobody's message
        (
            [result("before", "ws", 1, **{"error forbidden": 1}), result("before", "get", 1, 2, **{UNANSWERED: 1})],
            ["the target does not let a victim do its work: error forbidden"],
        ),
        ([result("before", "ws", 1, 1, **{"error forbidden": 1})], []),  # others are let
        ([result("before", "ws", 1, **{"error forbidden": 1}), result("before", "get", 1, oops=1)], []),  # or more
        ([result("before", "ws", 1, oops=1), result("before", "get", 1)], []),
        ([], ["no operation was answered in time before the attack"]),
        (
            [result("before", "ws", 1), result("first wave", "ws", 1, expected=2)],
            ["2 operations were due in the first wave (WebSocket round trip) and 1 were booked"],
        ),
        ([result("before", "ws", 1), result("warm-up", "ws", 1, expected=2)], []),
    ],
)
def test_without_operations_there_is_no_measurement(results: list[PhaseResult], faults: list[str]) -> None:
    told = found(*results).faults()
    assert len(told) == len(faults)
    assert all(each.startswith(fault) for each, fault in zip(told, faults, strict=True))


def test_a_phase_in_which_no_operation_was_due_is_named() -> None:
    operations = found(
        result("before", "ws", 1), result("second wave", "new-ws", 1), result("after", "get", expected=1)
    )
    assert operations.undue() == ["no operation was due in the attack: longer phases or more victims would tell"]


@pytest.mark.parametrize(("after", "is_loud"), [(200, False), (140, False), (100, True), (1, True)])
def test_a_baseline_is_not_too_loud_if_the_recovery_was_as_loud(after: float, is_loud: bool) -> None:
    """A server whose slowest answers always took 72 ms was invalid in every run."""
    results = [result("before", "ws", 1, 1, 200, 200), result("first wave", "ws", 60, 60, 60)]
    told = found(*results, result("after", "ws", 1, 1, after, after)).loud_baseline()
    assert bool(told) is is_loud


@pytest.mark.parametrize(
    ("before", "during", "is_loud"),
    [
        ([1, 1, 200, 200], [60, 60, 60], True),  # 60 ms are over the bar of a quiet baseline, 51 ms
        ([1, 1, 200, 200], [50, 50, 50], False),
        ([1, 1, 200, 200], [400, 400, 400], False),  # over the bar of the loud one as well
        ([1, 1, 1, 1], [60, 60, 60], False),
        ([300, 300, 320, 320], [400, 400, 400], False),  # far away, or slow, is not loud
        ([1, 1, 200, 200], [], False),
    ],
)
def test_a_baseline_is_too_loud_if_a_quiet_one_would_have_failed_the_target(
    before: list[float], during: list[float], is_loud: bool
) -> None:
    told = found(result("before", "ws", *before), result("first wave", "ws", *during)).loud_baseline()
    assert len(told) == is_loud
    assert "99th percentile of victims 200" in "".join(told) or not is_loud
