"""Writes that do not wait, with TLS and without: each byte once and in order, however the peer reads."""

import errno
from functools import partial
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.fair import CREDIT
from chatserver.net import scheduler as scheduler_module
from chatserver.net.connection import CLOSED, Connection
from chatserver.net.readiness import READ, WRITE
from chatserver.net.states import Priority, State
from chatserver.reasons import Reason
from tests.net.sealed import KINDS, Either, either, read_all
from tests.support.examples import examples
from tests.support.parked import Parked, ended, parked, take
from tests.support.troubled import BIG, BrokenTransport, fail


def test_bytes_that_do_not_fit_are_kept_and_reading_pauses(both: Either) -> None:
    it, meet = both
    connection, client = meet(small=True)
    it.connections.send(connection, BIG)
    assert (connection.blocked, it.armed(connection)) == (True, WRITE)
    backlog = connection.backlog
    assert backlog is not None
    it.connections.flush(connection)
    assert connection.blocked, "the peer has read nothing yet"
    before = backlog.written
    assert read_all(it, client) == BIG
    assert backlog.written > before, "for the judgement of its flush window"
    assert it.of("writable") == [connection]
    assert it.armed(connection) == READ, "the state decides whether reading goes on"


def test_an_offer_to_many_equals_an_offer_to_each(both: Either) -> None:
    it, meet = both
    (fine, client), (behind, _), (small, small_client) = meet(), meet(small=True), meet(small=True)
    (gone, gone_client), (watched, watched_client) = meet(), meet()
    it.connections.send(behind, BIG)
    it.connections.keep(watched, b"", 0)
    it.connections.flush(watched)
    gone_client.socket.close()
    data = BIG[:20_000]
    partly = dict(it.connections.offer_each([fine, behind, small, gone, watched], data))
    assert list(partly) == [behind, small, gone]
    assert (partly[behind], partly[gone]) == (0, -1)
    assert client.hear() == watched_client.hear() == data
    small_client.hear()
    it.connections.flush(small)
    assert small_client.hear() == data[: partly[small]]
    assert it.of("closed") == [gone]


def test_a_peer_that_is_gone_is_closed_by_the_next_write_once(both: Either) -> None:
    it, meet = both
    connection, client = meet()
    client.socket.close()
    assert it.connections.offer(connection, b"x") == -1
    it.connections.send(connection, b"y")
    it.connections.send_parts(connection, [b"a", b"b"])
    assert it.details("closed") == [Reason.PEER_RESET]


@pytest.mark.parametrize("size", [10, 12_288])
def test_a_peer_that_closes_while_it_has_a_backlog(both: Either, size: int) -> None:
    it, meet = both
    connection, client = meet(small=True)
    it.connections.send(connection, BIG)
    it.connections.send(connection, BIG[:size])
    client.socket.close()
    it.connections.flush(connection)
    assert it.details("closed") == [Reason.PEER_RESET]
    assert (connection.backlog, connection.transport.unsent) == (None, b"")
    assert it.of("writable") == []


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "take", "offer", "parts"]), st.integers(1, 9_000)), min_size=8, max_size=40
    )
)
@examples(20)
def test_each_byte_once_and_in_order(kind: str, acts: list[tuple[str, int]]) -> None:
    """However the peer reads, it receives what was sent, without holes or repeats."""
    with either(kind) as (it, meet):
        connection, client = meet(small=True)
        sent = bytearray()
        for act, size in acts:
            data = BIG[len(sent) % 80_000 :][:size]
            taken = size
            if act == "send":
                it.connections.send(connection, data)
            elif act == "parts":
                it.connections.send_parts(connection, [data[at : at + 70] for at in range(0, size, 70)])
            elif act == "offer":
                taken = it.connections.offer(connection, data)
                if 0 < taken < size:
                    it.connections.keep(connection, data, taken)
                    taken = size
            else:
                client.hear(2 * size)
                taken = 0
            sent += data[:taken]
            it.turn_over()
        assert read_all(it, client) == sent
        assert connection.backlog is None
        assert it.armed(connection) == READ


@pytest.mark.parametrize("event", ["released", "closed"])
def test_a_fault_in_an_offer_to_many_costs_one_connection(it: Parked, event: str) -> None:
    """The later members of a broadcast pass are offered the message too."""
    first, peer = it.connect(small=False)
    unlucky, gone = it.place(State.OPEN, object())
    last, friend = it.connect(small=False)
    gone.close()
    it.recorder.on[event] = fail
    assert it.connections.offer_each([first, unlucky, last], b"hello") == [(unlucky, -1)]
    assert take(peer) == take(friend) == b"hello"
    assert (unlucky.descriptor, it.connections.held) == (CLOSED, 2)
    it.faults = 1


