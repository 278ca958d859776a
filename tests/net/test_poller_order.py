"""The poller: who comes first in a pass, and for how long."""

import socket

import pytest
import trio.testing
from chatserver.net.phases import Phase

from chatserver.net import poller as poller_module
from chatserver.net.connection import BEHIND, Connection
from chatserver.net.listener import ACCEPT_BATCH, ACCEPT_WHEN_BUSY
from chatserver.net.poller import CROWD, FIRST_BATCH, LATER_BATCH, READ_BYTES
from chatserver.reasons import Reason
from tests.support.attended import Attended, attended, sizes


class SlowWork:
    """Time that passes only while somebody is attended to: a second each."""

    def __init__(self, it: Attended, monkeypatch: pytest.MonkeyPatch, *events: str) -> None:
        self.now = 0.0
        monkeypatch.setattr(poller_module, "perf_counter", lambda: self.now)
        for event in events:
            it.attendant.on[event] = self._work

    def _work(self, connection: Connection) -> None:
        self.now += 1.0


async def test_whoever_is_in_comes_before_a_flood_of_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attended() as it:
        for slice_ in ("PASS_SECONDS", "LATER_SECONDS"):
            monkeypatch.setattr(poller_module, slice_, 2.5)
        SlowWork(it, monkeypatch, "received")
        newcomers = dict(it.connect() for _ in range(2 * CROWD))
        insiders = dict(it.settle() for _ in range(4))
        for peer in (*newcomers.values(), *insiders.values()):
            peer.send(b"x")
        it.poller._pass()
        received = it.attendant.of("received")
        assert set(received[:3]) < set(insiders), "they wrote last"
        assert set(received[3:]) < set(newcomers), "none of either starves"
        assert len(received) == 6, "each has its slice"


async def test_whoever_leaves_waits_for_those_who_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """When thousands leave at once, giving back what they held is work for most of a second."""
    monkeypatch.setattr(poller_module, "FIRST_BATCH", CROWD)
    for slice_ in ("LATER_SECONDS", "CALM_SECONDS"):
        monkeypatch.setattr(poller_module, slice_, 0.5)
    async with attended() as it:
        work = SlowWork(it, monkeypatch)

        def leave(connection: Connection) -> None:
            work.now += 1.0
            it.connections.close(connection, Reason.PEER_CLOSED)

        it.attendant.on["ended"] = leave
        leaving = [it.settle() for _ in range(3 * CROWD)]
        staying, peer = it.settle()
        for _, gone in leaving:
            gone.shutdown(socket.SHUT_WR)
        peer.send(b"x")
        for _ in range(4):  # three batches of who leaves, and who stays wrote last
            it.poller._pass()
        assert it.attendant.of("received") == [staying]
        assert len(it.attendant.of("ended")) == 4, "one in each pass, so that they go"
        await it.until(lambda: len(it.attendant.of("closed")) == len(leaving))


async def test_hundreds_who_leave_are_seen_in_one_pass() -> None:
    """They come at fifty a millisecond: 64 a pass were fewer than that, and who stayed stood for 50 ms behind them."""
    async with attended() as it:
        leaving = [it.settle() for _ in range(FIRST_BATCH - 1)]
        staying, peer = it.settle()
        for _, gone in leaving:
            gone.shutdown(socket.SHUT_WR)
        peer.send(b"x")
        it.poller._pass()
        assert it.attendant.of("received") == [staying]


async def test_what_was_said_before_the_end_is_heard() -> None:
    async with attended() as it:
        connection, peer = it.settle()
        peer.send(b"last words")
        peer.shutdown(socket.SHUT_WR)
        await it.until(lambda: it.attendant.of("ended"))
        assert it.attendant.details("received") == [b"last words"]
        assert it.attendant.of("ended")[0] is connection


async def test_newcomers_have_a_longer_slice_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "LATER_SECONDS", 2.5)
    monkeypatch.setattr(poller_module, "CALM_SECONDS", 7.5)
    monkeypatch.setattr(poller_module, "CALM_AFTER", 10.0)
    async with attended() as it:
        work = SlowWork(it, monkeypatch, "received")
        work.now = 20.0
        newcomers = dict(it.connect() for _ in range(30))
        insider, insiders_peer = it.settle()
        for peer in newcomers.values():
            peer.send(b"x")
        it.poller._pass()
        assert len(it.attendant.of("received")) == 8, "calm"
        insiders_peer.send(b"x")
        it.poller._later.clear()
        it.poller._pass()
        assert it.attendant.of("received")[8] is insider
        assert len(it.attendant.of("received")) == 8 + 1 + 3
        it.poller._pass()
        assert len(it.attendant.of("received")) == 8 + 1 + 3 + 3, "it may say more"
        work.now += 20.0
        it.poller._pass()
        assert len(it.attendant.of("received")) == 8 + 1 + 3 + 3 + 8


