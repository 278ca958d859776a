"""The arithmetic of figures and of memory, on readings that the test makes up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clients.messages import PhaseResult, Reread, Result, TrafficResult
from loadgen.personas import registry
from loadgen.report import bar
from loadgen.report.schema import Sample
from loadgen.run import experiment
from loadgen.run.experiment import Counts
from loadgen.run.measured import recover_seconds
from loadgen.run.procfs import Ticks
from loadgen.run.span import Size, Span, bytes_each, grown
from tests.loadgen.plays import config
from tests.loadgen.readings import at_floor, group, lasted, late, measured, read

MB = 1_000_000


def entry(seconds: float, *, phase: str = "recovery", succeeded: int = 50, failed: int = 0, p99: float = 1.0) -> Sample:
    counts = {"held": {}, "ended": {}, "refused": {}, "succeeded": succeeded, "failed": failed}
    return Sample(seconds=seconds, phase=phase, p99_ms=p99, **counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ([entry(20.7), entry(21.7)], 0.0),
        ([entry(20.7, failed=1), entry(21.7)], 0.5),
        ([entry(20.7), entry(21.7, p99=99.0), entry(22.7), entry(23.2)], 1.5),
        ([entry(20.7), entry(21.7, succeeded=0), entry(22.7)], 1.5),
        ([entry(20.7, failed=1), entry(21.7), entry(22.7, failed=1), entry(23.7)], 2.5),
        ([entry(20.7), entry(21.7, failed=1)], None),
        ([entry(20.7), entry(20.75, succeeded=0, failed=1)], None),  # short, and something ended in it
        ([entry(20.7), entry(20.75, p99=99.0)], None),
        ([entry(20.7, failed=1), entry(20.75)], 0.5),
        ([entry(20.7), entry(21.7), entry(21.75, succeeded=0)], 0.0),  # too short for an operation to end in it
        ([entry(20.7), entry(21.7, failed=1), entry(21.75, succeeded=0)], None),
        ([], None),
    ],
)
def test_recovery_is_measured_in_seconds_whatever_the_entries_of_the_timeline_are(
    entries: list[Sample], seconds: float | None
) -> None:
    """An entry was taken for a second, and a phase ends with an entry of any length."""
    timeline = [entry(19.7, phase="attack", failed=3), entry(20.2, phase="attack", failed=3), *entries]
    assert recover_seconds(timeline, {"recovery"}, 10.0) == seconds


def test_without_a_bar_nothing_is_said_of_the_recovery() -> None:
    assert recover_seconds([entry(1.0, phase="attack"), entry(2.0)], {"recovery"}, None) is None


def test_tls_costs_memory_that_no_server_can_save() -> None:
    """OpenSSL's 14 KB for each were over a limit of 2 KiB in every row.

    The heap of nginx kept 47 KB of each unfinished handshake, and used them again in the next attack: it was blamed.
    """
    assert (bar.allowed_bytes(100, tls=False), bar.allowed_bytes(100, tls=False, left=True)) == (729_088, 626_688)
    assert bar.allowed_bytes(100, tls=True) > 100 * 43_000
    assert bar.allowed_bytes(100, tls=True, left=True) > 100 * 47_000


# Memory


def baseline(rate: int, *, jump: int = 0, after: int = 0) -> list[Size]:
    """Three seconds of a server that grows by `rate` a second, and once by more."""
    return [Size(10 + at / 2, 80 * MB + (jump if at > after else 0) + rate * at // 2) for at in range(7)]


@given(rate=st.integers(0, 500_000), cost=st.integers(0, 50 * MB), after=st.integers(1, 20), jump=st.integers(0, 5))
def test_what_victims_say_is_taken_off(rate: int, cost: int, after: int, jump: int) -> None:
    """And that alone: whatever the server needed once, for its first work, it does not need again and again."""
    last = 80 * MB + 3 * MB + 3 * rate
    found = grown(baseline(rate, jump=3 * MB, after=jump), [Size(13 + after, last + rate * after + cost)])
    assert found is not None
    assert abs(found - cost) <= 10 * after, "but for rounding"


def test_the_worst_moment_counts() -> None:
    assert grown(baseline(0), [Size(14, 81 * MB), Size(15, 88 * MB), Size(16, 82 * MB)]) == 8 * MB
    assert grown(baseline(0), []) is None


def test_a_baseline_that_shrinks_or_is_short_explains_nothing() -> None:
    for sizes in (baseline(-100_000), baseline(100_000)[:3], baseline(0)[:1]):
        assert grown(sizes, [Size(99, sizes[-1].resident + MB)]) == MB
    assert grown(baseline(100_000)[:4], [Size(12.5, 80 * MB + 250_000)]) == 0, "three steps tell"
    assert grown([], [Size(1, MB)]) is None


# Who had the processors


def shared(*, busy: int = 800, cpu: float = 1.0, waits: dict[int, float], pressure: float = 0.0) -> Span:
    """Ten seconds on two processors, in which the server used so many and all programs so many ticks."""
    before = read(0.0, server_waits={1: 5.0, 2: 1.0}, pressure=0.0)
    ticks = Ticks(2000, 0, 2000 - busy)
    return Span("attack", Counts.LOAD, before, read(10.0, cpu=cpu, server_waits=waits, pressure=pressure, ticks=ticks))


def test_a_server_waited_as_long_as_the_worst_of_its_threads_in_one_phase() -> None:
    """A worker that waited for 35% of an attack of 12 s waited for 14% of the run, and its master for nothing."""
    quiet = shared(waits={1: 5.0, 2: 1.0})._replace(name="baseline", counts_as=Counts.BASELINE)
    attack = shared(waits={1: 5.0, 2: 4.5})
    warm_up = shared(waits={1: 14.0})._replace(name="warm-up", counts_as=Counts.OPENING)
    found = measured(config({"slow-head": 1}), Result(), warm_up, quiet, attack).figures()
    assert found["server_cpu_wait_percent"] == 35.0
    assert measured(config({"slow-head": 1}), Result(), quiet).figures()["server_cpu_wait_percent"] == 0.0
    assert shared(waits={1: 5.0, 7: 3.0}).wait_percent == 30.0, "it began to run in this phase"
    assert attack._replace(before=read(0.0)).wait_percent is None


def test_a_server_whose_threads_wait_for_each_other_has_no_excuse() -> None:
    """Its own doing was called that of others: 4 workers on 2 processors wait for half of their time."""
    own = shared(busy=2000, cpu=19.5, waits={1: 10.0}, pressure=10.0)
    assert (own.wait_percent, own.pressure_percent) == (5.0, 5.0), "0.5 s were used by other programs"
    others = shared(busy=2000, cpu=10.0, waits={1: 10.0}, pressure=9.7)
    assert (others.wait_percent, others.pressure_percent) == (50.0, 97.0)
    unknown = own._replace(after=own.after._replace(server=None))
    assert unknown.pressure_percent == 100.0
    hidden = own._replace(after=own.after._replace(ticks=Ticks(0, 0)))
    assert (hidden.wait_percent, hidden.pressure_percent) == (50.0, 100.0)


# Figures of a run and of an attack whose readings are made up


def test_clients_that_come_while_they_are_measured_are_clients_held() -> None:
    """A scenario that grows from nobody said that it had held nobody, and had no CPU of a connection."""
    begin, full, end = read(0.0), read(10.0, held=100, cpu=1.0), read(20.0, held=100, cpu=3.0)
    what = experiment.honest_load({registry()["idle"]: 100}, rate=0, seconds=20, rooms=("lobby",))
    found = measured(what, Result(), Span("rise", Counts.LOAD, begin, full), Span("day", Counts.LOAD, full, end))
    figures = found.figures()
    assert figures["held"] == 100
    assert figures["server_cpu_us_per_connection_s"] == 2000.0, "3 s for 500 connection-seconds and 1,000"


def test_the_figures_of_a_run() -> None:
    """Of 90 messages 10 were acknowledged later, so the rate is 8 a second: a server of 800 a second told of 1,003."""
    counts = {registry()["idle"]: 80, registry()["chat"]: 20}
    warm = read(1.0, memory=10 * MB, held=10, own_bytes=1000, crowd_cpu_seconds=1.0, cpu=1.0)
    half = read(2.0, memory=11 * MB, held=55, own_bytes=5000)
    full = read(3.0, memory=11 * MB + 45_000, held=100, own_bytes=10_000, crowd_cpu_seconds=1.009, cpu=1.018)
    steady = read(4.0, held=100, cpu=2.0, deliveries=50, ticks=Ticks(1000, 10))
    after = read(
        14.0, held=97, cpu=2.5, acknowledged=80, deliveries=1050, sent_bytes=300, received_bytes=7000,
        ticks=Ticks(2000, 30),
    )  # fmt: skip
    traffic = TrafficResult(
        acks=lasted(1.0, 2.0, 9.0), echoes=lasted(5.0), acknowledged_in={"a": 60, "b": 30}, errors={"answered 500": 3},
        unacknowledged=4, unsent=1, unreturned=2,
    )  # fmt: skip
    groups = [
        group("idle", "crowd", refused={"answered 503": 1, "full": 1}, failed={"reset": 2}, connects=lasted(1.0)),
        group("chat", "crowd", ended={"closed": 3}, connects=lasted(2.0), handshakes=lasted(7.0)),
    ]
    found = measured(
        experiment.honest_load(counts, rate=10, seconds=10),
        Result(
            groups=groups, traffic=traffic,
            lags=[("crowd", "warm-up", late(99.0)), ("crowd", "steady", late(2.0))],
        ),
        Span("warm-up", Counts.OPENING, read(0.0), warm, 9.0),
        Span("opening", Counts.OPENING, warm, half, 0.5),
        Span("opening, second half", Counts.OPENING, half, full, 0.4),
        Span("steady", Counts.LOAD, steady, after),
    )  # fmt: skip
    found.round_trip_seconds = 0.002
    assert found.figures() == {
        "round_trip_ms": 2.0, "held": 100, "refused": 2, "failed": 2, "ended": 3,
        "connect_p50_ms": 1.0, "connect_p99_ms": 2.0, "handshake_p50_ms": 7.0, "handshake_p99_ms": 7.0,
        "sent_bytes_per_s": 30.0, "received_bytes_per_s": 700.0,
        "ack_p50_ms": 2.0, "ack_p99_ms": 9.0, "ack_max_ms": 9.0,
        "echo_p50_ms": 5.0, "echo_p99_ms": 5.0, "echo_max_ms": 5.0,
        "unacknowledged": 5, "unreturned": 2, "missed": 0, "surplus": 0, "message_errors": 3,
        "messages_per_s": 8.0, "deliveries_per_s": 100.0,
        "own_cpu_us_per_client": 100.0, "server_cpu_us_per_client": 200.0,
        "server_bytes_per_connection": 11_610.0, "server_bytes_per_further_connection": 1000.0,
        "server_cpu_us_per_connection_s": 507.6, "steal_percent": 2.0,
        "lag_p99_ms": 2.0, "lag_max_ms": 2.0, "backlog_p99_ms": 3.0, "backlog_max_ms": 3.0,
        "own_bytes_per_client": 100.0, "own_cpu_percent": None, "own_cpu_wait_percent": None,
        "server_cpu_wait_percent": None, "connects_per_s": 100.0,
    }  # fmt: skip


def test_the_figures_of_attackers_and_neighbours() -> None:
    groups = [
        group(
            "slow-head", "attackers", wanted=100, came=98, held=60, peak=90, opened=110, sent_bytes=5000,
            refused={"answered 503": 5}, failed={"reset": 2}, ended={"closed": 30, "answered 408": 10},
            lifetime=lasted(9000, 10_000, 12_000), answers={"answered 408": 10},
        ),
        group("sleepy-tab", "neighbours", refused={"answered 429": 1}, failed={"reset": 1}, starved=1, peak=2),
        group("chat", "neighbours", ended={"closed": 1}, peak=1),
    ]  # fmt: skip
    floor = at_floor(baseline_p99_ms=2.0, attack_p99_ms=3.0)
    found = measured(
        config({"slow-head": 100}, neighbours={"sleepy-tab": 2}, baseline=10.0, seconds=20.0, recovery=5.0),
        Result(groups=groups, reread=Reread(asked=40, lost=1)),
        Span("baseline", Counts.BASELINE, read(0.0, cpu=0.0, ticks=Ticks(0, 0), pressure=1.0),
             read(10.0, memory=50 * MB, cpu=1.0, ticks=Ticks(1000, 50), pressure=2.0)),
        Span("attack", Counts.LOAD, read(10.0, cpu=1.0), read(30.0, memory=51 * MB, cpu=8.0)),
        Span("recovery", Counts.RECOVERY, read(30.0, pressure=3.0), read(35.0, memory=50_700_000, pressure=8.1)),
        floor=floor,
    )  # fmt: skip
    found.memory = {
        "baseline": [Size(float(at), 50 * MB) for at in range(5)],
        "attack": [Size(15.0, 53 * MB), Size(20.0, 52 * MB)],
        "recovery": [Size(31.0, 54 * MB)],
    }
    found.descriptors_before, found.descriptors_after = 50, 53
    found.attacker_seconds = 1000.0
    figures = found.figures()
    assert {name: value for name, value in figures.items() if value is not None} == {
        "round_trip_ms": 0.0, "newcomers_came": 0, "floor_baseline_p99_ms": 2.0, "floor_p99_ms": 3.0,
        "acknowledged": 40, "acknowledged_lost": 1, "neighbours": 2, "collateral": 4,
        "attackers_asked": 100, "attackers_came": 98, "attacker_addresses": 1,
        "attempts_per_s": 5.85, "attacker_bytes_per_s": 250.0,
        "attackers_peak": 90, "attackers_held": 60, "attackers_killed": 40, "attackers_refused": 5,
        "kill_p50_s": 10.002431, "kill_max_s": 12.0,
        "server_cpu_us_per_attacker_s": 5000.0, "server_cpu_percent": 35.0,
        "server_bytes_grown": 3 * MB, "server_bytes_per_attacker": 30_610.0,
        "server_bytes_over_bar": 3 * MB - 100 * 2048 - 512 * 1024,
        "server_bytes_left": 700_000, "server_bytes_left_over_bar": 700_000 - 100 * 1024 - 512 * 1024,
        "server_descriptors_left": 3, "baseline_pressure_percent": 10.0, "recovery_pressure_percent": 100.0,
        "baseline_steal_percent": 5.0,
    }  # fmt: skip


def test_an_attack_is_compared_with_the_baseline_and_the_floor_by_percentiles_not_by_the_worst() -> None:
    phases = [
        PhaseResult(phase="baseline", kind="ws", latency=lasted(*[1] * 198, 50, 50)),
        PhaseResult(phase="attack", kind="ws", latency=lasted(*[2] * 198, 300, 300)),
    ]
    found = measured(config({"slow-head": 1}), Result(phases=phases), floor=at_floor(attack_p99_ms=0.5)).figures()
    assert [found["p99_ratio"], found["floor_p99_ratio"]] == pytest.approx([2, 4], rel=0.01)


def test_without_neighbours_malformed_requests_and_messages_there_is_nothing_to_judge() -> None:
    found = measured(config({"slow-head": 1}), Result(groups=[group("slow-head", "attackers")])).figures()
    for name in ("collateral", "malformed_accepted", "acknowledged", "acknowledged_lost", "server_bytes_over_bar"):
        assert found[name] is None, name
    assert found["neighbours"] == 0


def test_what_comes_back_to_nobody_and_what_an_unknown_server_used_is_not_measured() -> None:
    load = experiment.honest_load({registry()["request"]: 1}, rate=1, seconds=1)
    begin, end = read(0.0, server=None), read(1.0, server=None, held=1)
    spans = (
        *[Span("opening", Counts.OPENING, begin, end)] * 2,
        Span("steady", Counts.LOAD, end, end._replace(moment=2.0)),
    )
    found = measured(load, Result(groups=[group("request", "crowd")]), *spans).figures()
    for name in ("unreturned", "missed", "surplus", *(name for name in found if name.startswith("server_"))):
        assert found[name] is None, name


@pytest.mark.parametrize("openings", [0, 1])
def test_a_run_that_was_stopped_while_it_opened_has_what_was_measured(openings: int) -> None:
    load = experiment.honest_load({registry()["idle"]: 1}, rate=0, seconds=1)
    warm = Span("warm-up", Counts.OPENING, read(0.0), read(1.0, memory=MB, held=10))
    found = measured(load, Result(), *[warm] * openings).figures()
    assert found["held"] == 0
    assert found["server_bytes_per_further_connection"] is None


@pytest.mark.parametrize(("growth", "each"), [(-45_570, None), (45_570, 4557.0)])
def test_memory_that_shrank_is_no_cost(growth: int, each: float | None) -> None:
    """A report said that each client costs the generator -4,557 B."""
    load = experiment.honest_load({registry()["idle"]: 12}, rate=0, seconds=1)
    warm, full = read(1.0, held=2, own_bytes=MB), read(2.0, held=12, own_bytes=MB + growth)
    found = measured(
        load,
        Result(),
        Span("warm-up", Counts.OPENING, read(0.0), warm),
        Span("opening", Counts.OPENING, warm, full),
        Span("steady", Counts.LOAD, full, full),
    )
    assert found.figures()["own_bytes_per_client"] == each


def test_of_a_server_that_died_nothing_is_computed() -> None:
    begin = read(0.0, memory=MB, server_waits={1: 0.5}, pressure=1.0)
    alive = Span("opening", Counts.OPENING, begin, begin._replace(moment=1.0, held=1))
    dead = alive._replace(after=read(2.0, held=2, server=None))
    assert alive.wait_percent == alive.pressure_percent == 0.0
    assert dead.wait_percent is dead.pressure_percent is None
    assert bytes_each(alive, dead) is bytes_each(dead, alive) is None
