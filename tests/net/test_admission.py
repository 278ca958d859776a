"""Caps by network and in total, the counts, the ranking for eviction, and evictions for newcomers."""

import itertools
from collections import Counter
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.net import admission as admission_module
from chatserver.net.admission import OPERATOR_PLACES
from chatserver.net.connection import Backlog, Connection, network_of
from chatserver.net.readiness import WRITE
from chatserver.net.states import TABLE, Reclaim, State
from chatserver.net.transport import PLAIN
from chatserver.net.wheel import spans, ticks
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings
from tests.support.parked import REFUSAL, Parked, ended, parked, take
from tests.support.troubled import fail

SETTINGS = Settings()
SPANS = spans(SETTINGS)
NOW = 10_000  # tick
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1"])
AFTER, WINDOW = ticks(SETTINGS.evict_after), ticks(SETTINGS.flush_window)
_numbers = itertools.count(1000)


def test_a_proxys_connections_do_not_count_for_others_in_its_ipv6_network() -> None:
    """A health check from the same /64 was refused as soon as the balancer held as many connections as one may."""
    proxy, check = "2001:db8::1", "2001:db8::2"
    with parked(per_ip=2, is_proxy=lambda address: address == proxy) as it:
        admission = it.admission
        inside = [it.connect(address=proxy)[0] for _ in range(4)]
        inside.append(it.connect(address=check)[0])
        assert admission.move(inside[0], check) is None
        assert [admission.admit(check), admission.move(inside[1], check)] == [Reason.REFUSED_ADDRESS] * 2
        assert [admission.move(inside[0], proxy), admission.move(inside[1], check)] == [None, None]
        for each in inside:
            it.connections.close(each, Reason.DONE)
        assert admission.networks == 0


def test_a_move_within_a_network_or_at_the_last_place_is_no_newcomer() -> None:
    with parked(per_ip=1, total=1) as it:
        connection = it.connect(address="2001:db8::1")[0]
        for address in ("2001:db8::2", "192.0.2.1"):
            assert it.admission.move(connection, address) is None
            assert (connection.address, it.admission.networks) == (address, 1)
        it.connections.close(connection, Reason.DONE)
        assert it.admission.networks == 0


@given(st.lists(st.tuples(ADDRESSES, st.booleans()), min_size=8))
def test_counts_add_up(acts: list[tuple[str, bool]]) -> None:
    """A network over its cap is refused for that reason even when all places are taken, without an eviction."""
    with parked(total=4, per_ip=2) as it:
        admission = it.admission
        for address, comes in acts:
            inside = it.inside()
            if not comes:
                for each in [each for each in inside if each.address == address][:1]:
                    it.connections.close(each, Reason.DONE)
                continue
            if sum(each.network == network_of(address) for each in inside) == 2:
                assert admission.admit(address) is Reason.REFUSED_ADDRESS
            elif len(inside) == 4:
                assert admission.admit(address) is Reason.REFUSED_FULL
            else:
                it.connect(address=address)
        assert admission.networks == len({each.network for each in it.inside()})
        it.connections.close_all(Reason.DRAINING)
        assert admission.networks == 0


def test_the_operators_address_has_a_few_places_beyond_all() -> None:
    """A probe that is refused by a server full of members would end it. Without descriptors there is no such place."""
    with parked(total=2) as it:
        for number in range(2):
            it.place(State.OPEN, address=f"192.0.2.{number}")
        assert it.admission.admit("198.51.100.1") is Reason.REFUSED_FULL
        assert it.admission.admit("198.51.100.1", short=True, operator=True) is Reason.REFUSED_FULL
        for _ in range(OPERATOR_PLACES):
            it.connect(address="198.51.100.1", operator=True)
        assert it.admission.admit("198.51.100.1", operator=True) is Reason.REFUSED_FULL


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
    assert it.admission.worst_of([alone, second, first], 2) == [first, second]
    assert it.admission.worst_of([alone, second], 1) == [second]
    newcomers = [it.place(State.TLS_HANDSHAKE, address=f"203.0.113.{number}")[0] for number in range(3)]
    assert it.admission.worst_of([*newcomers, first, second], 5) == [first, second]
    assert len(it.admission.worst_of(newcomers, 3)) == 1


@pytest.mark.parametrize("may_scan", [True, False])
def test_a_crowd_that_reconnects_within_a_tick_is_evicted_before_a_person(
    it: Parked, monkeypatch: pytest.MonkeyPatch, may_scan: bool
) -> None:
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
    if not may_scan:
        monkeypatch.setattr(admission_module, "SCAN_BUDGET", it.admission._scanned)
    assert it.admission.admit("198.51.100.2") is (None if may_scan else Reason.REFUSED_FULL)
    assert person.alive, "a connection of the crowd is evicted for the newcomer, at the next scan"