async def test_few_are_accepted_while_newcomers_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finishing comes before beginning: each who comes in has a deadline, and who waits in the kernel has none."""
    for slice_ in ("PASS_SECONDS", "LATER_SECONDS", "CALM_SECONDS"):
        monkeypatch.setattr(poller_module, slice_, 60.0)
    async with attended(listen=True) as it:
        newcomers = [it.connect() for _ in range(2 * LATER_BATCH)]
        knocking = [it.knock() for _ in range(2 * ACCEPT_WHEN_BUSY)]
        for _, peer in newcomers:
            peer.send(b"x")
        before = it.connections.held
        it.poller._pass()
        assert len(it.attendant.of("received")) == LATER_BATCH
        assert it.connections.held - before == ACCEPT_WHEN_BUSY
        await it.until(lambda: it.connections.held - before == len(knocking))
        await it.until(lambda: len(it.attendant.of("received")) == len(newcomers))


async def test_few_are_accepted_while_somebody_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async with attended(listen=True) as it:
        knocking = [it.knock() for _ in range(ACCEPT_BATCH)]
        _, peer = it.settle()
        peer.send(b"x")
        before = it.connections.held
        it.poller._pass()
        assert it.connections.held - before == ACCEPT_WHEN_BUSY
        await it.until(lambda: it.connections.held - before == len(knocking))


async def test_asking_again_wakes_a_poller_that_nobody_else_would_wake() -> None:
    """The pump and the log's callbacks ask from other tasks, while the poller waits for the kernel."""
    async with attended() as it:
        connection, _ = it.connect()
        await trio.testing.wait_all_tasks_blocked()
        it.connections.again(connection)
        await trio.testing.wait_all_tasks_blocked()
        assert it.attendant.of("resumed") == [connection]
        assert not it.connections.asked.is_set()


async def test_a_pass_ends_when_its_time_is_up_and_the_others_are_first_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 events may be 64 pongs or 64 bursts of publishes: everybody else waited for a quarter of a second."""
    monkeypatch.setattr(poller_module, "PASS_SECONDS", 2.5)
    async with attended() as it:
        SlowWork(it, monkeypatch, "received")
        peers = dict(it.settle() for _ in range(8))
        for peer in peers.values():
            peer.send(b"x")
        for done in (3, 6, 8):
            it.poller._pass()
            assert len(set(it.attendant.of("received"))) == done
            for connection in it.attendant.of("received"):  # they have more to say: but they had their turn
                peers[connection].send(b"x")


async def test_who_is_gone_before_its_turn_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be somebody else's by then: an error of the one must not end the other."""
    monkeypatch.setattr(poller_module, "PASS_SECONDS", 0.5)
    async with attended() as it:
        SlowWork(it, monkeypatch, "received")
        _, first = it.settle()
        gone, peer = it.settle()
        first.send(b"x")
        peer.send(b"x")
        it.poller._pass()
        number = gone.descriptor
        it.connections.close(gone, Reason.DONE)
        heir, _ = it.connect()
        assert heir.descriptor == number
        it.poller._pass()
        assert heir.alive
        assert len(it.attendant.of("received")) == 1


async def test_whoever_asks_again_and_again_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "TURNS_SECONDS", CROWD - 0.5)
    async with attended() as it:
        work = SlowWork(it, monkeypatch)
        greedy = [it.connect()[0] for _ in range(CROWD + 5)]
        turns = 0

        def again(connection: Connection) -> None:
            nonlocal turns
            turns += 1
            work.now += 1.0
            if turns < 50 * CROWD:
                it.connections.again(connection)

        turns_before = []
        it.attendant.on["resumed"] = again
        it.attendant.on["received"] = lambda connection: turns_before.append(turns)
        for connection in greedy:
            it.connections.again(connection)
        _, peer = it.connect()
        peer.send(b"me too")
        await it.until(lambda: turns_before and turns >= len(greedy))
        assert turns_before[0] < 10 * CROWD, "it was read long before they had enough"
        resumed = it.attendant.of("resumed")
        assert set(resumed[: CROWD + 5]) == set(greedy), "everybody had a turn before anybody had two"


