"""Which servers take part, and the sizes of the scenarios."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from loadgen.compare import scenarios as scenarios_module
from loadgen.compare.catalogue import OURS, PEERS
from loadgen.compare.measure import Meter
from loadgen.compare.results import Entry, Results, Sample, Scenario, Sizes
from loadgen.compare.scenarios import load, scenarios
from loadgen.personas import registry
from loadgen.report import figures
from loadgen.report.schema import Report
from loadgen.run.preflight import InvalidRunError
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


@pytest.mark.parametrize(
    ("held", "ended", "why"),
    [
        (9, {}, "9 of 10 held, 0 ended"),
        (None, {}, "0 of 10 held"),
        (10, {"closed": 1}, "10 of 10 held, 1 ended .closed"),
    ],
)
def test_fewer_clients_than_were_asked_for_have_no_figures(held: float | None, ended: dict[str, int], why: str) -> None:
    report = reports.run()
    report.cohorts, report.figures = [reports.cohort("idle", 10, ended=ended)], {"held": held}
    with pytest.raises(InvalidRunError, match=why):
        scenarios_module._all_held(report)


class Scripted:
    """A meter that plays nothing: it notes what it is asked for, and has these figures, one run after the other."""

    def __init__(self, *figures: Mapping[str, float]) -> None:
        self.asked: list[tuple[object, ...]] = []
        self._figures = iter(figures)

    def _report(self) -> Report:
        report = reports.run()
        report.cohorts, report.figures = [], {"held": 0, "echo_p99_ms": 1, "ack_p99_ms": 1, **next(self._figures)}
        return report

    async def run(self, counts: Mapping[str, int], *, rate: float = 0.0, rooms: int = 1, **_: Any) -> Report:
        self.asked.append((counts, rate, rooms))
        return self._report()

    async def attack(self, counts: Mapping[str, int], *, victims: Mapping[str, int], seconds: float) -> Report:
        self.asked.append((counts, victims, seconds))
        return self._report()

    @asynccontextmanager
    async def beside(self, counts: Mapping[str, int]) -> AsyncIterator[int]:
        self.asked.append((counts,))
        yield sum(counts.values()) - 1


async def played(name: str, meter: Scripted, peer: str = OURS, sizes: Sizes | None = None) -> Sample:
    return await by_name()[name].play(cast(Meter, meter), PEERS[peer], sizes or Sizes())


def delivering(per_s: float, held: int = 100) -> dict[str, float]:
    return {"held": held, "server_cpu_us_per_connection_s": 200, "deliveries_per_s": per_s}


async def test_of_idle_clients_as_many_fit_as_their_memory_allows() -> None:
    meter = Scripted({"held": 10_000, "server_bytes_per_further_connection": 436})
    sample = await played("idle", meter)
    assert meter.asked == [({"idle": 10_000}, 0.0, 50)]
    assert (sample["bytes"], sample["fit"]) == (436, 2**30 / 436)


@pytest.mark.parametrize(
    ("members", "speakers", "paced", "flood"), [(1_000, 50, 4, 100), (100, 25, 40, 250), (2, 1, 10, 10)]
)
async def test_few_of_a_room_speak_and_none_faster_than_a_client_can(
    members: int, speakers: int, paced: float, flood: float
) -> None:
    meter = Scripted(delivering(4_000), delivering(50_000))
    sample = await played("fanout", meter, sizes=Sizes(members=members))
    assert meter.asked == [({"idle": members - speakers, "chat": speakers}, rate, 1) for rate in (paced, flood)]
    assert (sample["paced_us"], sample["flood_us"], sample["flood_per_s"]) == (5, 0.4, 50_000)
    note = by_name()["fanout"].layouts[0].note
    assert flood * members >= 100_000 or "or as many as the members of a small room can say" in note


async def test_of_a_throughput_it_is_told_what_is_kept_beside_others() -> None:
    meter = Scripted(delivering(1_800), delivering(900))
    sample = await played("beside", meter)
    alone = ({"chat": 600}, 1_800, 600)
    assert meter.asked == [alone, ({"idle": 10_000, "slow-head": 5_000},), alone]
    told = {name: sample[name] for name in ("held", "alone_per_s", "crowded_per_s", "kept")}
    assert told == {"held": 14_999, "alone_per_s": 1_800, "crowded_per_s": 900, "kept": 50}
    assert sample["crowded_us"] == 2 * (sample["alone_us"] or 0) > 0


@pytest.mark.parametrize(
    ("name", "peer", "asked"),
    [
        ("attack-slow-head", OURS, ({"slow-head": 8_000}, {"ws": 50}, 12)),
        ("attack-slow-head", "nchan", ({"slow-head": 8_000}, {"get": 50}, 12)),
        ("attack-slow-read-ws", OURS, ({"slow-read-ws": 2_500}, {"ws": 50}, 12)),  # no more than is usual
    ],
)
async def test_an_attack_has_victims_that_the_server_can_serve(name: str, peer: str, asked: tuple[object, ...]) -> None:
    figures = {"server_bytes_per_attacker": 1_000, "attackers_peak": 2_000, "server_bytes_grown": 3 * 2**20}
    meter = Scripted(figures)
    sample = await played(name, meter, peer)
    assert meter.asked == [asked]
    assert (sample["bytes"], sample["grown"]) == (1_000, 3)


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
