"""The poller: who is attended to, and what a fault costs. In what order: test_poller_order.py."""

import errno
import itertools
import select
import socket
import threading

import pytest
import trio
import trio.lowlevel
import trio.testing
from chatserver.net.phases import Phase, PhaseLimits

from chatserver.net.connection import Connection
from chatserver.net.poller import EXPIRE_BATCH, READ_BYTES, READ_KNOWN_BYTES, READ_MORE_BYTES, READ_MOST_BYTES
from chatserver.net.readiness import LATER, READ, open_readiness
from chatserver.reasons import Reason
from tests.support.attended import Attended, attended, received, sizes
from tests.support.parked import descriptors, ended, pair, take

#: Reads of 40,000 bytes.
STEPS = 13


def goes_of(it: Attended, connection: Connection) -> list[list[int]]:
    """Bytes of each read of somebody, go by go: another begins when it has its turn."""
    goes: list[list[int]] = [[]]
    for event, whose, detail in it.attendant.events:
        if whose is connection and event == "resumed":
            goes.append([])
        elif whose is connection and isinstance(detail, bytes):
            goes[-1].append(len(detail))
    return [go for go in goes if go]


def reset(peer: socket.socket) -> None:
    """Close so that the other side gets RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


async def test_bytes_fin_and_reset_reach_the_attendant() -> None:
    async with attended(listen=True) as it:
        peer, other = it.knock(), it.knock()
        await it.until(lambda: it.connections.held == 2)
        peer.send(b"hello")
        await it.until(lambda: it.attendant.details("received") == [b"hello"])
        peer.shutdown(socket.SHUT_WR)
        await it.until(lambda: it.attendant.of("ended"))
        it.connections.close(it.attendant.of("ended")[0], Reason.DONE)
        assert ended(peer)
        reset(other)
        await it.until(lambda: it.attendant.details("closed") == [Reason.DONE, Reason.PEER_RESET])


@pytest.mark.parametrize(
    ("phase", "kept", "most"),
    [
        (Phase.HEAD, 0, READ_BYTES),  # what a greedy peer sends ahead
        (Phase.OPEN, 0, READ_BYTES),
        (Phase.MESSAGE, READ_BYTES - 1, READ_BYTES),
        (Phase.MESSAGE, READ_BYTES, READ_MORE_BYTES),
        (Phase.HEAD, READ_BYTES, READ_MORE_BYTES),
        (Phase.BODY, 0, READ_MORE_BYTES),
    ],
)
async def test_a_read_is_bounded(phase: Phase, kept: int, most: int) -> None:
    """A greedy peer does not lap a ring, or hold everybody's turn; one with something long to say needs few reads."""
    async with attended() as it:
        connection, peer = it.connect(small=False)
        connection.phase = phase
        connection.inbox = b"x" * kept

        def keep(connection: Connection) -> None:
            connection.inbox += received(it)[-1]

        if kept >= READ_BYTES:  # it is half-way through something long; else what it sends is whole
            it.attendant.on["received"] = keep
        sent = peer.send(b"x" * 100_000)
        await it.until(lambda: sum(sizes(it)) == sent)
        assert max(sizes(it)) == most
        assert sizes(it)[0] == READ_BYTES


async def test_something_long_that_is_there_is_read_in_one_go() -> None:
    """Many who have sent all of it are not all half-way at the same time, with that half kept for each."""
    async with attended() as it:
        pairs = [it.connect(small=False) for _ in range(5)]
        for connection, peer in pairs:
            connection.phase = Phase.BODY
            assert peer.send(b"x" * 40_000) == 40_000
        await it.until(lambda: len(it.attendant.of("received")) == 5 * STEPS)
        order = [connection.descriptor for connection in it.attendant.of("received")]
        assert [len(list(turn)) for _, turn in itertools.groupby(order)] == [STEPS] * 5
        assert sizes(it)[:STEPS] == [512, 512, 1024, 2048, *8 * [4096], 3136], "twice what there was, at most"
        it.attendant.events.clear()
        for _, peer in pairs:
            assert peer.send(b"x" * 100_000) == 100_000
        await it.until(lambda: sum(sizes(it)) == 5 * 100_000)
        for connection, _ in pairs:
            goes = [sum(go) for go in goes_of(it, connection)]
            assert goes == [READ_MOST_BYTES, 100_000 - READ_MOST_BYTES], "one that never ends has no go that never ends"


