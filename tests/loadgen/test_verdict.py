"""The verdict, as a table: facts in, outcome and reasons out."""

from collections.abc import Mapping

import pytest

from loadgen import bar
from loadgen.figures import ATTACK, RUN, Condition, Figure, When, bar_of
from loadgen.report import Outcome, Verdict
from loadgen.verdict import busy, decide, suspects, worst

COUNT, TIME, PROOF = (Condition(name, ">", 0) for name in ("attack_failed", "p99_over_bar_ms", "acknowledged_lost"))

GOOD = {"attack_failed": 0.0, "p99_over_bar_ms": -5.0, "acknowledged_lost": 0.0}
HARD = GOOD | {"attack_failed": 1.0}
LATE = GOOD | {"p99_over_bar_ms": 40.0}
BOTH = LATE | {"attack_failed": 1.0}
LOST = HARD | {"acknowledged_lost": 1.0}
NOTHING: dict[str, float | None] = dict.fromkeys(GOOD)


def _decide(figures: dict[str, float | None] | dict[str, float], **facts: object) -> Verdict:
    return decide(figures, (COUNT, TIME, PROOF), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "facts", "outcome"),
    [
        (GOOD, {}, Outcome.HELD),
        (HARD, {}, Outcome.FELL_SHORT),
        (LATE, {}, Outcome.FELL_SHORT),
        (NOTHING, {}, Outcome.FELL_SHORT),
        # late answers need not be the target's on a noisy machine; failures are
        (LATE, {"noise": ("the host took 9%",)}, Outcome.INVALID),
        (LATE, {"busy": ("300 ms late",)}, Outcome.INVALID),
        (HARD, {"noise": ("the host took 9%",), "busy": ("300 ms late",)}, Outcome.FELL_SHORT),
        (GOOD, {"noise": ("the host took 9%",)}, Outcome.HELD),
        (GOOD, {"busy": ("300 ms late",)}, Outcome.INVALID),
        # answers that never came in time are late ones, if others had the processors before the attack already
        (HARD, {"unproven": ("attack_failed",), "noise": ("the host took 9%",)}, Outcome.INVALID),
        (HARD, {"unproven": ("attack_failed",)}, Outcome.FELL_SHORT),
        (HARD, {"unproven": ("newcomers_failed",), "noise": ("the host took 9%",)}, Outcome.FELL_SHORT),
        # a bar that a loud baseline made loose: keeping it proves nothing, being over it all the same does
        (GOOD, {"unsure": ("a loud baseline",)}, Outcome.INVALID),
        (LATE, {"unsure": ("a loud baseline",)}, Outcome.FELL_SHORT),
        (LATE, {"unsure": ("a loud baseline",), "noise": ("the host took 9%",)}, Outcome.INVALID),
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
        (LATE, {"not_exercised": ("404s",), "noise": ("the host took 9%",)}, Outcome.NOT_EXERCISED),
        (GOOD, {"not_exercised": ("404s",), "busy": ("300 ms late",)}, Outcome.NOT_EXERCISED),
        # a dead server is a dead server
        (GOOD, {"down": "it does not listen"}, Outcome.FELL_SHORT),
        (NOTHING, {"down": "it does not listen", "faults": ("no ports",)}, Outcome.FELL_SHORT),
        (HARD, {"interrupted": True, "down": "it does not listen"}, Outcome.INTERRUPTED),
    ],
)
def test_what_facts_come_to(figures: dict[str, float], facts: dict[str, object], outcome: Outcome) -> None:
    assert _decide(figures, **facts).outcome == outcome.words


@pytest.mark.parametrize("doubt", ["busy", "noise"])
@pytest.mark.parametrize("down", ["", "it does not listen"])
def test_a_latency_that_cannot_be_believed_is_no_reason(doubt: str, down: str) -> None:
    """A server that missed the bar by memory was also blamed for the latency of a machine that others kept busy."""
    facts = {doubt: ("the host took 9%",), "down": down, "unproven": ("acknowledged_lost",)}
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
    assert _decide(HARD, noise=("the host took 9%",), notes=("no floor",)).notes == ["the host took 9%", "no floor"]
    found = _decide(LATE, noise=("the host took 9%",), not_exercised=("404s",))
    assert (found.reasons, found.notes) == (["404s"], ["the host took 9%", "p99_over_bar_ms is 40 (p99_over_bar_ms>0)"])
    assert _decide(GOOD, notes=("no floor",)).told == ["no floor"]
    assert _decide(BOTH, down="it does not listen").reasons[0] == "it does not listen"
    found = _decide(LOST, faults=("it stood still",))
    assert (found.reasons, found.notes) == (["acknowledged_lost is 1 (acknowledged_lost>0)"], ["it stood still"])
    assert _decide(LOST).reasons == ["attack_failed is 1 (attack_failed>0)", *found.reasons]


def test_a_large_figure_is_told_in_digits() -> None:
    told = Condition("server_bytes_over_bar", ">", 0).judge({"server_bytes_over_bar": 1_008_920.0})
    assert told == "server_bytes_over_bar is 1,008,920 (server_bytes_over_bar>0)"


