"""Caps by network and in total, the counts, and the ranking for eviction. For newcomers: test_making_room.py."""

import itertools
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.net.connection import Backlog, Connection, network_of
from chatserver.net.readiness import WRITE
from chatserver.net.states import TABLE, Reclaim, State
from chatserver.net.transport import PLAIN
from chatserver.net.wheel import spans, ticks
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings
from tests.support.parked import Parked, parked

SETTINGS = Settings()
SPANS = spans(SETTINGS)
NOW = 10_000  # tick
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1"])
AFTER, WINDOW = ticks(SETTINGS.evict_after), ticks(SETTINGS.flush_window)
_numbers = itertools.count(1000)


def test_a_proxy_has_no_cap_and_its_clients_have() -> None:
    with parked(per_ip=2, uncapped=lambda address: address == "192.0.2.9") as it:
        admission = it.admission
        inside = [it.connect(address="192.0.2.9")[0] for _ in range(6)]
        assert [admission.move(each, "192.0.2.1") for each in inside[:3]] == [None, None, Reason.REFUSED_ADDRESS]
        assert [each.network for each in inside[:3]] == ["192.0.2.1", "192.0.2.1", "192.0.2.9"], "a refused move"
        assert admission.admit("192.0.2.1") is Reason.REFUSED_ADDRESS
        assert admission.move(inside[0], "192.0.2.9") is None
        assert admission.move(inside[2], "192.0.2.1") is None
        assert admission.statistics() == {"held": 6, "addresses": 2}
        for each in inside:
            it.connections.close(each, Reason.DONE)
        assert admission.statistics() == {"held": 0, "addresses": 0}


def test_a_move_within_a_network_or_at_the_last_place_is_no_newcomer() -> None:
    with parked(per_ip=1, total=1) as it:
        connection = it.connect(address="2001:db8::1")[0]
        for address in ("2001:db8::2", "192.0.2.1"):
            assert it.admission.move(connection, address) is None
            assert (connection.address, it.admission.held) == (address, 1)
        it.connections.close(connection, Reason.DONE)
        assert it.admission.statistics() == {"held": 0, "addresses": 0}


@given(st.lists(st.tuples(ADDRESSES, st.booleans()), min_size=8))
def test_counts_add_up(acts: list[tuple[str, bool]]) -> None:
    """A network over its cap is refused for that reason even when all places are taken, without an eviction."""
    with parked(total=4, per_ip=2) as it:
        admission = it.admission
        inside: list[str] = []
        for address, comes in acts:
            if not comes:
                if address in inside:
                    inside.remove(address)
                    admission.release(network_of(address))
                continue
            alike = sum(network_of(other) == network_of(address) for other in inside)
            full = Reason.REFUSED_FULL if len(inside) == 4 else None
            answer = admission.admit(address)
            assert answer is (Reason.REFUSED_ADDRESS if alike == 2 else full)
            if answer is None:
                inside.append(address)
        assert admission.statistics() == {"held": len(inside), "addresses": len(set(map(network_of, inside)))}
        for address in inside:
            admission.release(network_of(address))
        assert admission.statistics() == {"held": 0, "addresses": 0}


# -- which connection is evicted ---------------------------------------------------------------------------------------


def one(state: State = State.HEAD, *, waited: int = 50, address: str = "192.0.2.1", behind: bool = False) -> Connection:
    """A connection that has waited `waited` ticks, in its state or under `FLUSH`."""
    span = WINDOW if behind else SPANS[state]
    connection = Connection(next(_numbers), address, PLAIN, state, NOW + 2 + span - waited)
    if behind:
        connection.backlog = Backlog([b"x"], 0, 10, 0, blocked=True)
        connection.armed = WRITE
    return connection


ANYBODY = st.builds(
    one,
    st.sampled_from(State),
    waited=st.integers(-1, 200) | st.integers(AFTER - 1, AFTER + 1),
    address=ADDRESSES,
    behind=st.booleans(),
)


@example([one(waited=AFTER - 1), one(waited=AFTER, address="192.0.2.2")])
@given(st.lists(ANYBODY, min_size=5, max_size=60))
def test_ranking_keeps_its_rules(waiting: list[Connection]) -> None:
    """A body that arrives extends its deadline, so the rest of its span shows how little has arrived."""
    crowds = Counter(each.network for each in waiting)
    with parked() as it:
        it.connections.wheel.current = NOW
        it.admission._by_network = dict(crowds)
        may_go = [each for each in waiting if TABLE[each.state].reclaim is not Reclaim.NEVER]
        ranked = [candidate.connection for candidate in reversed(it.admission._rank(may_go))]

    def product(connection: Connection) -> int:
        span = WINDOW if connection.backlog else SPANS[connection.state]
        return max(span - (connection.deadline - NOW - 2), 1) * crowds[connection.network]

    def rank(connection: Connection) -> Reclaim:
        return Reclaim.NEVER if connection.backlog else TABLE[connection.state].reclaim

    assert len({each.descriptor for each in ranked}) == len(ranked)
    keys = [(rank(each), -product(each)) for each in ranked]
    assert keys == sorted(keys)
    for connection in waiting:
        assert (connection in ranked) == (connection in may_go and product(connection) >= AFTER)


def test_of_several_the_one_that_waited_longest_in_the_largest_crowd_is_the_worst(it: Parked) -> None:
    alone, _ = it.place(State.TLS_HANDSHAKE, address="198.51.100.1")
    it.turn(seconds=1.0)
    first, _ = it.place(State.TLS_HANDSHAKE, address="192.0.2.1")
    it.turn(seconds=0.5)
    second, _ = it.place(State.TLS_HANDSHAKE, address="192.0.2.1")
    it.turn(seconds=2.0)
    assert it.admission.worst_of([alone, second, first]) is first
    assert it.admission.worst_of([alone, second]) is second


def test_a_crowd_that_reconnects_within_a_tick_is_evicted_before_a_person(it: Parked) -> None:
    """After the evictions of the tick, the person is the last candidate that its scan has left."""
    crowd, total = "203.0.113.1", 31
    person, _ = it.connect(address="198.51.100.1")
    for _ in range(total - 1):
        it.connect(address=crowd)
    it.admission.total = total
    wheel = it.connections.wheel
    wheel.current += AFTER + 1
    wheel.due = wheel._dues()
    for _ in range(total - 1):
        it.place(State.HEAD, address=crowd)
    assert it.admission.reclaimed == total - 1
    assert person.alive
    assert it.admission.admit("198.51.100.2") is None
    assert person.alive, "a connection of the crowd is evicted for the newcomer"
