"""Thresholds over figures."""

import pytest

from loadgen.net.target import UsageError
from loadgen.report import figures
from loadgen.report.conditions import Condition, parse


@pytest.mark.parametrize("sign", [">", "<", ">=", "<=", "==", "!="])
def test_conditions_are_read(sign: str) -> None:
    found = parse([f" held {sign} 1.5 ", "ended>0,failed<3"], figures.RUN, server_pid=False)
    assert found == (Condition("held", sign, 1.5), Condition("ended", ">", 0), Condition("failed", "<", 3))


@pytest.mark.parametrize("text", ["held", "held>", "held>x", ">1", "", "held=>1", "held>1;ended>1", "helt>1"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-if"):
        parse([text], figures.RUN, server_pid=True)


def test_a_large_figure_is_told_in_full() -> None:
    told = Condition("server_bytes_over_bar", ">", 0).judge({"server_bytes_over_bar": 1_234_567.0})
    assert told == "server_bytes_over_bar is 1,234,567 (server_bytes_over_bar>0)"


def test_server_figures_need_the_pid() -> None:
    assert parse(["server_bytes_per_connection>800"], figures.RUN, server_pid=True)
    with pytest.raises(UsageError, match="--server-pid"):
        parse(["server_bytes_per_connection>800"], figures.RUN, server_pid=False)


TIMES = {"attack_p99_ms", "p99_ratio", "p99_over_bar_ms", "floor_p99_ratio", "recover_s"}
COUNTS = {"attack_failed", "collateral", "success_percent", "server_bytes_over_bar", "held", "limits_good"}


@pytest.mark.parametrize("name", sorted(TIMES | COUNTS))
def test_times_are_told_from_counts(name: str) -> None:
    assert Condition(name, ">", 1).is_time is (name in TIMES)
