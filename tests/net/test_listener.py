"""Accepting: batches, readable refusals, and a process without free descriptors or kernel memory."""

import errno
import os
import socket
from unittest import mock

import pytest

from chatserver.net import listener as listener_module
from chatserver.net import sockets
from chatserver.net.listener import ACCEPT_BATCH, FEW_ACCEPTED, NOTSENT_LOWAT, bind
from chatserver.net.readiness import READ
from chatserver.net.scheduler import CROWD
from chatserver.net.states import Priority
from chatserver.reasons import Reason
from tests.net.polled import polled
from tests.support.parked import REFUSAL, Parked, descriptors, ended, take

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize("waiting", [CROWD, CROWD + 1])
def test_one_batch_is_accepted_and_beside_a_crowd_few(it: Parked, waiting: int) -> None:
    """They would wait in the scheduler instead of in the kernel's queue, and persons with them."""
    for number in range(2 * waiting):
        it.connections.scheduler.submit(Priority.NORMAL, bool, None, number // 2)
    for _ in range(ACCEPT_BATCH + 3):
        it.knock()
    it.listener.accept()
    assert it.connections.held == (FEW_ACCEPTED if waiting > CROWD else ACCEPT_BATCH)


def test_accepted_sockets_do_not_block_and_inherit_options(it: Parked) -> None:
    """TCP_USER_TIMEOUT is not set: Linux counts it through zero-window probes, and resets honest members with a 4 KiB
    receive buffer after 40 s though they acknowledge bytes all the time (25 such members measured)."""
    it.knock()
    it.listener.accept()
    (connection,) = it.inside()
    assert connection.address == "127.0.0.1"
    assert not os.get_blocking(connection.descriptor)
    assert not os.get_inheritable(connection.descriptor)
    with socket.socket(fileno=os.dup(connection.descriptor)) as borrowed:
        assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
            assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == NOTSENT_LOWAT


async def test_a_resting_listener_does_not_spin() -> None:
    """Its socket stays readable meanwhile, and must not be polled."""
    async with polled(listen=True) as it:
        attempts = mock.Mock(side_effect=OSError(errno.EMFILE, "too many open files"))
        with mock.patch.object(sockets, "accept", attempts):
            it.knock()
            await it.until(lambda: attempts.call_count >= 4)
            before, ticks = attempts.call_count, len(it.ticks)
            await it.until(lambda: len(it.ticks) >= ticks + 2)
            assert attempts.call_count - before <= 2 * (len(it.ticks) - ticks + 1), "two attempts for each rest"
        await it.until(lambda: it.connections.held == 1)


def test_descriptors_are_given_back(it: Parked) -> None:
    before = descriptors()
    with pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", it.address[1], send_buffer=0)
    assert descriptors() == before
    it.listener.close()
    it.listener.close()
    assert descriptors() == before - 2


def test_ipv6_in_brackets_or_not() -> None:
    for host in ("::1", "[::1]"):
        try:
            listening = bind(host, 0, send_buffer=16384)
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        with listening:
            assert listening.getsockname()[0] == "::1"
            assert listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (16384, 2 * 16384), "Linux doubles it"


def test_a_name_means_its_ipv4_address_if_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--host localhost` bound ::1, which the resolver names first, and 127.0.0.1 was refused."""
    both = [socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0] for address in ("::1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with bind("localhost", 0, send_buffer=0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_operators_are_known_by_their_listener_and_have_places_beyond_all(it: Parked) -> None:
    it.admission.total = 0
    it.listener._operators = True
    it.knock()
    it.listener.accept()
    (connection,) = it.inside()
    assert it.connections.operators == {connection}
    it.connections.close(connection, Reason.DONE)
    assert not it.connections.operators


def test_a_poller_over_a_closed_listener_ignores_it(it: Parked) -> None:
    it.readiness.add(it.listener.descriptor, READ)
    it.connections.table.extend([None] * it.listener.descriptor)  # its number is the next
    it.knock()
    it.poller._gather()
    it.poller.stop_accepting()
    it.poller.stop_accepting()
    it.run_rounds()
    assert it.connections.held == 0


# -- shortage: evict, refuse, or rest ---------------------------------------------------------------------------------


SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


def failing(monkeypatch: pytest.MonkeyPatch, *script: int | None) -> list[int | None]:
    """Make accept fail as the script says (None: it succeeds) and then succeed. Returns the rest of the script."""
    left, real = list(script), sockets.accept

    def accept(listening: socket.socket) -> tuple[int, str]:
        number = left.pop(0) if left else None
        if number is not None:
            raise OSError(number, os.strerror(number))
        return real(listening)

    monkeypatch.setattr(sockets, "accept", accept)
    return left


def test_a_peer_that_gave_up_in_the_queue_is_no_error(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errno.ECONNABORTED)
    it.knock()
    it.listener.accept()
    assert (it.connections.held, it.refused) == (1, [])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM])
def test_an_accept_that_the_kernel_refuses_ends_the_batch_as_a_fault(
    it: Parked, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """With EPERM the loop turned without an end and without a log line: the peer stays in the queue."""
    failing(monkeypatch, number)
    it.knock()
    with pytest.raises(OSError, match=os.strerror(number)):
        it.listener.accept()


class Nameless(socket.socket):
    """macOS accepts a peer that has reset the connection in the queue, and knows no address of it."""

    def _accept(self) -> tuple[int, None]:
        descriptor, _ = super()._accept()  # type: ignore[misc]
        return descriptor, None


def test_a_peer_without_an_address_is_closed(it: Parked) -> None:
    """An exception would have ended the batch, and left its descriptor open."""
    listening = it.listener._socket
    with Nameless(fileno=os.dup(listening.fileno())) as nameless:
        it.listener._socket = nameless
        peers = [it.knock() for _ in range(2)]
        before = descriptors()
        it.listener.accept()
        it.listener._socket = listening
    assert (it.connections.held, it.refused) == (0, [])
    assert descriptors() == before - 1, "of the copy of the listening socket"
    assert all(map(ended, peers))


def test_a_refused_peer_whose_socket_has_no_address_is_closed(it: Parked) -> None:
    """macOS knows no address of a socket that the peer has reset; here a pipe stands for that."""
    reading, writing = os.pipe()
    it.listener._refuse(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == REFUSAL, "and then its end"


def someone_idle(it: Parked) -> socket.socket:
    """A connected peer that has waited long enough to be evicted."""
    peer = it.knock()
    it.listener.accept()
    it.turn(seconds=2.5)
    return peer


def test_a_peer_that_leaves_the_queue_during_a_shortage_takes_no_place(
    it: Parked, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone_idle(it)
    failing(monkeypatch, errno.EMFILE, errno.EAGAIN)
    it.listener.accept()
    assert (it.connections.held, it.listener.resting) == (1, False)
    assert it.listener._spare is not None


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_without_eviction_is_a_refusal(it: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int) -> None:
    """A crowd that reconnects at once evicts nothing of its own network; otherwise it would use up all scans."""
    inside = it.knock()
    it.listener.accept()
    failing(monkeypatch, shortage)
    peer = it.knock()
    peer.send(b"GET / HTTP/1.1\r\n")
    it.listener.accept()
    assert (take(peer), ended(peer)) == (REFUSAL, True), "and no reset, which can destroy the answer"
    assert (ended(inside), it.connections.held) == (False, 1)
    it.admission._per_network = 1
    failing(monkeypatch, shortage)
    it.knock()
    it.listener.accept()
    assert it.refused == [Reason.REFUSED_DESCRIPTORS, Reason.REFUSED_ADDRESS]


def test_a_shortage_beyond_the_spare_evicts_one_connection(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the listener rests and the newcomer waits in the kernel's queue."""
    it.knock()
    someone_idle(it)
    failing(monkeypatch, errno.EMFILE, errno.EMFILE)
    peer = it.knock()
    it.listener.accept()
    assert (it.connections.held, it.refused, it.listener.resting) == (1, [], True)
    it.listener.accept()
    assert (it.connections.held, ended(peer)) == (2, False)


def test_a_listener_rests_during_a_long_shortage(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be evicted and no peer refused: the listener rests, tries seldom, and accepts afterwards."""
    left = failing(monkeypatch, *[errno.EMFILE] * 20)
    peer = it.knock()
    before, rests = descriptors(), 0
    while left:
        it.listener.accept()
        assert it.listener.resting
        rests += 1
        it.listener.tick()
    assert rests == 10, "two attempts for each rest: without and with the spare"
    assert it.listener._spare is not None
    it.listener.accept()
    assert it.connections.held == 1
    assert descriptors() == before + 1, "the spare was given up for each attempt"
    assert not ended(peer)


def test_a_lost_spare_descriptor_is_opened_again(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread takes the descriptor after the listener has closed it."""
    inside = it.knock()
    it.listener.accept()
    failing(monkeypatch, errno.EMFILE)
    peer = it.knock()
    real = listener_module._open_spare
    monkeypatch.setattr(listener_module, "_open_spare", lambda: None)
    it.listener.accept()
    assert take(peer) == REFUSAL
    assert (it.listener._spare, it.listener.resting) == (None, False)
    it.turn(seconds=2.5)
    failing(monkeypatch, errno.EMFILE)
    it.listener.accept()
    assert (it.listener.resting, ended(inside)) == (True, True), "no peer can be refused, so one is evicted"
    it.listener.tick()
    assert it.listener._spare is None
    monkeypatch.setattr(listener_module, "_open_spare", real)
    it.listener.tick()
    assert it.listener._spare is not None


def test_a_shortage_evicts_a_connection_and_so_does_the_next(it: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each newcomer is accepted on the spare descriptor and stays."""
    idle = [it.knock(), someone_idle(it)]
    failing(monkeypatch, errno.EMFILE, None, errno.EMFILE, None)
    inside = [it.knock(), it.knock()]
    it.listener.accept()
    assert [ended(peer) for peer in idle + inside] == [True, True, False, False]
    assert (it.admission.reclaimed, it.connections.held, it.refused) == (2, 2, [])
