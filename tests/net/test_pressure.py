"""Steps under pressure: when one is taken and taken back, and who feels it."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.eviction import Eviction, Waits
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.pressure import CALM, CROWD, LADDER, LOOK, Hysteresis, Pressure, Step, needed, overdue
from chatserver.net.wheel import TICK
from chatserver.reasons import Reason
from tests.support.parked import Parked, pair

LIMITS = PhaseLimits()
NOW = 1_000  # tick


@pytest.mark.parametrize(
    ("share", "step"),
    [(0.0, Step.AMPLE), (0.79, Step.AMPLE), (0.8, Step.BUSY), (0.9, Step.SCARCE), (1.0, Step.SCARCE)],
)
def test_what_a_share_asks_for(share: float, step: Step) -> None:
    assert needed(share, turned_away=False) is step
    assert needed(share, turned_away=True) is Step.FULL


def test_each_step_is_tighter() -> None:
    rungs = [LADDER[step] for step in Step]
    for lower, upper in pairwise(rungs):
        assert lower.begins < upper.begins
        assert (upper.keepalive or 1e9) < (lower.keepalive or 1e9)
        assert (upper.crowd_head or 1e9) <= (lower.crowd_head or 1e9)
        assert (upper.keepalive or 1e9) < LIMITS.keepalive


def steps(hysteresis: Hysteresis, *looks: tuple[float, bool]) -> list[Step]:
    return [hysteresis.look(share, turned_away=turned_away) for share, turned_away in looks]


def test_up_at_once_and_down_by_one_after_a_calm() -> None:
    hysteresis = Hysteresis()
    assert steps(hysteresis, (0.95, False)) == [Step.SCARCE]
    assert steps(hysteresis, (1.0, True)) == [Step.FULL]
    calm = [Step.FULL] * (CALM - 1) + [Step.SCARCE]
    assert steps(hysteresis, *[(0.2, False)] * CALM) == calm
    assert steps(hysteresis, *[(0.2, False)] * (2 * CALM))[-1] is Step.AMPLE


def test_a_step_is_not_taken_back_by_what_it_freed() -> None:
    """80% began it, 75% does not end it; 69% does."""
    hysteresis = Hysteresis()
    assert steps(hysteresis, (0.81, False), *[(0.75, False)] * 50)[-1] is Step.BUSY
    assert steps(hysteresis, *[(0.69, False)] * CALM)[-1] is Step.AMPLE


def test_calm_is_counted_in_a_row() -> None:
    hysteresis = Hysteresis()
    steps(hysteresis, (0.85, False))
    looks = [(0.5, False)] * (CALM - 1) + [(0.85, False)]
    assert set(steps(hysteresis, *looks * 10)) == {Step.BUSY}


# -- who feels it ---------------------------------------------------------------------------------------------------


class House(Parked):
    """Parked connections, some of them in a crowd, under a pressure that the test chooses."""

    def __init__(self) -> None:
        super().__init__(LIMITS)
        self.admission = Admission(total=100, per_address=0)
        self.eviction = Eviction(self.connections, LIMITS, after=2.0, farewells=[b"503"])
        self.pressure = Pressure(self.connections, LIMITS, self.admission, self.eviction)

    def let_in(self, phase: Phase = Phase.HEAD, *, address: str = "192.0.2.200") -> Connection:
        ours, peer = pair()
        self._peers.append(peer)
        assert self.admission.admit(address) is None
        connection = self.connections.adopt(ours.detach(), address)
        if phase is not Phase.HEAD:
            self.connections.enter(connection, phase)
        return connection

    def step(self) -> Step:
        return self.pressure.step

    def sweep(self, step: Step) -> list[Connection]:
        """Those who expire at the next tick after a sweep."""
        trio.run(self.pressure._sweep, LADDER[step])
        return self.turn(seconds=TICK)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def test_a_person_who_types_is_not_hurt_at_any_step(house: House) -> None:
    """slow-typist needs 8 s; his deadline is 10 s, and stays."""
    person = house.let_in()
    house.turn(seconds=9.5)
    assert [house.sweep(step) for step in Step if step is not Step.AMPLE] == [[], [], []]
    assert person.deadline == 101, "as it was set when it came"


@pytest.mark.parametrize(("step", "seconds"), [(Step.SCARCE, 5.0), (Step.FULL, 3.0)])
def test_heads_in_a_crowd_are_due_sooner(house: House, step: Step, seconds: float) -> None:
    crowd = [house.let_in(address="192.0.2.1") for _ in range(CROWD + 1)]
    few = [house.let_in(address="192.0.2.2") for _ in range(CROWD)]
    house.turn(seconds=seconds - TICK)
    assert house.sweep(step) == [], "it may come a little late, never early"
    assert house.sweep(step) == crowd
    assert all(each.deadline == few[0].deadline == 101 for each in few)


@pytest.mark.parametrize(("step", "seconds"), [(Step.BUSY, 15.0), (Step.SCARCE, 5.0), (Step.FULL, 3.0)])
def test_the_idle_are_due_sooner_and_those_parked_before_as_well(house: House, step: Step, seconds: float) -> None:
    idle = house.let_in(Phase.KEEPALIVE)
    house.turn(seconds=seconds - 1.0)
    later = house.let_in(Phase.KEEPALIVE)
    assert house.sweep(step) == []
    house.turn(seconds=2.5)  # deadlines at rest are brought together: up to a second late
    assert house.sweep(step) == [idle]
    assert later.alive


def test_a_limit_that_is_shorter_already_stays(house: House) -> None:
    waits = Waits(PhaseLimits(keepalive=2.0))
    idle = house.let_in(Phase.KEEPALIVE)
    idle.deadline = NOW + 1
    assert not overdue(idle, LADDER[Step.BUSY], waits, tick=NOW, crowds=Counter())


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.HEAD, Phase.KEEPALIVE, Phase.PACED}))
def test_nobody_else_feels_it(house: House, phase: Phase) -> None:
    everybody = [house.let_in(address="192.0.2.1") for _ in range(CROWD + 1)]
    for connection in everybody:
        connection.phase = phase
    house.turn(seconds=1.8)
    before = [connection.deadline for connection in everybody]
    trio.run(house.pressure._sweep, LADDER[Step.FULL])
    assert [connection.deadline for connection in everybody] == before


def test_a_peer_that_is_behind_is_judged_by_flush(house: House) -> None:
    idle = house.let_in(Phase.KEEPALIVE)
    house.connections.send(idle, b"x" * 1_000_000)
    house.turn(seconds=20.0)
    assert house.sweep(Step.FULL) == []
    assert idle.alive


def test_who_closes_during_a_sweep_is_not_looked_for(house: House) -> None:
    house.let_in(Phase.KEEPALIVE)
    house.turn(seconds=10.0)

    async def close_meanwhile() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.pressure._sweep, LADDER[Step.FULL])
            house.connections.close_all(Reason.DRAINING)

    trio.run(close_meanwhile)
    assert house.turn(seconds=0.5) == []


# -- the task -------------------------------------------------------------------------------------------------------


async def test_steps_are_logged_and_counted(house: House, autojump_clock: trio.testing.MockClock) -> None:
    house.admission.total = 10
    everybody = [house.let_in() for _ in range(9)]
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.pressure.run)
            await trio.sleep(1.5 * LOOK)
            assert house.step() is Step.SCARCE
            for connection in everybody:
                house.admission.release(connection.address)
            await trio.sleep((2 * CALM + 1) * LOOK)
            assert house.step() is Step.AMPLE
            nursery.cancel_scope.cancel()
    assert [(line["event"], line["step"]) for line in logs] == [
        ("places_scarcer", "scarce"),
        ("places_ampler", "busy"),
        ("places_ampler", "ample"),
    ]
    assert logs[0]["held"] == 9
    assert logs[0]["places"] == 10
    assert (house.pressure.tightened, house.pressure.loosened) == (1, 2)


async def test_a_fault_in_a_look_costs_that_look(
    house: House, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, planted = house.pressure.look, [RuntimeError("planted")]

    def fail_once() -> None:
        if planted:
            raise planted.pop()
        look()

    monkeypatch.setattr(house.pressure, "look", fail_once)
    for _ in range(95):
        house.let_in()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.pressure.run)
        await trio.sleep(2.5 * LOOK)
        nursery.cancel_scope.cancel()
    assert (house.step(), house.connections.faults, house.connections.held) == (Step.SCARCE, 1, 95)


async def test_who_is_turned_away_makes_it_full(house: House, autojump_clock: trio.testing.MockClock) -> None:
    """However many places are taken: descriptors may be short before places are."""
    house.admission.total = 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.pressure.run)
        house.eviction.make_room(None)
        await trio.sleep(1.5 * LOOK)
        assert house.step() is Step.FULL
        await trio.sleep(3 * CALM * LOOK)
        assert house.step() is Step.AMPLE
        nursery.cancel_scope.cancel()
