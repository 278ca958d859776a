"""Accepting: batches, refusals that can be read, and a process that is out of descriptors."""

import errno
import os
import socket
from unittest import mock

import pytest

from chatserver.net import sockets
from chatserver.net.listener import ACCEPT_BATCH, REST_TICKS, bind
from chatserver.net.readiness import READ
from chatserver.reasons import Reason
from tests.support.attended import attended
from tests.support.parked import REFUSAL, Parked, descriptors, ended, take

pytestmark = pytest.mark.jumping_clock


def test_a_batch_and_no_more(door: Parked) -> None:
    for _ in range(ACCEPT_BATCH + 3):
        door.knock()
    assert door.listener.accept(), "there may be more"
    assert door.connections.held == ACCEPT_BATCH
    assert not door.listener.accept()
    assert door.connections.held == ACCEPT_BATCH + 3


def test_accepted_do_not_block_and_have_the_options_of_the_listener(door: Parked) -> None:
    """The kernel does not judge slow readers: Linux counts TCP_USER_TIMEOUT through zero-window probes, and reset 25
    honest members with a 4 KiB receive buffer after 40 s though they acknowledged bytes all the time."""
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


def test_room_is_made_for_a_newcomer_when_all_places_are_taken(door: Parked) -> None:
    door.admission.total = 1
    inside = door.knock()
    door.listener.accept()
    door.turn(seconds=2.5)
    newcomer = door.knock()
    door.listener.accept()
    assert (ended(inside), ended(newcomer)) == (True, False)
    assert (door.refused, door.admission.held, door.admission.reclaimed) == ([], 1, 1)


async def test_a_resting_listener_does_not_spin() -> None:
    """Its socket stays readable all the while; the poller must not look at it."""
    async with attended(listen=True) as it:
        attempts = mock.Mock(side_effect=OSError(errno.EMFILE, "too many open files"))
        with mock.patch.object(sockets, "accept", attempts):
            it.knock()
            await it.until(lambda: attempts.call_count >= 6)
            before, ticks = attempts.call_count, len(it.ticks)
            await it.until(lambda: len(it.ticks) >= ticks + 6)
            assert attempts.call_count - before <= 2 * (6 / REST_TICKS + 1), "two attempts a rest, see test_shortage.py"
        await it.until(lambda: it.connections.held == 1)


def test_closing_gives_both_descriptors_back(door: Parked) -> None:
    before = descriptors()
    door.listener.close()
    door.listener.close()
    assert descriptors() == before - 2


def test_a_taken_port_is_an_error_and_leaks_nothing(door: Parked) -> None:
    before = descriptors()
    with pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", door.address[1], send_buffer=0)
    assert descriptors() == before


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
