import pytest

from loadgen import figures
from loadgen.figures import Condition
from loadgen.report import judge
from loadgen.target import UsageError


@pytest.mark.parametrize("sign", [">", "<", ">=", "<=", "==", "!="])
def test_conditions_are_read(sign: str) -> None:
    assert figures.parse([f" held {sign} 1.5 "], figures.RUN, server_pid=False) == (Condition("held", sign, 1.5),)


def test_commas_and_repetition_both_work() -> None:
    assert len(figures.parse(["held<1,ended>0", "failed>3"], figures.RUN, server_pid=False)) == 3


def test_an_unknown_figure_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"--fail-if: there is no figure 'speed'; known are .*p99_ratio"):
        figures.parse(["speed>1"], figures.ATTACK, server_pid=False)


@pytest.mark.parametrize("text", ["held", "held>", "held>x", ">1", "", "held=>1", "held>1;ended>1"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-if"):
        figures.parse([text], figures.RUN, server_pid=True)


def test_server_figures_need_the_pid() -> None:
    with pytest.raises(UsageError, match="--server-pid"):
        figures.parse(["server_bytes_per_connection>800"], figures.RUN, server_pid=False)


def _judge(values: dict[str, float | None], **options: object) -> tuple[str, list[str]]:
    known: dict[str, float | None] = dict.fromkeys(figures.RUN, None)
    settings: dict[str, object] = {"bar": figures.RUN_BAR, "asked": (), "faults": (), "interrupted": False, **options}
    verdict = judge({**known, **values}, **settings)  # type: ignore[arg-type]
    return verdict.outcome, verdict.reasons


def test_the_bar_names_what_fell_short() -> None:
    assert _judge({"refused": 0, "ended": 0}) == ("held", [])
    outcome, reasons = _judge({"refused": 0, "ended": 3})
    assert outcome == "fell short"
    assert reasons == ["ended is 3 (ended>0)"]


def test_what_was_asked_replaces_the_bar() -> None:
    asked = (Condition("ended", ">", 5),)
    assert _judge({"refused": 9, "ended": 3}, asked=asked)[0] == "held"
    assert _judge({"ended": 6}, asked=asked)[0] == "fell short"


def test_a_threshold_on_what_was_not_measured_fails() -> None:
    outcome, reasons = _judge({}, asked=(Condition("ack_p99_ms", ">", 5),))
    assert outcome == "fell short"
    assert "was not measured" in reasons[0]


def test_a_late_schedule_makes_a_run_invalid_whatever_it_found() -> None:
    assert (
        _judge({"lag_p99_ms": 500.0, "own_cpu_percent": 99.0, "own_cpu_wait_percent": 1.0, "ended": 0})[0] == "invalid"
    )
    assert _judge({"ended": 0}, faults=["no ports"]) == ("invalid", ["no ports"])


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (
            {"own_cpu_percent": 38.0, "own_cpu_wait_percent": 1.0, "steal_percent": 12.5},
            (
                " (it used 38% of one, waited 1% of the time while other programs had it, the host took 12.5% of the"
                " processors' time)"
            ),
        ),
        ({"own_cpu_percent": 38.0, "steal_percent": 0.0}, " (it used 38% of one)"),
        ({}, ""),
    ],
)
def test_a_late_schedule_says_of_why_what_was_measured(measured: dict[str, float], words: str) -> None:
    unmeasured = dict.fromkeys(("own_cpu_percent", "own_cpu_wait_percent", "steal_percent"))
    _, [reason] = _judge({"lag_p99_ms": 500.0, **unmeasured, **measured})
    assert reason == "the generator's own schedule was 500 ms late at the 99th percentile: it lacked CPU" + words


@pytest.mark.parametrize("name", ["steal_percent", "baseline_steal_percent"])
def test_what_the_host_took_is_no_bar_unless_asked_for(name: str) -> None:
    assert name not in {condition.figure for condition in (*figures.RUN_BAR, *figures.ATTACK_BAR)}
    assert figures.parse([f"{name}>5"], figures.ATTACK, server_pid=False) == (Condition(name, ">", 5.0),)


def test_a_run_in_which_the_host_took_much_may_fail_by_that() -> None:
    assert _judge({"steal_percent": 40.0})[0] == "held"
    assert _judge({"steal_percent": 40.0}, asked=(Condition("steal_percent", ">", 5),))[0] == "fell short"


def test_an_interrupted_run_is_no_pass() -> None:
    assert _judge({"ended": 0}, interrupted=True)[0] == "interrupted"
