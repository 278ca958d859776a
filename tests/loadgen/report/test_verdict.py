"""The verdict, as a table: facts in, outcome and reasons out."""

from collections.abc import Mapping

import pytest

from loadgen.report import bar
from loadgen.report.conditions import Condition
from loadgen.report.schema import Outcome, Verdict
from loadgen.report.verdict import causes, decide, others_were_busy, too_late, worst

COUNT, TIME, PROOF = (Condition(name, ">", 0) for name in ("attack_failed", "p99_over_bar_ms", "acknowledged_lost"))

GOOD = {"attack_failed": 0.0, "p99_over_bar_ms": -5.0, "acknowledged_lost": 0.0}
HARD = GOOD | {"attack_failed": 1.0}
LATE = GOOD | {"p99_over_bar_ms": 40.0}
BOTH = LATE | {"attack_failed": 1.0}
LOST = HARD | {"acknowledged_lost": 1.0}
NOTHING: dict[str, float | None] = dict.fromkeys(GOOD)


def _decide(figures: Mapping[str, float | None], **facts: object) -> Verdict:
    return decide(figures, (COUNT, TIME, PROOF), **facts)  # type: ignore[arg-type]


OUTCOMES: list[tuple[Mapping[str, float | None], dict[str, object], Outcome]] = [
    (GOOD, {}, Outcome.HELD),
    (HARD, {}, Outcome.FELL_SHORT),
    (LATE, {}, Outcome.FELL_SHORT),
    (NOTHING, {}, Outcome.FELL_SHORT),
    # late answers need not be the target's on a noisy machine; failures are
    (LATE, {"doubts": ("the host took 9%",)}, Outcome.INVALID),
    (HARD, {"doubts": ("the host took 9%",)}, Outcome.FELL_SHORT),
    (GOOD, {"doubts": ("the host took 9%",)}, Outcome.HELD),
    # answers that never came in time are late ones, if others had the processors before the attack already
    (HARD, {"unproven": ("attack_failed",), "doubts": ("the host took 9%",)}, Outcome.INVALID),
    (HARD, {"unproven": ("attack_failed",)}, Outcome.FELL_SHORT),
    (HARD, {"unproven": ("newcomers_failed",), "doubts": ("the host took 9%",)}, Outcome.FELL_SHORT),
    # a bar that a loud baseline made loose: keeping it proves nothing, being over it all the same does
    (GOOD, {"unsure": ("a loud baseline",)}, Outcome.INVALID),
    (LATE, {"unsure": ("a loud baseline",)}, Outcome.FELL_SHORT),
    (LATE, {"unsure": ("a loud baseline",), "doubts": ("the host took 9%",)}, Outcome.INVALID),
    # a generator that ran out of something measured itself
    (GOOD, {"faults": ("no ports",)}, Outcome.INVALID),
    (HARD, {"faults": ("no ports",)}, Outcome.INVALID),
    (NOTHING, {"faults": ("no ports",)}, Outcome.INVALID),
    # and loses no message of the server's
    (LOST, {"faults": ("no ports",)}, Outcome.FELL_SHORT),
    # an attack that did not take place proves nothing, unless the target fell short all the same
    (GOOD, {"not_exercised": ("404s",)}, Outcome.NOT_EXERCISED),
    (HARD, {"not_exercised": ("404s",)}, Outcome.FELL_SHORT),
    (LATE, {"not_exercised": ("404s",)}, Outcome.FELL_SHORT),
    (LATE, {"not_exercised": ("404s",), "doubts": ("the host took 9%",)}, Outcome.NOT_EXERCISED),
    (GOOD, {"not_exercised": ("404s",), "unsure": ("300 ms late",)}, Outcome.NOT_EXERCISED),
    # a dead server is a dead server
    (GOOD, {"down": "it does not listen"}, Outcome.FELL_SHORT),
    (NOTHING, {"down": "it does not listen", "faults": ("no ports",)}, Outcome.FELL_SHORT),
    (HARD, {"interrupted": True, "down": "it does not listen"}, Outcome.INTERRUPTED),
]


def test_what_facts_come_to() -> None:
    for figures, facts, outcome in OUTCOMES:
        assert _decide(figures, **facts).outcome is outcome, (figures, facts)


@pytest.mark.parametrize("down", ["", "it does not listen"])
def test_a_latency_that_cannot_be_believed_is_no_reason(down: str) -> None:
    """A server that missed the bar by memory was also blamed for the latency of a machine that others kept busy."""
    facts = {"doubts": ("the host took 9%",), "down": down, "unproven": ("acknowledged_lost",)}
    found = _decide(BOTH | {"acknowledged_lost": 2.0}, **facts)
    assert found.outcome == "fell short"
    assert found.reasons == [
        *filter(None, [down]), "attack_failed is 1 (attack_failed>0)", "latency not judged: the host took 9%"
    ]  # fmt: skip
    assert found.notes == ["p99_over_bar_ms is 40 (p99_over_bar_ms>0)", "acknowledged_lost is 2 (acknowledged_lost>0)"]
    found = _decide(HARD, **facts | {"unproven": ()})
    assert found.reasons == [*filter(None, [down]), "attack_failed is 1 (attack_failed>0)"], "no latency to be judged"


