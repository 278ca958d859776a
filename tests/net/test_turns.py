"""In which turn peers are attended to: the scheduler over real sockets."""

import socket

import pytest
import trio
import trio.lowlevel
import trio.testing

from chatserver.net import scheduler as scheduler_module
from chatserver.net.connection import Connection
from chatserver.net.poller import READ_BYTES
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.attended import attended
from tests.support.parked import Parked

pytestmark = pytest.mark.jumping_clock


class SlowWork:
    """Time that passes only while somebody is attended to."""

    def __init__(self, it: Parked, monkeypatch: pytest.MonkeyPatch, *events: str, seconds: float) -> None:
        self.now = 100.0
        self.seconds = seconds
        monkeypatch.setattr(scheduler_module, "perf_counter", lambda: self.now)
        for event in events:
            it.recorder.on[event] = self._work

    def _work(self, connection: Connection) -> None:
        self.now += self.seconds


def test_established_peers_come_before_a_flood_of_newcomers(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    SlowWork(it, monkeypatch, "received", seconds=0.0009)
    newcomers = dict(it.connect() for _ in range(40))
    insiders = dict(it.place(State.KEEPALIVE) for _ in range(2))
    for peer in (*newcomers.values(), *insiders.values()):
        peer.send(b"x")
    it.poller._gather()
    it.connections.scheduler.round()
    heard = it.of("received")
    assert set(heard[:2]) == set(insiders), "they wrote last"
    assert 1 <= len(heard[2:]) <= 3, "none of either starves"
    it.run_rounds()
    assert set(it.of("received")) == {*newcomers, *insiders}


def test_departures_wait_for_peers_that_stay(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """When thousands leave at once, giving back what they held is work for most of a second."""
    work = SlowWork(it, monkeypatch, seconds=0.0009)

    def leave(connection: Connection) -> None:
        work.now += work.seconds
        it.connections.close(connection, Reason.PEER_CLOSED)

    it.recorder.on["ended"] = leave
    leaving = [it.place(State.KEEPALIVE) for _ in range(100)]
    staying, peer = it.place(State.KEEPALIVE)
    for _, gone in leaving:
        gone.shutdown(socket.SHUT_WR)
    peer.send(b"x")
    it.poller._gather()
    it.connections.scheduler.round()
    assert it.of("received") == [staying]
    assert 1 <= len(it.of("ended")) <= 2, "so many in each round, so that they go"
    it.run_rounds()
    assert len(it.of("closed")) == len(leaving)


def test_a_crowd_of_one_network_has_one_turn(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    SlowWork(it, monkeypatch, "received", seconds=0.0009)
    crowd = [it.place(State.KEEPALIVE, address="192.0.2.1") for _ in range(100)]
    person, hers = it.place(State.KEEPALIVE, address="198.51.100.1")
    for _, peer in (*crowd, (person, hers)):
        peer.send(b"x")
    it.poller._gather()
    it.connections.scheduler.round()
    assert person in it.of("received")[:2]


def test_a_flood_in_many_reads_does_not_keep_a_message_of_its_neighbour_waiting(
    it: Parked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    SlowWork(it, monkeypatch, "received", seconds=0.0004)
    floods = [it.place(State.OPEN, small=False) for _ in range(20)]
    for _, flood in floods:
        flood.send(bytes(50 * READ_BYTES))
    for _ in range(10):
        it.poller._gather()
        it.connections.scheduler.round()
    member, peer = it.place(State.OPEN)
    peer.send(b"x")
    before = len(it.of("received"))
    it.poller._gather()
    it.connections.scheduler.round()
    assert member in it.of("received")[before : before + 2], "what they have more of is bulk"


def test_a_number_that_is_reused_between_report_and_turn(it: Parked) -> None:
    """An error of the one must not end the other."""
    gone, peer = it.place(State.KEEPALIVE)
    peer.send(b"x")
    it.poller._gather()
    number = gone.descriptor
    it.connections.close(gone, Reason.DONE)
    heir, _ = it.connect()
    assert heir.descriptor == number
    it.run_rounds()
    assert heir.alive
    assert it.of("received") == []


async def test_asking_from_another_task_wakes_a_sleeping_poller() -> None:
    async with attended() as it:
        connection, _ = it.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert it.connections.scheduler.asleep
        it.connections.resume(connection)
        await trio.testing.wait_all_tasks_blocked()
        assert it.of("resumed") == [connection]
        assert it.connections.scheduler.asleep, "and then it sleeps again"
