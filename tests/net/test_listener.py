"""Accepting: batches, readable refusals, and a process without free descriptors or kernel memory."""

import errno
import os
import socket
from unittest import mock

import pytest

from chatserver.net import listener as listener_module
from chatserver.net import sockets
from chatserver.net.listener import ACCEPT_BATCH, REST_TICKS, bind
from chatserver.net.readiness import READ
from chatserver.reasons import Reason
from tests.net.attended import attended
from tests.support.parked import REFUSAL, Parked, descriptors, ended, take

pytestmark = pytest.mark.jumping_clock


def test_at_most_one_batch_is_accepted(door: Parked) -> None:
    for _ in range(ACCEPT_BATCH + 3):
        door.knock()
    door.listener.accept()
    assert door.connections.held == ACCEPT_BATCH
    door.listener.accept()
    assert door.connections.held == ACCEPT_BATCH + 3


def test_accepted_sockets_do_not_block_and_inherit_options(door: Parked) -> None:
    """TCP_USER_TIMEOUT is not set: Linux counts it through zero-window probes, and resets honest members with a 4 KiB
    receive buffer after 40 s though they acknowledge bytes all the time (25 such members measured)."""
    door.knock()
    door.listener.accept()
    (connection,) = door.inside()
    assert connection.address == "127.0.0.1"
    assert not os.get_blocking(connection.descriptor)
    assert not os.get_inheritable(connection.descriptor)
    with socket.socket(fileno=os.dup(connection.descriptor)) as borrowed:
        assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def test_a_refused_peer_reads_why(door: Parked) -> None:
    door.admission.total = 1
    inside, outside = door.knock(), door.knock()
    outside.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
    door.listener.accept()
    assert take(outside) == REFUSAL
    assert (ended(outside), ended(inside)) == (True, False)
    assert (door.refused, door.connections.held) == ([Reason.REFUSED_FULL], 1)


async def test_a_resting_listener_does_not_spin() -> None:
    """Its socket stays readable meanwhile, and must not be polled."""
    async with attended(listen=True) as it:
        attempts = mock.Mock(side_effect=OSError(errno.EMFILE, "too many open files"))
        with mock.patch.object(sockets, "accept", attempts):
            it.knock()
            await it.until(lambda: attempts.call_count >= 6)
            before, ticks = attempts.call_count, len(it.ticks)
            await it.until(lambda: len(it.ticks) >= ticks + 6)
            assert attempts.call_count - before <= 2 * (6 / REST_TICKS + 1), "two attempts for each rest"
        await it.until(lambda: it.connections.held == 1)


def test_descriptors_are_given_back(door: Parked) -> None:
    before = descriptors()
    with pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", door.address[1], send_buffer=0)
    assert descriptors() == before
    door.listener.close()
    door.listener.close()
    assert descriptors() == before - 2


def test_ipv6_in_brackets_or_not() -> None:
    for host in ("::1", "[::1]"):
        try:
            listening = bind(host, 0, send_buffer=16384)
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        with listening:
            assert listening.getsockname()[0] == "::1"


def test_a_poller_over_a_closed_listener_ignores_it(door: Parked) -> None:
    door.readiness.add(door.listener.descriptor, READ)
    door.knock()
    door.poller._gather()
    door.poller.stop_accepting()
    door.poller.stop_accepting()
    door.run_rounds()
    assert (door.connections.held, door.connections.faults.count) == (0, 0)


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


def test_a_peer_that_gave_up_in_the_queue_is_no_error(door: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errno.ECONNABORTED)
    door.knock()
    door.listener.accept()
    assert (door.connections.held, door.refused) == (1, [])


def someone_idle(door: Parked) -> socket.socket:
    """A connected peer that has waited long enough to be evicted."""
    peer = door.knock()
    door.listener.accept()
    door.turn(seconds=2.5)
    return peer


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_without_eviction_is_a_refusal(door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int) -> None:
    """A crowd that reconnects at once evicts nothing of its own network; otherwise it would use up all scans."""
    inside = door.knock()
    door.listener.accept()
    failing(monkeypatch, shortage)
    peer = door.knock()
    door.listener.accept()
    assert take(peer) == REFUSAL
    assert (ended(inside), door.connections.held) == (False, 1)
    assert door.refused == [Reason.REFUSED_DESCRIPTORS]


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_beyond_the_spare_evicts_one_connection(
    door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int
) -> None:
    """Then the listener rests and the newcomer waits in the kernel's queue."""
    door.knock()
    someone_idle(door)
    failing(monkeypatch, shortage, shortage)
    peer = door.knock()
    door.listener.accept()
    assert (door.connections.held, door.refused, door.listener.resting) == (1, [], True)
    door.listener.accept()
    assert (door.connections.held, ended(peer)) == (2, False)


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_listener_rests_during_a_long_shortage(door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int) -> None:
    """No connection can be evicted and no peer refused: the listener rests, tries seldom, and accepts afterwards."""
    left = failing(monkeypatch, *[shortage] * 20)
    peer = door.knock()
    rests = 0
    while left:
        door.listener.accept()
        assert door.listener.resting
        rests += 1
        for _ in range(REST_TICKS):
            door.listener.tick()
    assert rests == 10, "two attempts for each rest: without and with the spare"
    assert door.listener._spare is not None
    door.listener.accept()
    assert door.connections.held == 1
    assert not ended(peer)


def test_a_lost_spare_descriptor_is_opened_again(door: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread takes the descriptor after the listener has closed it."""
    failing(monkeypatch, errno.EMFILE, None, errno.EMFILE)
    peer = door.knock()
    real = listener_module._open_spare
    monkeypatch.setattr(listener_module, "_open_spare", lambda: None)
    door.listener.accept()
    assert take(peer) == REFUSAL
    assert (door.listener._spare, door.listener.resting) == (None, False)
    door.listener.accept()
    assert door.listener.resting, "no peer can be refused"
    door.listener.tick()
    assert door.listener._spare is None
    monkeypatch.setattr(listener_module, "_open_spare", real)
    door.listener.tick()
    assert door.listener._spare is not None


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_evicts_a_connection_and_so_does_the_next(
    door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int
) -> None:
    """Each newcomer is accepted on the spare descriptor and stays."""
    idle = [door.knock(), someone_idle(door)]
    failing(monkeypatch, shortage, None, shortage, None)
    inside = [door.knock(), door.knock()]
    door.listener.accept()
    assert [ended(peer) for peer in idle + inside] == [True, True, False, False]
    assert (door.admission.reclaimed, door.connections.held, door.refused) == (2, 2, [])
