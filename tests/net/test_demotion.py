"""Who waits for all others, for how long, and who does not. Which rules are meant: tests/edge/test_demotion.py."""

import pytest

from chatserver.net import demotion as demotion_module
from chatserver.net import scheduler as scheduler_module
from chatserver.net.connection import Connection
from chatserver.net.demotion import DEMOTED_SECONDS
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.parked import Parked, parked

OFFICE, PROXY = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    for module in (demotion_module, scheduler_module):
        monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return now


def come(it: Parked, address: str, state: State = State.HEAD) -> Connection:
    connection, _ = it.place(state, address=address)
    return connection


def waits(it: Parked, connection: Connection) -> bool:
    """Whether a step for this peer is queued in `BULK`."""
    before = it.connections.scheduler.statistics()["bulk"]
    it.connections.submit(lambda _: False, connection)
    return it.connections.scheduler.statistics()["bulk"] > before


@pytest.mark.parametrize("state", [State.HEAD, State.OPEN, State.HELD])
def test_who_breaks_a_rule_and_who_comes_afterwards_wait_and_members_keep_their_turns(it: Parked, state: State) -> None:
    """One bad request of an office of 300 demoted all: beside 8,000 networks that flood, their WebSockets waited a
    minute."""
    member, stranger = come(it, OFFICE, state), come(it, "198.51.100.1")
    offender = come(it, OFFICE)
    it.connections.misbehaved(offender, Reason.BAD_REQUEST, "")
    newcomer = come(it, OFFICE, state)
    assert [waits(it, each) for each in (member, stranger, offender, newcomer)] == [False, False, True, True]
    it.connections.close(offender, Reason.BAD_REQUEST)
    assert waits(it, newcomer)


def test_a_proxys_connection_waits_as_long_as_it_serves_a_demoted_client(it: Parked) -> None:
    offender, shared = come(it, OFFICE), come(it, PROXY)
    it.connections.demotion.demote(offender)
    served = []
    for client in (PROXY, OFFICE, "198.51.100.1", OFFICE):
        assert it.admission.move(shared, client) is None
        served.append(waits(it, shared))
    assert served == [False, True, False, True]


def test_a_proxys_connection_does_not_wait_for_what_an_earlier_client_on_it_did(it: Parked) -> None:
    """When its present client's network is demoted, it was there before, as any other connection of that network."""
    shared, stranger = come(it, PROXY), come(it, "198.51.100.1")
    assert it.admission.move(shared, OFFICE) is None
    it.connections.demotion.demote(shared)
    for client in (PROXY, stranger.address):
        assert it.admission.move(shared, client) is None
    it.connections.demotion.demote(stranger)
    assert [waits(it, each) for each in (shared, stranger)] == [False, True]


def test_a_proxy_does_not_wait_for_what_a_neighbour_in_its_ipv6_network_did() -> None:
    """All who came through it waited for others, because a machine in its /64 had sent a bad request."""
    proxy, neighbour = "2001:db8::1", "2001:db8::2"
    with parked(is_proxy=lambda address: address == proxy) as it:
        it.connections.demotion.demote(come(it, neighbour))
        assert [waits(it, come(it, address)) for address in (proxy, neighbour)] == [False, True]


def test_a_network_is_forgiven_in_time(it: Parked, clock: list[float]) -> None:
    demotion, offender = it.connections.demotion, come(it, OFFICE)
    demotion.sweep()
    demotion.demote(offender)
    waiting = []
    for _ in range(5):
        waiting.append(waits(it, offender))
        assert len(demotion) == waiting[-1]
        clock[0] += DEMOTED_SECONDS / 2
        demotion.sweep()
    assert waiting == [True, True, True, True, False]


def test_who_came_while_a_network_was_demoted_keeps_its_turns_the_next_time(it: Parked, clock: list[float]) -> None:
    """It waited again, an hour later, whenever anybody behind its address broke a rule."""
    demotion = it.connections.demotion
    demotion.sweep()
    demotion.demote(come(it, OFFICE))
    member = come(it, OFFICE, State.OPEN)
    assert waits(it, member)
    for _ in range(2):
        clock[0] += DEMOTED_SECONDS
        demotion.sweep()
    assert not waits(it, member)
    demotion.demote(come(it, OFFICE))
    assert not waits(it, member)


def test_a_network_that_goes_on_breaking_rules_counts_once_and_stays_demoted(it: Parked, clock: list[float]) -> None:
    demotion, offender = it.connections.demotion, come(it, OFFICE)
    for _ in range(5):
        demotion.demote(offender)
        assert len(demotion) == 1
        clock[0] += DEMOTED_SECONDS
        demotion.sweep()


def test_the_networks_that_are_demoted_are_bounded(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of IPv6 may have billions of networks."""
    monkeypatch.setattr(demotion_module, "MAX_DEMOTED", 2)
    offenders = [come(it, f"198.51.100.{number}") for number in range(3)]
    for offender in offenders:
        it.connections.demotion.demote(offender)
    assert [waits(it, offender) for offender in offenders] == [True, True, False]


def test_a_closed_connection_is_forgotten(it: Parked) -> None:
    offender = come(it, OFFICE)
    it.connections.demotion.demote(offender)
    it.connections.close(offender, Reason.BAD_REQUEST)
    assert it.connections.demotion._peers == set()


def test_persons_do_not_wait_for_thousands_of_networks_that_break_rules(it: Parked, clock: list[float]) -> None:
    """Turns alone would not help: each of the others has as many as a person."""
    done = []

    def step(connection: Connection) -> bool:
        clock[0] += 0.0001
        done.append(connection)
        return False

    attackers, person = [come(it, f"10.0.{number}.1") for number in range(200)], come(it, OFFICE)
    for attacker in attackers:
        it.connections.demotion.demote(attacker)
        it.connections.submit(step, attacker)
    for turn in range(1, 6):  # its request, the answer of the log, the broadcast
        it.connections.submit(step, person)
        it.connections.scheduler.round()
        assert done.count(person) == turn
    assert len(done) < 50
