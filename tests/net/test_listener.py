"""Accepting: batches, refusals that can be read, and a process that is out of descriptors."""

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chatserver.net import listener as listener_module
from chatserver.net.listener import ACCEPT_BATCH, REST_TICKS, Listener, bind
from chatserver.net.poller import Poller
from chatserver.net.readiness import READ
from chatserver.reasons import Reason
from tests.support.attended import REFUSAL, attended
from tests.support.door import Door
from tests.support.parked import descriptors, ended, take


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Whatever needs a descriptor fails with EMFILE, as it does for a process at its limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = descriptors() - 1  # the listing itself takes one
    highest = max(int(name) for name in os.listdir("/dev/fd"))  # noqa: PTH208
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, used) + 1, hard))
    try:
        try:
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
        yield
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def lose_the_spare(listener: Listener) -> None:
    """As when another thread was quicker to take it."""
    assert listener._spare is not None
    os.close(listener._spare)
    listener._spare = None


def test_a_batch_and_no_more(door: Door) -> None:
    for _ in range(ACCEPT_BATCH + 3):
        door.knock()
    assert door.listener.accept(), "there may be more"
    assert door.connections.held == ACCEPT_BATCH
    assert not door.listener.accept()
    assert door.connections.held == ACCEPT_BATCH + 3


def test_accepted_do_not_block_and_have_the_options_of_the_listener(door: Door) -> None:
    door.knock()
    door.listener.accept()
    (connection,) = [found for found in door.connections.table if found is not None]
    assert connection.address == "127.0.0.1"
    assert not os.get_blocking(connection.descriptor)
    assert not os.get_inheritable(connection.descriptor)
    borrowed = socket.socket(fileno=os.dup(connection.descriptor))
    with borrowed:
        assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_the_kernel_does_not_judge_slow_readers(door: Door) -> None:
    """It did, after 40 s: 25 honest members with a 4 KiB receive buffer that read 3 KB/s from an 8 KB/s room were all
    reset, though they acknowledged bytes all the time. Linux counts TCP_USER_TIMEOUT through zero-window probes."""
    door.knock()
    door.listener.accept()
    (connection,) = [found for found in door.connections.table if found is not None]
    with socket.socket(fileno=os.dup(connection.descriptor)) as borrowed:
        assert borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def test_a_refused_peer_reads_why() -> None:
    door = Door(total=1)
    try:
        inside, outside = door.knock(), door.knock()
        outside.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        door.listener.accept()
        assert take(outside) == REFUSAL
        assert ended(outside)
        assert not ended(inside)
        assert door.refused == [Reason.REFUSED_FULL]
        assert door.connections.held == 1
    finally:
        door.close()


def test_a_peer_that_gave_up_in_the_queue_is_no_error(door: Door) -> None:
    peer = door.knock()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    door.knock()
    assert not door.listener.accept()
    assert door.connections.held >= 1


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors")  # noqa: PTH112
def test_out_of_descriptors_each_peer_is_told(door: Door) -> None:
    peers = [door.knock() for _ in range(3)]
    with no_descriptors_left():
        for peer in peers:
            assert not door.listener.accept()
            assert not door.listener.resting, "it could refuse, so it may be called again"
            assert take(peer) == REFUSAL
            assert ended(peer)
    assert door.refused == [Reason.REFUSED_DESCRIPTORS] * 3
    door.knock()
    door.listener.accept()
    assert door.connections.held == 1, "and when there are some again, it lets in"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors")  # noqa: PTH112
def test_without_even_the_spare_it_rests_and_comes_back(door: Door) -> None:
    lose_the_spare(door.listener)
    door.knock()
    with no_descriptors_left():
        door.listener.accept()
        rested = []
        for _ in range(REST_TICKS):
            rested.append(door.listener.resting)
            door.listener.tick()
        assert rested == [True] * REST_TICKS
        assert [door.listener.resting] == [False]
    door.listener.tick()
    assert door.listener._spare is not None, "a tick brings the spare back"
    door.listener.accept()
    assert door.connections.held == 1


