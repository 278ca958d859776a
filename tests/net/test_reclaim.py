"""Who gives up a place, by the four rules at the top of net/admission.py; and the water marks."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.connection import Backlog, Connection
from chatserver.net.readiness import WRITE
from chatserver.net.states import TABLE, Reclaim, State
from chatserver.net.transport import PLAIN
from chatserver.net.wheel import spans, ticks
from chatserver.settings.fields import Settings
from tests.support.house import House

SETTINGS = Settings()
SPANS = spans(SETTINGS)
NOW = 10_000  # tick
AFTER = ticks(SETTINGS.evict_after)
NEVER = [state for state in State if TABLE[state].reclaim is Reclaim.NEVER]
_numbers = itertools.count(1000)


# -- the ranking ------------------------------------------------------------------------------------------------------


def one(state: State = State.HEAD, *, waited: int = 50, address: str = "192.0.2.1") -> Connection:
    """A connection that has waited so many ticks."""
    return Connection(next(_numbers), address, PLAIN, state, NOW + 2 + SPANS[state] - waited)


def behind(connection: Connection, *, waited: int = 50) -> Connection:
    """The same, under `FLUSH` for so many ticks."""
    connection.backlog = Backlog([b"x"], 0, 10, 0, blocked=True)
    connection.armed = WRITE
    connection.deadline = NOW + 2 + ticks(SETTINGS.flush_window) - waited
    return connection


def order(house: House, *waiting: Connection) -> list[Connection]:
    """Those who may go, the worst first."""
    house.connections.wheel.current = NOW
    house.admission._by_network = dict(Counter(each.network for each in waiting))
    may_go = [each for each in waiting if TABLE[each.state].reclaim is not Reclaim.NEVER]
    ranked = [candidate.connection for candidate in reversed(house.admission._rank(may_go))]
    house.admission._by_network = {}
    return ranked


def test_rule_1_the_order_of_ranks(house: House) -> None:
    """However long the others have waited."""
    lingering, asking, idle = one(State.CLOSING, waited=20), one(waited=60), one(State.KEEPALIVE, waited=500)
    sending, taking = one(State.BODY, waited=90), behind(one(State.KEEPALIVE), waited=290)
    everybody = [lingering, asking, idle, sending, taking]
    assert order(house, *reversed(everybody)) == everybody


@pytest.mark.parametrize("state", NEVER)
def test_rule_1_members_and_peers_that_wait_for_us_never_go(house: House, state: State) -> None:
    house.let_in("192.0.2.1", state)
    house.connections.wheel.advance(1000.0)
    house.connections.wheel.current += 10_000
    assert not house.comes("192.0.2.9")
    assert not house.admission.make_room()
    assert house.reasons() == []


def test_rule_2_the_longest_goes_first(house: House) -> None:
    people = [one(waited=waited, address=f"192.0.2.{waited}") for waited in (30, 90, 60)]
    assert [each.address for each in order(house, *people)] == ["192.0.2.90", "192.0.2.60", "192.0.2.30"]


def test_rule_2_a_crowd_goes_before_a_person(house: House) -> None:
    """The person types for 8 s, the attack has only just come, from an address that many came from."""
    person = one(waited=80, address="192.0.2.200")
    crowd = [one(waited=2, address="192.0.2.1") for _ in range(100)]
    assert order(house, person, *crowd)[-1] is person


def test_rule_2_two_to_the_64_addresses_are_one_crowd(house: House) -> None:
    person = one(waited=80, address="2001:db8:0:2::1")
    crowd = [one(waited=2, address=f"2001:db8:0:1::{number:x}") for number in range(1, 101)]
    assert order(house, person, *crowd)[-1] is person


def test_rule_3_a_newcomer_of_a_moment_ago_stays(house: House) -> None:
    assert order(house, one(waited=AFTER - 1)) == []
    crowd = [one(waited=1) for _ in range(AFTER - 1)]
    assert order(house, *crowd) == []
    assert len(order(house, *crowd, one(waited=1))) == AFTER, "so many at once are not people"


def test_a_body_that_comes_has_not_waited(house: House) -> None:
    """Each KiB puts its deadline off; what is left of the span says how little of that came."""
    dripping = one(State.BODY, waited=60)
    flowing = one(State.BODY, waited=60 - 55)  # 5.5 s earned
    assert order(house, dripping, flowing)[0] is dripping


ADDRESSES = [f"192.0.2.{number}" for number in range(4)]
ANYBODY = st.builds(one, st.sampled_from(State), waited=st.integers(-1, 200), address=st.sampled_from(ADDRESSES))


@given(st.lists(ANYBODY, max_size=60))
def test_ranking_keeps_its_rules(waiting: list[Connection]) -> None:
    house = House()
    try:
        ranked = order(house, *waiting)
    finally:
        house.close()
    crowds = Counter(each.address for each in waiting)

    def product(connection: Connection) -> int:
        return max(SPANS[connection.state] - (connection.deadline - NOW - 2), 1) * crowds[connection.address]

    assert len({each.descriptor for each in ranked}) == len(ranked)
    keys = [(TABLE[each.state].reclaim, -product(each)) for each in ranked]
    assert keys == sorted(keys)
    for connection in waiting:
        may_go = TABLE[connection.state].reclaim is not Reclaim.NEVER and product(connection) >= AFTER
        assert (connection in ranked) == may_go


def test_the_worst_of_some_is_by_rule_2(house: House) -> None:
    alone, _ = house.let_in("198.51.100.1", State.TLS_HANDSHAKE)
    house.turn(seconds=1.0)
    first, _ = house.let_in("192.0.2.1", State.TLS_HANDSHAKE)
    house.turn(seconds=0.5)
    second, _ = house.let_in("192.0.2.1", State.TLS_HANDSHAKE)
    house.turn(seconds=2.0)
    assert house.admission.worst_of([alone, second, first]) is first
    assert house.admission.worst_of([alone, second]) is second
    assert house.admission.worst_of([]) is None


def test_a_crowd_that_went_and_came_back_within_a_tick_is_still_before_a_person(house: House) -> None:
    """Of those that the tick's look had found the person was the last one: the crowd were newcomers by then."""
    crowd, total = "203.0.113.1", 31
    person, _ = house.let_in("198.51.100.1")
    for _ in range(total - 1):
        house.let_in(crowd)
    house.admission.total = total
    wheel = house.connections.wheel
    wheel.current += AFTER + 1
    wheel.due = wheel._dues()
    for _ in range(total - 1):
        house.place(State.HEAD, address=crowd, small=False)
    assert house.admission.reclaimed == total - 1
    assert person.alive
    assert house.admission.admit("198.51.100.2") is None
    assert person.alive, "it has waited alone, and one of the crowd went for the newcomer"