@pytest.mark.parametrize("size", [READ_BYTES + 1, 3000, READ_MORE_BYTES, 15_000])
async def test_a_go_ends_where_something_long_does(size: int) -> None:
    """Of who sends long messages ahead not half of the next is kept until its turn, of each of 8,000."""
    async with attended() as it:
        connection, peer = it.connect(small=False)
        connection.phase = Phase.MESSAGE

        def take(connection: Connection) -> None:
            connection.inbox = b"x" * (sum(sizes(it)) % size)

        it.attendant.on["received"] = take
        assert peer.send(b"x" * 4 * size) == 4 * size
        await it.until(lambda: sum(sizes(it)) == 4 * size)
        total = 0
        for go in goes_of(it, connection):
            wholes = {(total := total + count) // size for count in go}
            assert len(wholes) <= 2, "what follows the one that became whole is in the next"
            assert total % size <= READ_MORE_BYTES


@pytest.mark.parametrize("size", [700, 3000, READ_KNOWN_BYTES, 40_000])
async def test_of_something_that_says_how_long_it_is_the_rest_is_read_at_once(size: int) -> None:
    """And one first read's worth behind it, so that it is seen whether there is more."""
    async with attended() as it:
        connection, peer = it.connect(small=False)
        connection.phase = Phase.MESSAGE

        def take(connection: Connection) -> None:
            rest = sum(sizes(it)) % size
            connection.inbox = b"x" * rest
            it.attendant.lacks = size - rest if rest else 0

        it.attendant.on["received"] = take
        assert peer.send(b"x" * size) == size
        await it.until(lambda: sum(sizes(it)) == size)
        await trio.testing.wait_all_tasks_blocked(0.01)
        first, *full, last = sizes(it)
        assert first == READ_BYTES
        assert full == [READ_KNOWN_BYTES + READ_BYTES] * len(full)
        assert last <= READ_KNOWN_BYTES
        assert len(full) == (size - READ_BYTES) // (READ_KNOWN_BYTES + READ_BYTES)
        assert not it.attendant.of("resumed"), "nothing is behind it, so it need not wait for a turn to be told"
        it.attendant.events.clear()
        assert peer.send(b"x" * 3 * size) == 3 * size
        await it.until(lambda: sum(sizes(it)) == 3 * size)
        total = 0
        for go in goes_of(it, connection):
            total += sum(go)
            assert total % size <= READ_BYTES, "what is kept of the next until its turn"


async def test_whoever_is_paused_or_closed_by_what_it_said_is_not_read_on() -> None:
    async with attended() as it:
        paused, closed = it.connect(small=False), it.connect(small=False)
        for connection, peer in (paused, closed):
            connection.phase = Phase.BODY
            assert peer.send(b"x" * 40_000) == 40_000

        def stop(connection: Connection) -> None:
            if connection is paused[0]:
                it.connections.pause(connection)
            else:
                it.connections.close(connection, Reason.DONE)

        it.attendant.on["received"] = stop
        await it.until(lambda: len(it.attendant.of("received")) == 2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(it.attendant.of("received")) == 2


async def test_a_paused_peer_is_not_read_but_its_reset_is_noticed() -> None:
    async with attended(listen=True) as it:
        peer = it.knock()
        await it.until(lambda: it.connections.held == 1)
        connection = next(found for found in it.connections.table if found is not None)
        it.connections.pause(connection)
        peer.send(b"not now")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert it.attendant.of("received") == []
        reset(peer)
        await it.until(lambda: it.attendant.details("closed") == [Reason.PEER_RESET])


async def test_a_backlog_goes_on_when_the_peer_takes_it() -> None:
    async with attended() as it:
        connection, peer = it.connect()
        data = bytes(range(256)) * 1000
        it.connections.send(connection, data)
        received = bytearray()

        def all_there() -> bool:
            received.extend(take(peer))
            return len(received) == len(data)

        await it.until(all_there)
        assert received == data
        await it.until(lambda: it.attendant.of("drained") == [connection])


async def test_a_closed_connection_is_not_resumed() -> None:
    async with attended() as it:
        connection, _ = it.connect()
        it.connections.again(connection)
        it.connections.close(connection, Reason.DONE)
        await trio.testing.wait_all_tasks_blocked()
        assert it.attendant.of("resumed") == []


async def test_a_fault_costs_its_own_connection_and_no_other() -> None:
    for event in ("received", "ended", "drained", "resumed", "expired"):
        async with attended(PhaseLimits(head=0.2)) as it:
            victim, peer = it.connect()
            bystander, other = it.connect()
            it.connections.enter(bystander, Phase.KEEPALIVE)

            def fail(connection: Connection, victim: Connection = victim) -> None:
                assert connection is not victim, "a bug of ours"

            it.attendant.on[event] = fail
            if event == "received":
                peer.send(b"x")
            elif event == "ended":
                peer.shutdown(socket.SHUT_WR)
            elif event == "drained":
                it.connections.keep(victim, b"", 0)
            elif event == "resumed":
                it.connections.again(victim)
            await it.until(lambda victim=victim: not victim.alive)  # type: ignore[misc]
            assert it.attendant.details("closed") == [Reason.INTERNAL_ERROR], event
            assert it.connections.faults == 1
            other.send(b"still here")
            await it.until(lambda: b"still here" in it.attendant.details("received"))
            assert bystander.alive


async def test_a_fault_in_a_turn_of_the_wheel_costs_that_turn(autojump_clock: trio.testing.MockClock) -> None:
    planted = [RuntimeError("planted")]

    def fail_once(late: float) -> None:
        if planted:
            raise planted.pop()

    async with attended() as it:
        it.on_tick = fail_once
        connection, _ = it.connect()
        await it.until(lambda: it.attendant.of("expired") == [connection])
        assert (it.connections.faults, connection.alive) == (1, True)


async def test_a_fault_in_accepting_is_over_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the kernel may have against it, such as a firewall's EPERM: those who are in stay, and others come."""
    async with attended(listen=True) as it:
        connection, peer = it.connect()
        [listener] = it.listeners
        accept, planted = listener.accept, [OSError(errno.EPERM, "planted")]

        def fail_once(most: int) -> bool:
            if planted:
                raise planted.pop()
            return accept(most)

        monkeypatch.setattr(listener, "accept", fail_once)
        it.knock()
        await it.until(lambda: it.connections.held == 2)
        peer.send(b"hello")
        await it.until(lambda: it.attendant.of("received") == [connection])
        assert it.connections.faults == 1


async def test_after_a_fault_the_attendant_may_say_so() -> None:
    async with attended(PhaseLimits(closing=0.2)) as it:
        victim, peer = it.connect()

        def fail(connection: Connection) -> None:
            raise RuntimeError("a bug")

        it.attendant.on["received"] = fail
        it.attendant.on["faulted"] = lambda connection: it.connections.finish(
            connection, Reason.INTERNAL_ERROR, b"sorry"
        )
        peer.send(b"x")
        await it.until(lambda: not victim.alive)
        assert peer.recv(9) == b"sorry"
        assert it.attendant.details("closed") == [Reason.INTERNAL_ERROR]


async def test_a_fault_in_the_end_as_well() -> None:
    """What broke may break the excuse and `closed` too: the poller lives, and the descriptor is gone."""
    async with attended() as it:
        victim, peer = it.connect()
        _, other = it.connect()

        def fail(connection: Connection) -> None:
            assert connection is not victim, "a bug of ours"

        for event in ("received", "faulted", "closed"):
            it.attendant.on[event] = fail
        peer.send(b"x")
        await it.until(lambda: not victim.alive)
        assert ended(peer)
        other.send(b"still here")
        await it.until(lambda: b"still here" in it.attendant.details("received"))


async def test_expiry_reaches_the_attendant(autojump_clock: trio.testing.MockClock) -> None:
    async with attended(PhaseLimits(head=10.0, closing=2.0)) as it:
        connection, peer = it.connect()
        begun = trio.current_time()
        await it.until(lambda: it.attendant.of("expired") == [connection])
        assert 9.9 <= trio.current_time() - begun <= 10.2
        it.connections.finish(connection, Reason.HEAD_DEADLINE, b"408")
        await it.until(lambda: not connection.alive)
        assert it.attendant.details("closed") == [Reason.HEAD_DEADLINE], "CLOSING ended; the reason is the first one"
        assert take(peer) == b"408"


async def test_a_peer_that_does_not_read_is_aborted(autojump_clock: trio.testing.MockClock) -> None:
    async with attended(PhaseLimits(flush_window=30.0)) as it:
        connection, _ = it.connect()
        it.connections.send(connection, b"x" * 100_000)
        begun = trio.current_time()
        await it.until(lambda: not connection.alive)
        assert 29.0 <= trio.current_time() - begun <= 31.0
        assert it.attendant.details("closed") == [Reason.FLUSH_DEADLINE]


async def test_the_peers_fin_ends_closing() -> None:
    async with attended() as it:
        connection, peer = it.connect()
        it.connections.finish(connection, Reason.DONE, b"200")
        assert take(peer) == b"200"
        peer.send(b"late bytes")
        peer.shutdown(socket.SHUT_WR)
        await it.until(lambda: not connection.alive)
        assert it.attendant.details("closed") == [Reason.DONE]


async def test_many_expiries_let_others_run(autojump_clock: trio.testing.MockClock) -> None:
    async with attended(PhaseLimits(head=1.0)) as it:
        for _ in range(300):
            it.connect()
        most = passed = 0

        async def count_passes() -> None:
            nonlocal most, passed
            while True:
                before = len(it.attendant.of("expired"))
                await trio.lowlevel.checkpoint()
                most = max(most, len(it.attendant.of("expired")) - before)
                if before and before < 300:
                    passed += 1
                if before == 300:
                    return

        await trio.sleep(0.95)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_passes)
            await trio.lowlevel.checkpoint()
            autojump_clock.jump(0.16)
        assert most <= 2 * EXPIRE_BATCH, "one batch, or two when our turn came between them"
        assert passed >= 3


async def test_everything_is_gone_after_cancellation() -> None:
    before = descriptors(), threading.active_count()
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with attended(listen=True) as it:
        for _ in range(20):
            it.knock()
            it.connect()
        await it.until(lambda: it.connections.held == 40)
        behind, _ = it.connect()
        it.connections.send(behind, b"x" * 100_000)
        it.connections.again(behind)
    assert it.attendant.details("closed") == [Reason.DRAINING] * 41
    assert (descriptors(), threading.active_count()) == before
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_stop_accepting_keeps_who_is_connected() -> None:
    async with attended(listen=True) as it:
        peer = it.knock()
        await it.until(lambda: it.connections.held == 1)
        it.poller.stop_accepting()
        it.poller.stop_accepting()
        try:
            it.knock()
        except ConnectionRefusedError:
            refused = True
        assert refused
        peer.send(b"x")
        await it.until(lambda: it.attendant.of("received"))


def test_readiness_reports_at_most_what_was_asked_and_loses_nothing() -> None:
    readiness = open_readiness()
    pairs = [pair() for _ in range(5)]
    try:
        for ours, peer in pairs:
            readiness.add(ours.fileno(), 1)
            peer.send(b"x")
        first = readiness.ready(2)
        assert len(first) == 2
        seen = {descriptor for _ in range(5) for descriptor, _ in readiness.ready(5)}
        assert seen == {ours.fileno() for ours, _ in pairs}, "level-triggered: what is not read is reported again"
        readiness.change(pairs[0][0].fileno(), 0, 1)
        assert pairs[0][0].fileno() not in {descriptor for descriptor, _ in readiness.ready(5)}
    finally:
        readiness.close()
        for ours, peer in pairs:
            ours.close()
            peer.close()


def test_newcomers_are_reported_apart_and_nothing_is_lost_when_one_is_no_newcomer_any_more() -> None:
    readiness = open_readiness()
    ours, peer = pair()
    try:
        readiness.add(ours.fileno(), READ | LATER)
        peer.send(b"x")
        assert select.select([readiness.fileno()], [], [], 0)[0], "whoever waits for the one is woken by the other"
        assert ours.fileno() not in dict(readiness.ready(5))
        assert readiness.later(5) == [(ours.fileno(), READ)]
        readiness.change(ours.fileno(), LATER, READ | LATER)
        assert readiness.later(5) == []
        readiness.change(ours.fileno(), READ, LATER)
        assert readiness.later(5) == []
        assert dict(readiness.ready(5))[ours.fileno()] == READ
        readiness.change(ours.fileno(), READ | LATER, READ)
        assert ours.fileno() not in dict(readiness.ready(5))
        assert readiness.later(5) == [(ours.fileno(), READ)]
    finally:
        readiness.close()
        ours.close()
        peer.close()
