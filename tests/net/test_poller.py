"""The poller: which connections are read, how much at a time, in which order, faults, and the end."""

import socket
import threading
import time

import pytest
import trio
import trio.lowlevel
import trio.testing

from chatserver.net import scheduler
from chatserver.net.connection import QUEUED, Connection
from chatserver.net.listener import ACCEPT_BATCH
from chatserver.net.poller import READ_BYTES, READ_MOST_BYTES
from chatserver.net.readiness import READ, Readiness
from chatserver.net.scheduler import QUANTUM
from chatserver.net.states import Priority, State
from chatserver.net.transport import PlainTransport
from chatserver.reasons import Reason
from tests.net.polled import polled
from tests.support.parked import Parked, descriptors, next_tick, parked, reset

pytestmark = pytest.mark.jumping_clock


# -- what is read -----------------------------------------------------------------------------------------------------


#: States in which a peer's next bytes begin a request, and some of the others.
BEGINS = (State.PROXY, State.TLS_HELLO, State.TLS_HANDSHAKE, State.HEAD)
GOES_ON = (State.BODY, State.KEEPALIVE, State.OPEN, State.PINGED, State.MESSAGE)
WORDS = b"the last words"


def test_what_was_said_before_a_reset_is_read_unless_it_begins_a_request() -> None:
    """A client that ends with messages unread, or publishes twice in one write and closes, resets the connection too.

    Nobody is left for the answer to a request: else a peer has a room opened or a message committed, and waits for
    nothing.
    """
    cases = [(state, b"", False) for state in BEGINS] + [(state, b"", True) for state in GOES_ON]
    for state, inbox, is_read in (*cases, (State.HEAD, b"GET", True)):
        with parked() as it:
            it.first = lambda address, state=state: state  # type: ignore[misc]
            connection, peer = it.connect_tcp()
            connection.inbox = inbox
            peer.send(WORDS)
            reset(peer)
            it.turn_over()
            assert it.details("closed") == [Reason.PEER_RESET], state
            assert received(it) == [WORDS] * is_read, (state, inbox)


def test_a_request_over_tls_is_read_although_its_peer_has_reset(it: Parked) -> None:
    """A client that closes without reading the tickets at the end of the handshake resets the connection too."""
    connection, peer = it.connect_tcp()
    connection.transport = PlainTransport()  # not the one of peers without TLS
    peer.send(WORDS)
    reset(peer)
    it.turn_over()
    assert received(it) == [WORDS]


def test_what_a_peer_sent_in_time_is_read_before_its_deadline_also_if_it_waits_in_bulk(it: Parked) -> None:
    """Its network was demoted when the pong arrived, but no longer at the deadline; or the rest of a body waits there.

    Beside 8,000 networks that flood, a turn in `BULK` takes seconds: people who had answered were closed for silence.
    """
    connection, peer = it.place(State.PINGED)
    demotion = it.connections.demotion
    demotion.demote(connection)
    peer.send(b"pong")
    it.poller._gather()
    demotion.gone(connection)
    it.connections.wheel.current = connection.deadline
    it.poller.expire(connection)
    it.run_rounds()
    assert [event for event, _, _ in it.recorder.events] == ["received", "expired"]


