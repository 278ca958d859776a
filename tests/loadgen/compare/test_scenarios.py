"""Which servers take part, and the sizes of the scenarios."""

import pytest

from loadgen.compare import scenarios as scenarios_module
from loadgen.compare.catalogue import PEERS
from loadgen.compare.results import Entry, Results, Scenario, Sizes
from loadgen.compare.scenarios import load, scenarios
from loadgen.personas import registry
from loadgen.report import figures
from loadgen.report.schema import Report
from tests.loadgen import reports

KINDS = ("slow-head", "slow-frame", "slow-read-ws")


def by_name() -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios([registry()[kind] for kind in KINDS])}


def taking_part(name: str) -> set[str]:
    return {peer.name for peer in PEERS.values() if by_name()[name].takes(peer)}


def test_who_takes_part() -> None:
    assert taking_part("attack-slow-head") == set(PEERS) - {"chatserver-memory"}, "half a request is enough"
    crowded = set(PEERS) - {"thread-pool"}
    assert taking_part("idle") == crowded - {"chatserver-memory"}
    assert taking_part("poll") == crowded - {"chatserver-memory", "nchan", "websockets", "trio-websocket"}
    assert taking_part("fanout") == crowded
    assert taking_part("beside") == crowded - {"nchan"}
    assert taking_part("attack-slow-read-ws") == set(PEERS) - {"chatserver-memory", "nchan"}


@pytest.mark.parametrize(
    ("figure", "title"),
    [
        ("unacknowledged", "unanswered"),  # of a server that answered nobody
        ("unreturned", "not returned"),
        ("missed", "missed"),
        ("surplus", "surplus"),
    ],
)
def test_what_a_server_lost_is_in_the_table(figure: str, title: str) -> None:
    """It had 0 errors beside its name, and no other count."""
    entry, floor = Entry(sample={"message_errors": 0, figure: 300}), PEERS["floor"]
    (found,) = Results(load({"request": 20}, rate=100, seconds=3), rounds=[{floor.name: entry}]).tables([floor])
    [row] = found.rows
    shown = dict(zip(found.columns, row, strict=True))
    assert (shown["errors"], shown[title]) == ("0", "300")


def run_of(held: int, bytes_each: float) -> Report:
    report = reports.run()
    report.figures = {"held": held, "server_bytes_per_further_connection": bytes_each}
    return report


@pytest.mark.parametrize(
    ("held", "bytes_each", "told"),
    [(6_000, 436.0, 436.0), (6_000, 15.1, None), (200, 436.0, None), (200, 25_000.0, 25_000.0), (6_000, -110.0, None)],
)
def test_too_little_memory_to_be_told_from_noise(held: int, bytes_each: float, told: float | None) -> None:
    """2,000 of ours once cost 15 B each, since holes in the heap took them in; aiohttp's then cost 976 times that."""
    assert scenarios_module._bytes_each(run_of(held, bytes_each)) == told


def test_columns_have_names_of_their_own_which_are_figures_or_worked_out() -> None:
    worked_out = {"bytes", "fit", "grown"}
    for scenario in (*by_name().values(), scenarios_module.load({}, rate=1.0, seconds=1.0)):
        names = [column.name for layout in scenario.layouts for column in layout.columns]
        assert len(names) == len(set(names))
        assert scenario.name in {"fanout", "beside"} or set(names) <= {*figures.ALL, *worked_out}, scenario.name


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1.0, (10_000, 15_000, 8_000, 1_000, 600, 50)),
        (0.2, (6_000, 3_000, 1_600, 200, 600, 50)),
        (0.001, (6_000, 15, 8, 2, 600, 50)),
        (2.0, (20_000, 30_000, 16_000, 2_000, 1_200, 50)),
    ],
)
def test_sizes_are_scaled(scale: float, expected: tuple[int, ...]) -> None:
    made = Sizes().scaled(scale)
    assert (made.crowd, made.beside, made.attackers, made.members, made.publishers, made.victims) == expected