def test_every_reason_is_told_and_what_decided_nothing_is_a_note() -> None:
    """A server that lost messages was said to have fallen short because the generator had been late as well."""
    found = _decide(BOTH, not_exercised=("404s",), notes=("no floor",))
    assert found.reasons == ["attack_failed is 1 (attack_failed>0)", "p99_over_bar_ms is 40 (p99_over_bar_ms>0)"]
    assert found.notes == ["404s", "no floor"]
    assert _decide(HARD, doubts=("the host took 9%",), notes=("no floor",)).notes == ["the host took 9%", "no floor"]
    found = _decide(LATE, doubts=("the host took 9%",), not_exercised=("404s",))
    assert (found.reasons, found.notes) == (["404s"], ["the host took 9%", "p99_over_bar_ms is 40 (p99_over_bar_ms>0)"])
    assert _decide(GOOD, notes=("no floor",)).explanation == ["no floor"]
    assert _decide(BOTH, down="it does not listen").reasons[0] == "it does not listen"
    found = _decide(LOST, faults=("it stood still",))
    assert (found.reasons, found.notes) == (["acknowledged_lost is 1 (acknowledged_lost>0)"], ["it stood still"])
    assert _decide(LOST).reasons == ["attack_failed is 1 (attack_failed>0)", *found.reasons]


@pytest.mark.parametrize("facts", [{"faults": ("no ports",)}, {"down": "it does not listen"}], ids=["faults", "down"])
def test_what_was_not_measured_is_no_reason_beside_what_explains_it(facts: dict[str, object]) -> None:
    """A process of the generator died, and seven figures were said not to have been measured."""
    assert len(_decide(NOTHING, **facts).reasons) == 1
    assert len(_decide(NOTHING | {"attack_failed": 1.0}, **facts).reasons) == 2


@pytest.mark.parametrize(
    ("before", "after", "over"),
    [
        ({"ws": 2.0}, {"ws": 26.9}, -0.1),  # 25 ms above
        ({"ws": 2.0}, {"ws": 27.1}, 0.1),
        ({"ws": 100.0}, {"ws": 149.9}, -0.1),  # 1.5 times
        ({"ws": 100.0}, {"ws": 150.1}, 0.1),
        # the transport that is furthest from its bar decides
        (dict.fromkeys(("victims", "ws", "sse", "poll"), 2.0), {"victims": 3.0, "ws": 3.0, "sse": 90.0}, 63.0),
        ({"ws": 2.0}, {}, None),
    ],
)
def test_a_99th_percentile_is_judged_against_its_own_baseline(
    before: dict[str, float], after: dict[str, float], over: float | None
) -> None:
    assert bar.most_over(before, after) == over


def test_a_generator_that_was_too_late_is_told_once() -> None:
    """What lies unread counts as a late schedule does: a crowd's sockets may be read late by a process on time."""
    late = {"lag_p99_ms": 25.1, "backlog_p99_ms": 500.0}
    told = too_late(late)
    assert told == causes(late)
    assert _decide(GOOD, doubts=told, unsure=told).reasons == [
        "the generator itself was 25.1 ms late at the 99th percentile",
        "data for the generator lay unread for 500 ms at the 99th percentile",
    ]
    assert decide(HARD, (COUNT,), doubts=told, notes=told).notes == told, "no time is judged, as with --no-bar"
    assert too_late({"lag_p99_ms": 25.0, "backlog_p99_ms": 25.0}) == too_late({"lag_p99_ms": None}) == []
    assert too_late({"own_cpu_percent": 99.0}) == [], "a reason to doubt what is late, but not what is in time"


def test_a_baseline_is_as_quiet_as_it_was_or_as_a_quiet_one_would_be() -> None:
    assert [bar.quiet_ms(3.0, 2.0), bar.quiet_ms(90.0, 2.0)] == [3.0, 27.0]


def test_others_were_busy_only_if_the_processors_were_before_the_attack() -> None:
    assert all(map(others_were_busy, ({"baseline_pressure_percent": 20.1}, {"baseline_steal_percent": 4.1})))
    assert not others_were_busy({"steal_percent": 99.0, "recovery_pressure_percent": 99.0, "own_cpu_percent": 99.0})


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [
        ([Outcome.HELD, Outcome.INVALID, Outcome.FELL_SHORT], Outcome.FELL_SHORT),
        ([Outcome.HELD, Outcome.INVALID], Outcome.INVALID),
        ([Outcome.NOT_EXERCISED, Outcome.HELD], Outcome.HELD),
        ([Outcome.NOT_EXERCISED], Outcome.NOT_EXERCISED),
        ([], Outcome.NOT_EXERCISED),
    ],
)
def test_the_gravest_of_several_outcomes(outcomes: list[Outcome], outcome: Outcome) -> None:
    assert worst(outcomes) is outcome


@pytest.mark.parametrize(
    ("name", "quiet", "loud"),
    [
        ("lag_p99_ms", 5.0, 5.1),
        ("own_cpu_percent", 85.0, 85.1),
        ("own_cpu_wait_percent", 20.0, 20.1),
        ("server_cpu_wait_percent", 20.0, 20.1),
        ("baseline_pressure_percent", 20.0, 20.1),
        ("recovery_pressure_percent", 20.0, 20.1),
        ("baseline_steal_percent", 4.0, 4.1),
        ("steal_percent", 4.0, 4.1),
        ("floor_p99_ms", 15.0, 15.1),
        ("backlog_p99_ms", 5.0, 5.1),
    ],
)
def test_what_else_may_have_made_an_answer_late(name: str, quiet: float, loud: float) -> None:
    assert causes({name: quiet}) == causes({name: None}) == causes({}) == []
    [reason] = causes({name: loud})
    assert f"{loud:g}" in reason
