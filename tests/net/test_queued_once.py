"""A connection is queued once, whatever happens to it while it waits."""

import os

import pytest

from chatserver.net.poller import READ_BYTES
from chatserver.net.states import State
from tests.support.parked import Parked, take
from tests.support.troubled import BIG

pytestmark = pytest.mark.jumping_clock


def waiting(it: Parked) -> int:
    return sum(it.connections.scheduler.statistics().values())


def test_a_peer_that_reads_slowly_and_sends_ahead_is_queued_once(it: Parked) -> None:
    """Otherwise 8,000 members that join and leave a busy room without a pause fill memory: 16,000 entries a second."""
    connection, peer = it.place(State.OPEN)
    for _ in range(50):
        it.connections.resume(connection, later=True)  # there are frames left in its inbox
        it.connections.send(connection, BIG)
        assert connection.blocked
        take(peer)
        it.poller._gather()
        it.connections.resume(connection)  # an answer of the log
        assert waiting(it) == 1
        it.connections.scheduler.round()
        assert it.of("resumed") == [connection]
        it.recorder.events.clear()
        it.poller._gather()
        it.connections.resume(connection)
        assert waiting(it) == 1
        it.drain(connection, peer)
        it.turn_over()
        assert it.of("writable")
        assert it.of("resumed") == [connection], "although it was queued for something else when it was resumed"
        it.recorder.events.clear()


def test_a_connection_resumed_when_its_bytes_wait_is_resumed_and_read(it: Parked) -> None:
    connection, peer = it.place(State.KEEPALIVE)
    peer.send(b"x")
    it.poller._gather()
    it.connections.enter(connection, State.SERVING, object())
    it.connections.resume(connection)
    assert waiting(it) == 1
    it.recorder.on["resumed"] = lambda each: it.connections.enter(each, State.KEEPALIVE)
    it.turn_over()
    assert [event for event, _, _ in it.recorder.events] == ["resumed", "released", "received"]
    assert it.details("received") == [b"x"]
    it.connections.resume(connection)
    peer.send(b"y")
    it.poller._gather()
    assert waiting(it) == 1, "it is armed and queued"
    it.turn_over()
    assert it.details("received") == [b"x", b"y"]


@pytest.mark.parametrize("size", [0, 1, 2 * READ_BYTES])
def test_a_connection_resumed_while_a_read_of_it_is_queued_is_resumed(it: Parked, size: int) -> None:
    """Whatever the read finds: under TLS, bytes that are no whole record are nothing to the handler."""
    connection, peer = it.place(State.KEEPALIVE, small=False)
    peer.send(bytes(size or 1))
    it.poller._gather()
    it.connections.resume(connection)
    if not size:
        os.read(connection.descriptor, 1)
    it.turn_over()
    assert it.of("resumed") == [connection]
    assert sum(len(data) for data in it.details("received") if isinstance(data, bytes)) == size


def test_a_connection_that_its_handler_resumes_in_a_full_read_is_queued_once(it: Parked) -> None:
    """An upgrade with frames behind it that fill a read: no other read of it is queued beside its resumption."""
    _, peer = it.place(State.KEEPALIVE, small=False)
    left: list[int] = []
    it.recorder.on["received"] = it.connections.resume
    it.recorder.on["resumed"] = lambda each: left.append(waiting(it))
    peer.send(bytes(READ_BYTES))
    it.poller._gather()
    it.run_rounds()
    assert left == [0]


def test_a_peer_reported_behind_one_that_is_queued_is_read(it: Parked) -> None:
    """It is armed for one event, so it would never be read."""
    peers = [it.place(State.KEEPALIVE) for _ in range(3)]
    it.connections.resume(peers[1][0])
    for _, peer in peers:
        peer.send(b"x")
    it.poller._gather()
    it.turn_over()
    assert set(it.of("received")) == {connection for connection, _ in peers}