def test_a_crowd_that_has_just_been_answered_may_be_evicted(it: Parked) -> None:
    """Its deadlines are rounded up to common ticks, by more than it waits between two requests."""
    for _ in range(AFTER + 1):
        it.place(State.KEEPALIVE, address="203.0.113.1")
    assert it.makes_room("198.51.100.1")


# -- evictions for newcomers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "context", "sent", "told"),
    [
        (State.HEAD, None, b"GET / HT", True),
        (State.BODY, object(), b"", True),
        (State.KEEPALIVE, None, b"GE", True),
        (State.THROTTLED, None, b"GET", True),
        (State.KEEPALIVE, None, b"", False),
        (State.PROXY, None, b"PRO", False),
        (State.TLS_HELLO, None, b"half a hello", False),
        (State.TLS_HANDSHAKE, None, b"half a record", False),
    ],
)
def test_an_evicted_peer_within_an_http_request_is_told(
    it: Parked, state: State, context: object, sent: bytes, told: bool
) -> None:
    connection, peer = it.place(state, context, address="192.0.2.1")
    connection.inbox = sent
    it.turn(seconds=5.0)
    assert it.makes_room("192.0.2.3")
    assert take(peer) == REFUSAL * told
    assert ended(peer)
    assert it.details("released") == [context] * (context is not None)


def test_an_evicted_peer_in_closing_keeps_its_reason_and_answer(it: Parked) -> None:
    """The reason that began its close is reported, and the peer can still read its answer."""
    connection, peer = it.connect(address="192.0.2.1")
    it.connections.finish(connection, Reason.HEAD_DEADLINE, b"408")
    it.turn(seconds=1.5)
    more = [it.connect(address="192.0.2.1")[0] for _ in range(3)]
    for each in more:
        it.connections.finish(each, Reason.DONE)
    it.turn(seconds=0.1)
    assert it.makes_room("192.0.2.3")
    assert it.details("closed") == [Reason.HEAD_DEADLINE]
    assert take(peer) == b"408"


@pytest.mark.parametrize("last", [False, True])
def test_a_peer_that_does_not_take_its_answer_is_aborted(it: Parked, last: bool) -> None:
    """Otherwise the kernel would keep offering the rest. The answer may be the last one on its connection."""
    connection, peer = it.connect_tcp()
    it.connections.send(connection, b"x" * 10_000_000)
    if last:
        it.connections.finish(connection, Reason.DONE)
    assert connection.backlog is not None
    it.turn(seconds=5.0)
    assert it.makes_room("192.0.2.3")
    assert it.details("closed") == [Reason.EVICTED]
    with pytest.raises(ConnectionResetError):
        take(peer)


def test_behind_a_balancer_all_come_from_one_address(it: Parked) -> None:
    """A peer that has waited for `evict_after` is then evicted for a newcomer of the same address."""
    everybody = [it.connect(address="192.0.2.1")[0] for _ in range(10)]
    it.turn(seconds=1.8)
    assert not it.makes_room("192.0.2.1")
    it.turn(seconds=0.1)
    assert it.makes_room("192.0.2.1")
    assert sum(each.alive for each in everybody) == 9


PROXY = "192.0.2.9"


def test_a_proxys_newcomer_gets_the_place_of_a_crowd_smaller_than_the_proxys() -> None:
    """Its connections are of many clients, of whom this one may be alone."""
    with parked(is_proxy=lambda address: address == PROXY) as it:
        idle = [it.place(State.KEEPALIVE, address=PROXY)[0] for _ in range(5)]
        crowd = [it.place(State.BODY, object(), address="192.0.2.1")[0] for _ in range(2)]
        it.turn(seconds=1.8)
        it.admission.total = it.connections.held
        assert it.admission.admit(PROXY) is None
        assert all(each.alive for each in idle), "each alone, they have not waited long enough"
        assert sum(each.alive for each in crowd) == 1


@pytest.mark.parametrize("address", ["192.0.2.7", None])
def test_the_last_place_is_for_a_newcomer_that_is_alone_or_unknown(it: Parked, address: str | None) -> None:
    """When descriptors have run out, the newcomer's network is unknown."""
    person, _ = it.connect(address="192.0.2.200")
    it.turn(seconds=8.0)
    assert it.makes_room(address) if address else it.admission.make_room()
    assert not person.alive


def test_candidates_that_changed_since_the_scan_are_skipped(it: Parked) -> None:
    sending, _ = it.place(State.BODY, body := object(), address="192.0.2.200")
    everybody = []
    for number in range(4):
        everybody.append(it.connect(address=f"192.0.2.{number}")[0])
        it.turn(seconds=2.3)
    oldest, closed, joined, youngest = everybody
    assert it.makes_room("198.51.100.9")
    assert not oldest.alive
    it.connections.close(closed, Reason.PEER_CLOSED)
    due = joined.deadline
    it.connections.enter(joined, State.OPEN)
    joined.deadline = due  # as it may be by chance
    assert it.makes_room("198.51.100.9")
    assert (joined.alive, youngest.alive) == (True, False)
    it.connections.enter(sending, State.BODY, body)  # more of it has come
    assert not it.makes_room("198.51.100.9")
    assert sending.alive