def test_one_failure_in_a_million_is_one() -> None:
    figures = HARD | {"success_percent": 100 * 999_999 / 1_000_000}
    assert _decide(figures).outcome == "fell short"
    assert Condition("success_percent", "<", 100).judge(figures) is not None, "what was asked for is not rounded either"


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [
        ([Outcome.HELD, Outcome.FELL_SHORT, Outcome.INVALID], Outcome.FELL_SHORT),
        ([Outcome.HELD, Outcome.INVALID, Outcome.NOT_EXERCISED], Outcome.INVALID),
        ([Outcome.HELD, Outcome.NOT_EXERCISED], Outcome.HELD),
        ([Outcome.NOT_EXERCISED, Outcome.NOT_EXERCISED], Outcome.NOT_EXERCISED),
        ([], Outcome.NOT_EXERCISED),
    ],
)
def test_several_outcomes_come_to_the_gravest(outcomes: list[Outcome], outcome: Outcome) -> None:
    assert worst(outcomes) is outcome


def test_the_bar_goes_by_what_there_is_to_judge() -> None:
    def names(known: Mapping[str, Figure], *given: When) -> set[str]:
        return {condition.figure for condition in bar_of(known, given, round_trip_ms=0.0)}

    assert names(RUN) == {"refused", "failed", "ended"}
    assert names(RUN, When.SPEAKERS) - names(RUN) == {"ack_p99_ms", "unacknowledged", "message_errors"}
    assert names(RUN, When.ECHOES) - names(RUN) == {"echo_p99_ms", "unreturned"}
    assert names(RUN, When.GATHERED) - names(RUN) == {"missed", "surplus"}
    always = names(ATTACK)
    assert always == {
        "baseline_failed", "attack_failed", "recovery_failed", "attack_p99_ms", "p99_over_bar_ms",
        "recovery_p99_over_bar_ms", "worst_victim_over_bar_ms",
    }  # fmt: skip
    assert names(ATTACK, When.NEWCOMERS) - always == {"newcomers_failed"}
    assert names(ATTACK, When.NEIGHBOURS) - always == {"collateral"}
    assert names(ATTACK, When.KEPT) - always == {"acknowledged_lost"}
    assert names(ATTACK, When.MALFORMED) - always == {"malformed_accepted"}
    assert names(ATTACK, When.WATCHED) - always == {
        "server_bytes_over_bar", "server_bytes_left_over_bar", "server_descriptors_left",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "over"),
    [
        (2.0, 26.9, -0.1),  # 25 ms above
        (2.0, 27.1, 0.1),
        (100.0, 149.9, -0.1),  # 1.5 times
        (100.0, 150.1, 0.1),
    ],
)
def test_a_99th_percentile_is_judged_against_its_own_baseline(before: float, after: float, over: float) -> None:
    assert bar.most_over({"ws": before}, {"ws": after}) == over


def test_the_transport_that_is_furthest_from_its_bar_decides() -> None:
    before: dict[str, float | None] = {"victims": 2.0, "ws": 2.0, "sse": 2.0, "poll": 2.0}
    after: dict[str, float | None] = {"victims": 3.0, "ws": 3.0, "sse": 90.0}
    assert bar.most_over(before, after) == 63.0
    assert bar.most_over(before, {}) is None


def test_a_target_far_away_is_allowed_its_way() -> None:
    def noticed(round_trip_ms: float) -> float:
        [found] = [each for each in bar_of(ATTACK, (), round_trip_ms=round_trip_ms) if each.figure == "attack_p99_ms"]
        return found.limit

    assert (noticed(0.0), noticed(400.0)) == (250.0, 650.0)


def test_a_loud_baseline_counts_for_less() -> None:
    assert bar.quiet_ms(200.0, 3.0) == 28.0
    assert bar.quiet_ms(20.0, 3.0) == 20.0
    assert bar.quiet_ms(320.0, 300.0) == 320.0, "far away, or slow, is not loud"


def test_a_generator_that_was_too_late_is_told_once() -> None:
    """What lies unread counts as a late schedule does: a crowd's sockets may be read late by a process on time."""
    late = {"lag_p99_ms": 25.1, "backlog_p99_ms": 500.0}
    assert busy(late) == (
        "the generator itself was 25.1 ms late at the 99th percentile: it lacked CPU",
        "what came for the generator lay unread for 500 ms at the 99th percentile: it lacked CPU",
    )
    assert suspects(late) == ()
    assert busy({"lag_p99_ms": 25.0, "backlog_p99_ms": 25.0}) == busy({"lag_p99_ms": None}) == ()


@pytest.mark.parametrize(
    ("name", "quiet", "loud"),
    [
        ("lag_p99_ms", 5.0, 5.1),
        ("lag_p99_ms", 5.0, 25.0),
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
    assert suspects({name: quiet}) == suspects({name: None}) == suspects({}) == ()
    [reason] = suspects({name: loud})
    assert f"{loud:g}" in reason