@pytest.mark.parametrize("state", [State.HEAD, State.KEEPALIVE, State.OPEN])
def test_what_a_peer_sent_in_time_is_read_before_its_deadline_also_behind_others(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy server the deadlines of those at rest, which have an item of their own, came first.

    The end of keep-alive closed connections whose request waited, and that of a sign-in those whose new token did.
    """
    monkeypatch.setitem(QUANTUM, Priority.NORMAL, 0.0)  # a step in each round
    with parked() as it:
        connection, peer = it.place(state)
        it.connections.submit(lambda _: False, connection)
        peer.send(b"GET")
        it.poller._gather()
        it.connections.wheel.current = connection.deadline
        it.poller.expire(connection)
        it.run_rounds()
        assert [event for event, _, _ in it.recorder.events] == ["received", "expired"]


# -- how much is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.HEAD, State.KEEPALIVE, State.HELD, State.OPEN])
def test_a_read_is_bounded(it: Parked, state: State) -> None:
    """A peer that sends much neither overwrites a ring at once nor delays the others."""
    _, peer = it.place(state, small=False)
    sent = peer.send(bytes(100_000))
    it.turn_over()
    assert sum(map(len, received(it))) == sent
    assert max(map(len, received(it))) == READ_BYTES


def received(it: Parked) -> list[bytes]:
    return [data for data in it.details("received") if isinstance(data, bytes)]


@pytest.mark.parametrize("state", [State.BODY, State.MESSAGE])
@pytest.mark.parametrize("size", [3000, READ_MOST_BYTES, 40_000])
def test_the_rest_of_an_announced_length_is_read_in_large_pieces(it: Parked, state: State, size: int) -> None:
    """Each read asks for READ_BYTES more, which shows whether more bytes have arrived."""
    _, peer = it.place(state, small=False)
    it.handler.lacks = size

    def less(connection: Connection) -> None:
        it.handler.lacks = size - sum(map(len, received(it)))

    it.recorder.on["received"] = less
    assert peer.send(bytes(size)) == size
    it.turn_over()
    sizes = list(map(len, received(it)))
    assert sum(sizes) == size
    assert len(sizes) == -(-size // (READ_MOST_BYTES + READ_BYTES))


def test_a_read_takes_at_most_read_bytes_beyond_the_announced_length(it: Parked) -> None:
    """This bounds what is kept of the next message, however much a peer sends ahead."""
    _, peer = it.place(State.MESSAGE, small=False)
    it.handler.lacks = 500
    peer.send(bytes(20_000))
    it.poller._gather()
    it.connections.scheduler.round()
    assert len(received(it)[0]) == 500 + READ_BYTES


@pytest.fixture
def endless_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No class of work is interrupted; otherwise the next class has its turn meanwhile, as on a busy machine."""
    monkeypatch.setattr(scheduler, "perf_counter", lambda: 0.0)


@pytest.mark.usefixtures("endless_turns")
def test_after_a_full_read_the_next_one_waits_in_bulk(it: Parked) -> None:
    greedy, flood = it.place(State.KEEPALIVE, small=False)
    other, peer = it.place(State.KEEPALIVE)
    flood.send(bytes(4 * READ_BYTES))
    peer.send(b"x")
    it.poller._gather()
    it.run_rounds()
    assert it.of("received") == [greedy, other, greedy, greedy, greedy], "after one report the further reads are bulk"
    assert it.armed(greedy) == READ


def test_a_connection_is_read_in_a_flush_window_unless_it_is_blocked(it: Parked) -> None:
    """A window also judges bytes that the kernel has taken and the peer not acknowledged; a pong ends it."""
    connection, peer = it.place(State.PINGED)
    it.connections.judge.begin(connection)
    peer.send(b"x")
    it.turn_over()
    assert it.details("received") == [b"x"]


@pytest.mark.usefixtures("endless_turns")
def test_the_handlers_remaining_work_comes_before_another_read(it: Parked) -> None:
    connection, peer = it.place(State.KEEPALIVE, small=False)
    other, _ = it.connect()
    more = iter([True, True, False])
    it.recorder.on["received"] = lambda each: len(it.of("received")) == 1
    it.recorder.on["resumed"] = lambda each: each is connection and next(more)
    peer.send(bytes(2 * READ_BYTES))
    it.poller._gather()
    it.connections.resume(other)
    it.turn_over()
    events = [(event, whose) for event, whose, _ in it.recorder.events]
    mine = ("resumed", connection)
    assert events == [("received", connection), ("resumed", other), mine, mine, mine, ("received", connection)]
    assert it.armed(connection) == READ


@pytest.mark.parametrize("stop", ["serve", "block", "close"])
def test_reading_stops_when_the_input_changes_the_state(it: Parked, stop: str) -> None:
    connection, peer = it.place(State.BODY, small=False)

    def act(each: Connection) -> None:
        if stop == "serve":
            it.connections.enter(each, State.SERVING, object())
        elif stop == "block":
            it.connections.send(each, bytes(1_000_000))
        else:
            it.connections.close(each, Reason.DONE)

    it.recorder.on["received"] = act
    peer.send(bytes(40_000))
    it.poller._read(connection)
    assert not connection.armed & QUEUED, "no second read is queued"
    it.turn_over()
    assert len(it.of("received")) == 1
    assert connection.alive is (stop != "close")


def test_more_to_do_after_a_backlog_is_done(it: Parked) -> None:
    connection, _ = it.connect()
    it.recorder.on["writable"] = lambda each: True
    it.connections.keep(connection, b"x", 0)
    it.turn_over()
    assert it.of("resumed") == [connection]
    assert it.armed(connection) == READ


# -- fairness ---------------------------------------------------------------------------------------------------------


def each_read_takes(share: float, it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each read take this share of the time that one round has for them."""
    now = 100.0

    def work(connection: Connection) -> None:
        nonlocal now
        now += QUANTUM[Priority.NORMAL] * share

    monkeypatch.setattr(scheduler, "perf_counter", lambda: now)
    it.recorder.on["received"] = work


def test_a_crowd_of_one_network_has_one_turn(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    each_read_takes(0.4, it, monkeypatch)
    crowd = [it.place(State.KEEPALIVE, address="192.0.2.1") for _ in range(100)]
    person, hers = it.place(State.KEEPALIVE, address="198.51.100.1")
    for _, peer in (*crowd, (person, hers)):
        peer.send(b"x")
    it.poller._gather()
    it.connections.scheduler.round()
    assert person in it.of("received")[:2]
    assert len(it.of("received")) == 3, "the share of one network in a round"


def test_a_batch_is_accepted_in_each_round_however_many_are_busy(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise newcomers wait 2.3 s in the kernel's queue beside 8,000 peers that send the longest heads."""
    each_read_takes(1.0, it, monkeypatch)
    for number in range(50):
        _, peer = it.place(State.HEAD, address=f"192.0.2.{number}")
        peer.send(b"x")
    it.readiness.add(it.listener.descriptor, READ)
    for _ in range(2 * ACCEPT_BATCH + 1):
        it.knock()
    counts = []
    for _ in range(3):
        it.poller._gather()
        it.connections.scheduler.round()
        counts.append(it.connections.held - 50)
    assert counts == [ACCEPT_BATCH, 2 * ACCEPT_BATCH, 2 * ACCEPT_BATCH + 1]
    assert len(it.of("received")) == 3, "each takes their whole share of a round"


def test_the_rest_of_long_work_is_bulk(it: Parked) -> None:
    connection, _ = it.place(State.OPEN)
    it.connections.resume(connection, later=True)
    _, peer = it.place(State.OPEN)
    peer.shutdown(socket.SHUT_WR)
    it.poller._gather()
    it.connections.resume(it.place(State.OPEN)[0])
    assert it.connections.scheduler.statistics() == {"first": 0, "normal": 2, "bulk": 1}


async def test_a_resume_by_another_task_wakes_a_sleeping_poller() -> None:
    async with polled() as it:
        connection, _ = it.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert it.connections.scheduler.asleep
        it.connections.resume(connection)
        await trio.testing.wait_all_tasks_blocked()
        assert it.of("resumed") == [connection]
        assert it.connections.scheduler.asleep, "it sleeps again afterwards"


async def test_a_post_by_a_thread_wakes_a_sleeping_poller() -> None:
    called = trio.Event()
    async with polled() as it:
        await trio.testing.wait_all_tasks_blocked()
        assert it.connections.scheduler.asleep
        assert await trio.to_thread.run_sync(it.connections.scheduler.post, called.set)
        await called.wait()


async def test_a_call_posted_as_the_poller_ends_is_made() -> None:
    """Otherwise a log would wait forever for the outcome of its last commit."""
    called = trio.Event()
    async with polled() as it:
        assert it.connections.scheduler.post(called.set)
    assert not it.connections.scheduler.post(called.set), "after the end the caller is told to use trio"
    await called.wait()


async def test_other_tasks_run_between_passes_while_steps_are_left() -> None:
    """Otherwise a flood would keep the log's outcomes, other tasks and signals waiting until it ends."""
    steps: list[int] = []
    async with polled() as it:

        def work(most: int) -> bool:
            steps.append(most)
            time.sleep(max(QUANTUM.values()))
            return len(steps) < most

        await trio.testing.wait_all_tasks_blocked()
        it.connections.scheduler.submit(Priority.NORMAL, work, 100, "192.0.2.1")
        while not steps:
            await trio.lowlevel.checkpoint()
        assert len(steps) < 100


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_fault_in_a_later_read_leaves_an_end_that_is_read(it: Parked) -> None:
    it.faults = 1
    greedy, flood = it.place(State.KEEPALIVE, small=False)

    def break_in_the_second(connection: Connection) -> None:
        if len(it.of("received")) == 2:
            raise ZeroDivisionError

    it.recorder.on["received"] = break_in_the_second
    it.recorder.on["faulted"] = lambda connection: it.connections.finish(connection, Reason.INTERNAL_ERROR)
    flood.send(bytes(2 * READ_BYTES))
    it.turn_over()
    assert greedy.state is State.CLOSING
    flood.close()
    it.turn_over()
    assert it.details("closed") == [Reason.INTERNAL_ERROR]


@pytest.mark.parametrize("is_last", [True, False])
def test_what_a_peer_sent_in_time_is_read_before_its_deadline_counts(it: Parked, is_last: bool) -> None:
    """Behind a crowd of its network it may be read seconds later, when the deadline has passed."""
    peers = [it.place(State.HEAD)[1] for _ in range(10)]
    it.turn(seconds=10.0)
    if is_last:
        it.recorder.on["received"] = lambda each: it.connections.enter(each, State.KEEPALIVE)
    for peer in peers:
        peer.send(b"the rest of the head")
    it.poller._gather()
    for connection in it.connections.wheel.turn(next_tick(it.connections.wheel)):
        it.poller.expire(connection)
    it.run_rounds()
    assert len(received(it)) == 10
    assert len(it.of("expired")) == (0 if is_last else 10)


def test_a_connection_that_is_closed_before_its_turn_does_not_expire(it: Parked) -> None:
    connection, _ = it.connect()
    connection.deadline = it.connections.wheel.current
    it.poller.expire(connection)
    it.connections.close(connection, Reason.DONE)
    it.run_rounds()
    assert it.of("expired") == []


async def test_the_tick_is_right_although_the_wheel_sleeps() -> None:
    """Deadlines would otherwise begin up to a second early."""
    async with polled() as it:
        connection, peer = it.connect()
        ticks: list[int] = []
        it.recorder.on["received"] = lambda each: ticks.append(it.connections.wheel.current)
        await trio.sleep(0.35)
        peer.send(b"x")
        await it.until(lambda: ticks)
        assert ticks[0] >= 3
        it.connections.close(connection, Reason.DONE)


async def test_a_fault_in_one_expiry_costs_no_other_of_its_slot(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other expired connections of the slot are handled all the same."""
    async with polled(head_deadline=1.0) as it:
        it.faults = 1
        everybody = [it.connect()[0] for _ in range(3)]
        expire = it.poller._expire

        def fail_for_one(connection: Connection) -> None:
            if connection is everybody[0]:
                raise RuntimeError("planted")
            expire(connection)

        monkeypatch.setattr(it.poller, "_expire", fail_for_one)
        await it.until(lambda: it.of("expired") == everybody[1:])
        assert it.of("closed") == everybody[:1]


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_everything_is_gone_after_cancellation() -> None:
    before, threads = descriptors(), set(threading.enumerate())  # idle threads of other tests may end meanwhile
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with polled(listen=True) as it:
        for _ in range(20):
            it.knock()
            it.connect()
        await it.until(lambda: it.connections.held == 40)
        behind, _ = it.connect()
        it.connections.send(behind, b"x" * 100_000)
        it.connections.resume(behind)
    assert it.details("closed") == [Reason.DRAINING] * 41
    assert descriptors() == before
    assert threads.issuperset(threading.enumerate())
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_stop_accepting_keeps_what_is_connected() -> None:
    async with polled(listen=True) as it:
        peer = it.knock()
        await it.until(lambda: it.connections.held == 1)
        it.poller.stop_accepting()
        it.poller.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            it.knock()
        peer.send(b"x")
        await it.until(lambda: it.details("received") == [b"x"])


@pytest.mark.skipif(Readiness.__name__ == "Kqueue", reason="a kqueue knows descriptors, not open files")
def test_a_listening_socket_of_other_processes_is_reported_after_its_end_here(it: Parked) -> None:
    """Closing our descriptor does not take it out of epoll then: the other workers have the same socket."""
    it.readiness.add(it.listener.descriptor, READ)
    with it.listener._socket.dup() as of_another, socket.socket() as peer:
        it.poller.stop_accepting()
        peer.connect(of_another.getsockname())
        it.poller._gather()
        assert (it.poller._events, it.connections.scheduler.idle) == (1, True)
