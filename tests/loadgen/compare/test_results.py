"""The arithmetic of a cell, and how a table shows failed servers."""

from typing import Any

from loadgen.compare.catalogue import OURS, PEERS, Can
from loadgen.compare.results import Column, Entry, Layout, Results, Sample, Scenario
from loadgen.report.schema import Table

COLUMNS = (Column(name="bytes", title="bytes", compared=True), Column(name="percent", title="%"))
SERVERS = [PEERS[OURS], PEERS["floor"], PEERS["aiohttp"]]


async def never(*_: Any) -> Sample:
    raise AssertionError


SCENARIO = Scenario(
    name="idle", layouts=(Layout(title="Idle", columns=COLUMNS, note="A note."),), play=never, needs=Can.CHAT, seconds=1
)


def entry(size: float | None, percent: float | None = 100.0, **more: str) -> Entry:
    return Entry(sample={"bytes": size, "percent": percent}, **more)


def table(*rounds: dict[str, Entry]) -> Table:
    (found,) = Results(SCENARIO, rounds=list(rounds)).tables(SERVERS)
    return found


def test_rounds_have_values_and_ratios() -> None:
    found = table(*[{OURS: entry(400), "floor": entry(300.5), "aiohttp": entry(14_232)}] * 3)
    assert found.columns == ["server", "bytes", "%"]
    assert found.rows == [
        [OURS, "400 (400-400)", "100 (100-100)"],
        ["floor", "300 (300-300) · 0.751\N{MULTIPLICATION SIGN}", "100 (100-100)"],
        ["aiohttp", "14,232 (14,232-14,232) · 35.6\N{MULTIPLICATION SIGN}", "100 (100-100)"],
    ]
    assert found.notes == ["A note."]


def test_a_ratio_is_of_one_round_and_the_median_of_all() -> None:
    """What slows a whole round down is in both, and so not in the ratio."""
    found = table(
        {OURS: entry(100), "floor": entry(200)},
        {OURS: entry(1_000), "floor": entry(2_000)},
        {OURS: entry(120), "floor": entry(360)},
    )
    assert found.rows[1][1] == "360 (200-2,000) · 2\N{MULTIPLICATION SIGN}"
    assert found.rows[0][1] == "120 (100-1,000)"


def test_who_was_never_measured_has_a_row_that_says_why() -> None:
    found = Results(SCENARIO, rounds=[{OURS: entry(400), "floor": Entry(failure="ended with SIGKILL")}])
    (made,) = found.tables(SERVERS)
    assert made.rows[1] == ["floor", "ended with SIGKILL", ""]
    assert made.notes == ["A note."], "the row has said it"
    assert found.failures == ["floor: ended with SIGKILL"]
    assert len(made.rows) == 2, "who took no part has no row"


def test_who_failed_once_and_who_is_doubtful_have_a_star() -> None:
    found = table(
        {OURS: entry(400, doubt="the schedule was late"), "floor": Entry(failure="died")},
        {OURS: entry(400), "floor": entry(200)},
    )
    assert [row[0] for row in found.rows] == [f"{OURS}*", "floor*"]
    assert found.notes[1:] == [f"{OURS}*: a round is withheld: the schedule was late", "floor*: in one round died"]


def test_an_invalid_measurement_is_withheld_and_a_ratio_of_fewer_than_three_rounds_as_well() -> None:
    """It was in the cells and in the ratios, behind a star."""
    sound = {OURS: entry(400), "floor": entry(200)}
    invalid = {OURS: entry(400), "floor": entry(90_000, doubt="the schedule was late")}
    found = table(sound, sound, sound, invalid)
    assert found.rows[1][:2] == ["floor*", "200 (200-200) · 0.5\N{MULTIPLICATION SIGN}"]
    assert table(sound, sound, invalid).rows[1][1] == "200 (200-200)", "of the three, two count"


def test_what_was_invalid_in_all_rounds_is_no_figure() -> None:
    late = entry(200, doubt="the schedule was late")
    found = Results(SCENARIO, rounds=[{OURS: entry(400), "floor": late}, {OURS: late, "floor": late}])
    [made] = found.tables(SERVERS)
    assert made.rows[1] == ["floor", "withheld: the schedule was late", ""]
    assert found.failures == ["floor: the schedule was late"], "ours has a figure of the other round"


def test_a_ratio_of_small_values_and_of_rounds_that_were_not_all_played() -> None:
    small, last = {OURS: entry(0.5), "floor": entry(0.25)}, {OURS: entry(0.5)}  # Ctrl-C came in the fourth
    assert table(small, small, small, last).rows[1][1] == "0.25 (0.25-0.25) · 0.5\N{MULTIPLICATION SIGN}"
    assert table(small).rows[1][1] == "0.25", "one value has no range"


def test_what_was_not_measured_is_empty_and_has_no_ratio() -> None:
    found = table({OURS: entry(0.0), "floor": entry(300, None)}, {OURS: entry(-20.0), "floor": entry(None, None)})
    assert found.rows[1] == ["floor", "300", ""]
    usual, shrunk = {OURS: entry(400), "floor": entry(200)}, {OURS: entry(400), "floor": entry(0.0)}
    assert table(usual, usual, shrunk).rows[1][1] == "200 (0-200)"
    assert table(usual, usual, {OURS: entry(None), "floor": entry(200)}).rows[1][1] == "200 (200-200)"