async def test_whoever_sends_faster_than_it_is_read_has_its_next_read_in_a_turn() -> None:
    """Requests of 15 KB, of which none but one fits a read, had a thousand flooders among those who come first."""
    async with attended() as it:
        greedy, flood = it.settle()
        sent = flood.send(b"x" * 4 * READ_BYTES)
        other, peer = it.settle()
        peer.send(b"x")
        for _ in range(3):
            it.poller._pass()
        assert it.attendant.of("received") == [greedy, other], "the kernel is not asked about it again"
        assert it.connections.insatiable[0] is greedy
        await it.until(lambda: sum(sizes(it)) == sent + 1)
        assert max(sizes(it)) == READ_BYTES
        await trio.testing.wait_all_tasks_blocked()
        flood.send(b"x")
        it.poller._pass()
        assert it.attendant.of("received")[-1] is greedy, "it has caught up, and comes first again"


async def test_who_falls_behind_for_a_moment_does_not_wait_for_all_who_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member with two messages at once stood behind 8,000 who flood: 7 s, in which it sent seventy more."""
    monkeypatch.setattr(poller_module, "TURNS_SECONDS", 0.5)
    async with attended() as it:
        work = SlowWork(it, monkeypatch)
        floods = [it.settle()[0] for _ in range(20)]
        member, _ = it.settle()
        for connection in (*floods, member):
            connection.phase = Phase.OPEN
            it.connections.caught_up(connection)
        enough = False

        def turn(connection: Connection) -> None:
            work.now += 1.0
            if connection is member or enough:
                it.connections.listen(connection)
            else:
                ask(connection)

        def ask(connection: Connection) -> None:
            it.connections.pause(connection)  # whoever waits is not read
            it.connections.again(connection)

        it.attendant.on["resumed"] = turn
        for flood in floods:
            ask(flood)
        await it.until(lambda: set(it.attendant.of("resumed")) == set(floods))
        assert len(it.connections.insatiable) >= len(floods) - 1
        before = len(it.attendant.of("resumed"))
        ask(member)
        await it.until(lambda: member in it.attendant.of("resumed"))
        assert it.attendant.of("resumed").index(member) - before <= 1, "it comes before those who had a turn"
        await it.until(lambda: len(it.attendant.of("resumed")) > before + 2 * len(floods))
        assert it.attendant.of("resumed").count(member) == 1
        enough = True
        await it.until(lambda: not it.connections.asked.is_set())
        assert not any(each.interest & BEHIND for each in (*floods, member)), "all have caught up"


async def test_both_lines_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come to the first one, the other has a turn in each pass."""
    monkeypatch.setattr(poller_module, "TURNS_SECONDS", 0.5)
    async with attended() as it:
        SlowWork(it, monkeypatch, "resumed")
        floods = [it.settle()[0] for _ in range(3)]
        members = [it.settle()[0] for _ in range(10)]
        for member in members:
            member.phase = Phase.OPEN
            it.connections.caught_up(member)
        for connection in (*floods, *members):
            it.connections.again(connection)
        assert (list(it.connections.pending), list(it.connections.insatiable)) == (members, floods)
        await it.until(lambda: not it.connections.asked.is_set())
        both = [each for pair in zip(members, floods, strict=False) for each in pair]
        assert it.attendant.of("resumed") == both + members[len(floods) :]


async def test_who_is_paused_while_it_waits_for_its_turn_is_read_when_it_is_listened_to_again() -> None:
    async with attended() as it:
        greedy, flood = it.settle()
        flood.send(b"x" * 2 * READ_BYTES)
        it.poller._pass()
        it.connections.pause(greedy)
        await trio.testing.wait_all_tasks_blocked()
        assert not it.connections.asked.is_set()
        assert len(it.attendant.of("received")) == 1
        it.connections.listen(greedy)
        await it.until(lambda: len(it.attendant.of("received")) == 2)


async def test_a_reset_is_noticed_by_who_waits_for_its_turn() -> None:
    async with attended() as it:
        greedy, flood = it.settle()
        flood.send(b"x" * 2 * READ_BYTES)
        it.poller._pass()
        flood.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        flood.close()
        it.poller._pass()
        await it.until(lambda: it.attendant.details("closed") == [Reason.PEER_RESET])
        assert not greedy.alive
        await trio.testing.wait_all_tasks_blocked()
        assert not it.connections.asked.is_set()


async def test_a_fault_in_a_turn_leaves_an_end_that_is_read() -> None:
    async with attended() as it:
        greedy, flood = it.settle()

        def break_in_the_second(connection: Connection) -> None:
            if len(it.attendant.of("received")) == 2:
                raise ZeroDivisionError

        it.attendant.on["received"] = break_in_the_second
        it.attendant.on["faulted"] = lambda connection: it.connections.finish(connection, Reason.INTERNAL_ERROR)
        flood.send(b"x" * 2 * READ_BYTES)
        await it.until(lambda: greedy.phase is Phase.CLOSING)
        flood.send(b"x")
        await it.until(lambda: len(it.attendant.of("received")) == 3)