async def test_a_resting_listener_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket stays readable all the while; the poller must not look at it."""
    attempts = 0

    async with attended(listen=True) as it:
        (listener,) = it.listeners
        real = listener._socket

        class Failing:
            def _accept(self) -> None:
                nonlocal attempts
                attempts += 1
                raise OSError(errno.EMFILE, "too many open files")

            def close(self) -> None:
                real.close()

        monkeypatch.setattr(listener_module, "_open_spare", lambda: None)
        monkeypatch.setattr(listener, "_socket", Failing())
        lose_the_spare(listener)
        it.knock()
        await it.until(lambda: attempts >= 3)
        before, ticks = attempts, len(it.ticks)
        await it.until(lambda: len(it.ticks) >= ticks + 6)
        assert attempts - before <= 6 / REST_TICKS + 1, "one attempt a rest"
        monkeypatch.setattr(listener, "_socket", real)
        await it.until(lambda: it.connections.held == 1)


def test_room_is_made_for_a_newcomer_when_all_places_are_taken() -> None:
    door = Door(total=1)
    try:
        inside = door.knock()
        door.listener.accept()
        door.turn(seconds=2.5)
        newcomer = door.knock()
        door.listener.accept()
        assert ended(inside)
        assert not ended(newcomer)
        assert door.refused == []
        assert (door.admission.held, door.admission.reclaimed) == (1, 1)
    finally:
        door.close()


def test_nobody_goes_for_a_network_that_is_over_its_cap() -> None:
    door = Door(total=2, per_ip=1)
    try:
        door.knock()
        door.listener.accept()
        door.turn(seconds=5.0)
        door.knock()
        door.listener.accept()
        assert door.refused == [Reason.REFUSED_ADDRESS]
        assert (door.admission.held, door.admission.reclaimed) == (1, 0)
    finally:
        door.close()


def test_a_fault_in_admission_keeps_no_descriptor(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(address: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(door.admission, "admit", fail)
    before = descriptors()
    peer = door.knock()
    with pytest.raises(RuntimeError):
        door.listener.accept()
    assert ended(peer)
    assert descriptors() == before + 1, "the peer's own"


async def test_the_server_lives_through_emfile() -> None:
    async with attended(listen=True) as it:
        insider = it.knock()
        await it.until(lambda: it.connections.held == 1)
        outside = socket.socket()
        late = socket.socket()
        with outside, late:
            with no_descriptors_left():
                outside.connect(it.address)
                outside.setblocking(False)
                received = bytearray()

                def told() -> bool:
                    received.extend(take(outside))
                    return bytes(received) == REFUSAL

                await it.until(told)
                insider.send(b"attended to all the while")
                await it.until(lambda: it.of("received"))
            late.connect(it.address)
            await it.until(lambda: it.connections.held == 2)
        assert it.refused == [Reason.REFUSED_DESCRIPTORS]


async def test_the_cap_of_a_network_end_to_end() -> None:
    async with attended(listen=True, per_ip=2) as it:
        first = it.knock()
        it.knock()
        third = it.knock()
        received = bytearray()

        def told() -> bool:
            received.extend(take(third))
            return bytes(received) == REFUSAL

        await it.until(told)
        assert it.refused == [Reason.REFUSED_ADDRESS]
        it.connections.close(next(found for found in it.connections.table if found is not None), Reason.DONE)
        await it.until(lambda: ended(first))
        it.knock()
        await it.until(lambda: it.connections.held == 2)


def test_closing_gives_both_descriptors_back() -> None:
    door = Door()
    try:
        before = descriptors()
        door.listener.close()
        door.listener.close()
        assert descriptors() == before - 2
    finally:
        door.close()


def test_a_taken_port_is_an_error_and_leaks_nothing() -> None:
    door = Door()
    try:
        before = descriptors()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", door.socket.getsockname()[1], send_buffer=0)
        assert descriptors() == before
    finally:
        door.close()


def test_ipv6_in_brackets_or_not() -> None:
    for host in ("::1", "[::1]"):
        try:
            listening = bind(host, 0, send_buffer=16384)
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        with listening:
            assert listening.getsockname()[0] == "::1"


def test_a_poller_over_a_closed_listener_ignores_it(door: Door) -> None:
    poller = Poller(door.connections, door.readiness, [door.listener])
    door.readiness.add(door.listener.descriptor, READ)
    door.knock()
    poller._gather()
    poller.stop_accepting()
    poller.stop_accepting()
    door.run_rounds()
    assert (door.connections.held, door.connections.faults.count) == (0, 0)