def test_a_fault_in_a_write_closes_without_an_error_answer(it: Parked) -> None:
    """An error answer would take the path that has just failed."""
    connection, peer = it.connect()
    connection.transport = BrokenTransport()
    it.recorder.on["faulted"] = lambda each: it.connections.finish(each, Reason.INTERNAL_ERROR, b"sorry")
    it.connections.send(connection, b"hello")
    assert it.details("closed") == [Reason.INTERNAL_ERROR]
    assert it.of("faulted") == []
    it.faults = 1
    assert ended(peer)


def test_parts_go_out_in_one_write_and_the_rest_is_not_copied(it: Parked) -> None:
    connection, peer = it.connect()
    it.connections.send_parts(connection, [b"a", b",", b"b"])
    assert (take(peer), connection.backlog) == (b"a,b", None)
    parts = [b"head", *(BIG[start : start + 9_000] for start in range(0, 90_000, 9_000)), b"end"]
    it.connections.send_parts(connection, parts)
    assert connection.backlog is not None
    kept = connection.backlog.chunks
    assert 0 < len(kept) < len(parts)
    assert all(one is another for one, another in zip(kept, parts[-len(kept) :], strict=True)), "no copies"
    assert it.drain(connection, peer) == b"".join(parts)


def test_people_behind_a_proxy_do_not_wait_for_each_others_turns() -> None:
    """All had one turn until their requests were read: each waited for a step of every busy network."""
    proxy, networks = "192.0.2.1", 50
    with parked(is_proxy=lambda address: address == proxy) as it:
        scheduler = it.connections.scheduler
        people = [it.place(State.HEAD, address=proxy)[0] for _ in range(20)]
        others: list[str] = []

        def work(network: str) -> bool:
            if it.of("resumed") != people:
                others.append(network)
                scheduler.submit(Priority.NORMAL, work, network, network)
            return False

        for number in range(networks):
            scheduler.submit(Priority.NORMAL, work, f"198.51.100.{number}", f"198.51.100.{number}")
        for connection in people:
            it.connections.resume(connection)
        while not scheduler.idle:
            scheduler.round()
        assert it.of("resumed") == people
        assert len(others) < 2 * networks


def test_a_newcomer_through_a_proxy_does_not_have_the_turn_of_who_had_its_descriptor_before() -> None:
    """It waited for a step of every busy network, because a peer that was gone had used up the credit of a new one."""
    proxy, networks, now = "192.0.2.1", 50, [0.0]
    others: list[str] = []
    with (
        mock.patch.object(scheduler_module, "perf_counter", side_effect=partial(now.__getitem__, 0)),
        parked(is_proxy=lambda address: address == proxy) as it,
    ):
        scheduler = it.connections.scheduler

        def work(network: str) -> bool:
            others.append(network)
            now[0] += 1.0  # one step in each round
            scheduler.submit(Priority.NORMAL, work, network, network)
            return False

        def others_before(connection: Connection) -> int:
            """Steps of other networks that run before its own."""
            it.recorder.events.clear()
            others.clear()
            it.connections.resume(connection)
            while not it.recorder.events:
                scheduler.round()
            return len(others)

        for number in range(networks):
            scheduler.submit(Priority.NORMAL, work, f"198.51.100.{number}", f"198.51.100.{number}")
        for _ in range(networks * CREDIT):
            scheduler.round()
        earlier, _ = it.place(State.HEAD, address=proxy)
        descriptor = earlier.descriptor
        waits = [others_before(earlier) for _ in range(CREDIT + 1)]
        assert max(waits[:CREDIT]) <= 1 < networks // 2 < waits[CREDIT], "it is no longer new"
        it.connections.close(earlier, Reason.PEER_CLOSED)
        newcomer, _ = it.place(State.HEAD, address=proxy)
        assert newcomer.descriptor == descriptor
        assert others_before(newcomer) <= 1


# -- what is not kept -------------------------------------------------------------------------------------------------


def test_input_beyond_the_budget_is_dropped_and_not_charged(it: Parked) -> None:
    connection, _ = it.connect()
    budget = it.connections.input_budget
    assert it.connections.keep_ahead(connection, BIG)
    budget.most = 0
    assert not it.connections.keep_ahead(connection, BIG + BIG)
    assert (connection.inbox, budget.used) == (b"", 0)


def test_a_peer_that_cannot_be_polled_is_closed(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel allows each user so many descriptors in epoll; nothing would ever be reported of this one."""
    monkeypatch.setattr(it.readiness, "add", mock.Mock(side_effect=OSError(errno.ENOSPC, "no space left")))
    with pytest.raises(OSError, match="no space"):
        it.connect()
    assert (it.connections.held, it.admission.networks, it.inside()) == (0, 0, [])
    assert ended(it.peers[-1])
