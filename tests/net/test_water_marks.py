"""Evictions before the last place is taken: from the high to the low water mark of admission, the worst first."""

import pytest
from structlog.testing import capture_logs

from chatserver.net import admission as admission_module
from chatserver.net.connection import Closing
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.parked import Parked


@pytest.mark.parametrize(
    ("held", "state", "left"),
    [
        (95, State.KEEPALIVE, 95),
        (96, State.KEEPALIVE, 90),
        (100, State.KEEPALIVE, 90),
        (100, State.OPEN, 100),  # the steps end though no connection may be evicted
    ],
)
def test_places_are_reclaimed_from_the_high_mark_to_the_low_one(it: Parked, held: int, state: State, left: int) -> None:
    it.admission.total = 100
    for number in range(held):
        it.place(state, address=f"192.0.2.{number}")
    it.turn(seconds=3.0)
    with capture_logs() as logs:
        it.admission.tick()
        it.run_rounds()
    assert it.connections.held == left
    begun = [(line["held"], line["places"]) for line in logs if line["event"] == "places_short"]
    assert begun == ([(held, 100)] if held > 95 else [])
    assert it.details("closed") == [Reason.EVICTED] * (held - left)


def test_the_worst_go_first_down_to_the_low_mark(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is one scan, so a large table does not make a long step."""
    monkeypatch.setattr(admission_module, "SCAN_BATCH", 16)
    monkeypatch.setattr(admission_module, "SCAN_BUDGET", 16)
    it.admission.total = 100
    members = [it.place(State.OPEN, address="192.0.2.200")[0] for _ in range(60)]
    lingering = [it.place(State.CLOSING, address=f"192.0.2.{number}")[0] for number in range(5)]
    for each in lingering:
        each.context = Closing(Reason.DONE)
        each.deadline = it.connections.wheel.current + 1
    idle = [it.place(State.KEEPALIVE, address=f"198.51.100.{number}")[0] for number in range(35)]
    it.connections.wheel.advance(3.0)
    it.connections.wheel.current += 30
    it.admission.tick()
    it.run_rounds()
    assert it.connections.held == 90
    assert all(each.alive for each in members)
    assert sum(each.alive for each in idle) >= 25


def test_in_a_large_table_a_crowd_goes_before_a_person(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """One scan finds fewer than must go, and the person is among them."""
    for name in ("SCAN_BATCH", "SCAN_BUDGET", "MAX_CANDIDATES"):
        monkeypatch.setattr(admission_module, name, 4)
    it.admission.total = 100
    person, _ = it.place(State.KEEPALIVE, address="192.0.2.1")
    crowd = [it.place(State.KEEPALIVE, address="192.0.2.2")[0] for _ in range(99)]
    it.turn(seconds=3.0)
    it.admission.tick()
    it.run_rounds()
    assert (it.connections.held, sum(each.alive for each in crowd)) == (90, 89)
    assert person.alive


def test_while_few_places_are_left_one_search_and_one_line_are_begun(it: Parked) -> None:
    """A server full of members would log each second, and searches would queue up behind a flood."""
    it.admission.total = 10
    members = [it.place(State.OPEN)[0] for _ in range(10)]
    with capture_logs() as logs:
        for _ in range(3):
            it.admission.tick()
        assert it.connections.scheduler.statistics()["first"] == 1
        it.run_rounds()
        it.connections.close(members[0], Reason.DONE)
        it.admission.tick()
        it.place(State.OPEN)
        it.admission.tick()
    assert [line["event"] for line in logs] == ["places_short"] * 2, "again when places had been free meanwhile"
