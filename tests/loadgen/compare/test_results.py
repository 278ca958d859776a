"""The arithmetic of a cell, and what a table says of who failed."""

from typing import Any

from loadgen.compare.catalogue import OURS, PEERS, Can
from loadgen.compare.results import Entry, Results, number
from loadgen.compare.scenario import Column, Layout, Sample, Scenario
from loadgen.report import Table

COLUMNS = (Column(name="bytes", title="bytes", compared=True), Column(name="percent", title="%"))
SERVERS = [PEERS[OURS], PEERS["floor"], PEERS["aiohttp"]]


async def never(*_: Any) -> Sample:
    raise AssertionError


SCENARIO = Scenario(
    name="idle",
    group="idle",
    layouts=(Layout(title="Idle", columns=COLUMNS, note="A note."),),
    play=never,
    needs=Can.CHAT,
    seconds=1,
)


def results(*rounds: dict[str, Entry]) -> Results:
    found = Results(SCENARIO)
    for entries in rounds:
        found.begin_round()
        for entry in entries.values():
            found.add(entry)
    return found


def entry(peer: str, size: float | None, percent: float | None = 100.0, **more: str) -> Entry:
    return Entry(peer=peer, sample={"bytes": size, "percent": percent}, **more)


def by_peer(*entries: Entry) -> dict[str, Entry]:
    return {each.peer: each for each in entries}


def table(*rounds: dict[str, Entry]) -> Table:
    (found,) = results(*rounds).tables(SERVERS)
    return found


def test_rounds_have_values_and_ratios() -> None:
    found = table(*[by_peer(entry(OURS, 400), entry("floor", 300.5), entry("aiohttp", 14_232))] * 3)
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
        by_peer(entry(OURS, 100), entry("floor", 200)),
        by_peer(entry(OURS, 1_000), entry("floor", 2_000)),
        by_peer(entry(OURS, 120), entry("floor", 360)),
    )
    assert found.rows[1][1] == "360 (200-2,000) · 2\N{MULTIPLICATION SIGN}"
    assert found.rows[0][1] == "120 (100-1,000)"


def test_who_was_never_measured_has_a_row_that_says_why() -> None:
    found = results(by_peer(entry(OURS, 400), Entry(peer="floor", failure="ended with SIGKILL")))
    (made,) = found.tables(SERVERS)
    assert made.rows[1] == ["floor", "ended with SIGKILL", ""]
    assert found.failures == ["floor: ended with SIGKILL"]
    assert len(made.rows) == 2, "who took no part has no row"


def test_who_failed_once_and_who_is_doubtful_have_a_star() -> None:
    found = table(
        by_peer(entry(OURS, 400, doubt="the schedule was late"), Entry(peer="floor", failure="died")),
        by_peer(entry(OURS, 400), entry("floor", 200)),
    )
    assert [row[0] for row in found.rows] == [f"{OURS}*", "floor*"]
    assert found.notes[1:] == [f"{OURS}*: a round is withheld: the schedule was late", "floor*: in one round died"]


def test_a_ratio_of_fewer_than_three_rounds_is_withheld() -> None:
    rounds = [by_peer(entry(OURS, 400), entry("floor", 200))] * 2
    assert table(*rounds).rows[1][1] == "200 (200-200)"
    assert "\N{MULTIPLICATION SIGN}" in table(*rounds, rounds[0]).rows[1][1]


def test_an_invalid_measurement_is_withheld() -> None:
    """It was in the cells and in the ratios, behind a star."""
    sound = by_peer(entry(OURS, 400), entry("floor", 200))
    invalid = by_peer(entry(OURS, 400), entry("floor", 90_000, doubt="the schedule was late"))
    found = table(sound, sound, sound, invalid)
    assert found.rows[1][:2] == ["floor*", "200 (200-200) · 0.5\N{MULTIPLICATION SIGN}"]
    assert table(sound, sound, invalid).rows[1][1] == "200 (200-200)", "of the three, two count"


def test_what_was_invalid_in_all_rounds_is_no_figure() -> None:
    found = table(by_peer(entry(OURS, 400), entry("floor", 200, doubt="the schedule was late")))
    assert found.rows[1] == ["floor", "withheld: the schedule was late", ""]


def test_what_was_not_measured_is_empty_and_has_no_ratio() -> None:
    found = table(
        by_peer(entry(OURS, 0.0), entry("floor", 300, None)), by_peer(entry(OURS, -20.0), entry("floor", None, None))
    )
    assert found.rows[1] == ["floor", "300", ""]


def test_numbers() -> None:
    assert [number(value) for value in (0, 3, 1234567.8, 99.95, 12.34, 0.01234, 0.00001, -0.5, 100)] == [
        "0", "3", "1,234,568", "100", "12.3", "0.0123", "0", "-0.5", "100",
    ]  # fmt: skip