def test_a_request_that_has_arrived_is_read_before_its_connection_may_be_evicted(it: Parked) -> None:
    """It got a reset for an answer, and its client could not know whether the message was stored."""
    (asking, peer), (other, others_peer) = (it.place(State.KEEPALIVE, address="192.0.2.1") for _ in range(2))
    it.turn(seconds=8.0)
    for each in (peer, others_peer):
        each.send(b"POST /")
    assert not it.makes_room("198.51.100.9")
    it.admission.total = 1  # of two, one would be evicted
    for _ in it.admission._relieve():
        assert asking.alive
        assert other.alive
    it.turn_over()
    it.turn(seconds=0.1)
    assert it.details("received") == [b"POST /"] * 2
    assert it.makes_room("198.51.100.9"), "unread bytes spare it no longer than until they are read"


def test_more_of_a_head_that_has_arrived_spares_no_peer_that_sends_it_slowly(it: Parked) -> None:
    """A crowd of them sends a byte now and then, so that a busy loop finds unread bytes of each."""
    slow, peer = it.place(State.HEAD, address="192.0.2.1")
    it.turn(seconds=8.0)
    peer.send(b"X")
    assert it.makes_room("198.51.100.9")
    assert not slow.alive


def test_bytes_that_are_not_read_spare_no_peer_that_does_not_take_its_answer(it: Parked) -> None:
    stuck, peer = it.connect_tcp()
    it.connections.enter(stuck, State.KEEPALIVE)
    it.connections.send(stuck, b"x" * 10_000_000)
    it.turn(seconds=8.0)
    peer.send(b"POST /")
    assert it.makes_room("198.51.100.9")
    assert not stuck.alive


def test_scans_are_few(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan serves newcomers while it has candidates, and each tick has a budget for scans."""
    looks = mock.Mock(side_effect=it.admission._look)
    monkeypatch.setattr(it.admission, "_look", looks)
    for number in range(20):
        it.connect(address=f"192.0.2.{number}")
    it.turn(seconds=5.0)
    it.admission._since = 1_000  # newcomers of a large crowd were admitted long ago
    assert sum(it.makes_room("198.51.100.9") for _ in range(20)) == 20
    assert looks.call_count == 1
    assert not any(it.makes_room("198.51.100.9") for _ in range(1000))
    before = looks.call_count
    assert before <= admission_module.SCAN_BUDGET // len(it.connections.table) + 2
    it.turn(seconds=0.1)
    assert not it.makes_room("198.51.100.9")
    assert looks.call_count == before + 1


def test_a_large_table_is_scanned_in_parts(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan ends when it has enough candidates, and the next one goes on from there."""
    for name, value in (("MAX_CANDIDATES", 2), ("SCAN_BATCH", 8), ("SCAN_BUDGET", 24)):
        monkeypatch.setattr(admission_module, name, value)
    everybody = [it.connect(address=f"192.0.2.{number}")[0] for number in range(40)]
    it.turn(seconds=3.0)
    it.admission._hand = everybody[20].descriptor  # the first ones fill holes among the descriptors of other tests
    assert it.makes_room("198.51.100.1")
    assert it.admission._scanned == 8
    for _ in range(60):
        while it.makes_room("198.51.100.1"):
            pass
        assert it.admission._scanned < 24 + 8
        it.turn(seconds=0.1)
    assert not any(each.alive for each in everybody)


def test_members_do_not_hide_connections_that_wait(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan covers the whole table if necessary, so its start does not matter."""
    monkeypatch.setattr(admission_module, "SCAN_BATCH", 4)
    monkeypatch.setattr(admission_module, "MAX_CANDIDATES", 1)
    for number in range(40):
        it.place(State.OPEN, address=f"192.0.2.{number}")
    waiting, _ = it.connect(address="192.0.2.99")
    it.turn(seconds=3.0)
    assert it.makes_room("192.0.2.100")
    assert not waiting.alive


def test_a_fault_that_leaves_the_connection_frees_no_place(it: Parked) -> None:
    """The connection lingers after its error answer, so another one would exceed the limit."""
    it.admission.total = it.faults = 1
    connection, _ = it.connect(address="192.0.2.1")
    connection.inbox = b"GET"
    it.turn(seconds=5.0)
    it.connections.offer = fail  # type: ignore[method-assign, assignment]
    it.recorder.on["faulted"] = lambda each: it.connections.finish(each, Reason.INTERNAL_ERROR)
    assert it.admission.admit("192.0.2.3") is Reason.REFUSED_FULL
    assert (connection.alive, it.connections.held) == (True, 1)
