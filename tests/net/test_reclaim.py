"""Who gives up a place, by rules 1 to 3 of net/admission.py; rule 4: test_making_room.py."""

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
AFTER, WINDOW = ticks(SETTINGS.evict_after), ticks(SETTINGS.flush_window)
NEVER = [state for state in State if TABLE[state].reclaim is Reclaim.NEVER]
_numbers = itertools.count(1000)


def one(state: State = State.HEAD, *, waited: int = 50, address: str = "192.0.2.1", behind: bool = False) -> Connection:
    """A connection that has waited so many ticks, in its state or under `FLUSH`."""
    span = WINDOW if behind else SPANS[state]
    connection = Connection(next(_numbers), address, PLAIN, state, NOW + 2 + span - waited)
    if behind:
        connection.backlog = Backlog([b"x"], 0, 10, 0, blocked=True)
        connection.armed = WRITE
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
    sending, taking = one(State.BODY, waited=90), one(State.KEEPALIVE, behind=True, waited=290)
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


ADDRESSES = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]
ANYBODY = st.builds(
    one, st.sampled_from(State), waited=st.integers(-1, 200), address=st.sampled_from(ADDRESSES), behind=st.booleans()
)


@given(st.lists(ANYBODY, max_size=60))
def test_ranking_keeps_its_rules(waiting: list[Connection]) -> None:
    """A body that comes puts its deadline off, so that what is left of its span says how little of that came."""
    house = House()
    try:
        ranked = order(house, *waiting)
    finally:
        house.close()
    crowds = Counter(each.network for each in waiting)

    def product(connection: Connection) -> int:
        span = WINDOW if connection.backlog else SPANS[connection.state]
        return max(span - (connection.deadline - NOW - 2), 1) * crowds[connection.network]

    def rank(connection: Connection) -> Reclaim:
        return Reclaim.NEVER if connection.backlog else TABLE[connection.state].reclaim

    assert len({each.descriptor for each in ranked}) == len(ranked)
    keys = [(rank(each), -product(each)) for each in ranked]
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
