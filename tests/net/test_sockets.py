"""The few socket calls on bare descriptor numbers, and the size of the kernel's descriptor table."""

import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatserver.net import sockets
from chatserver.net.descriptors import RESERVED_DESCRIPTORS, grow_table
from loadgen.net.sockets import deafen
from tests.support.darkness import needs_darkness
from tests.support.parked import descriptors, pair, reset, tcp_pair
from tests.support.serving import free_flags, server_process


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our socket and the peer's, which has a small receive window."""
    ours, peer = tcp_pair(receive_buffer=4096)
    with ours, peer:
        yield ours, peer


def stuffed(ours: socket.socket) -> int:
    """Write until the kernel takes no more. Returns the number of bytes."""
    written = 0
    try:
        while True:
            written += ours.send(b"x" * 65536)
    except BlockingIOError:
        return written


def test_outstanding_counts_bytes_that_are_not_acknowledged(tcp: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = tcp
    assert sockets.outstanding(ours.fileno()) == 0
    written = stuffed(ours)
    assert 0 < sockets.outstanding(ours.fileno()) <= written


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has to be asked")
def test_the_kernel_takes_all_that_fits_when_it_is_asked_to(tcp: tuple[socket.socket, socket.socket]) -> None:
    """At a drain the kernel sends the rest after the process has ended, when the peer's window has room."""
    ours, _ = tcp
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1)
    ours.send(bytes(20_000))
    while select.select([], [ours], [], 0)[1]:
        ours.send(bytes(1_000))
    sockets.take_all(ours.fileno())
    assert select.select([], [ours], [], 0)[1]


def test_every_call_borrows_the_descriptor(tcp: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = tcp
    before = descriptors()
    for _ in range(50):
        sockets.outstanding(ours.fileno())
        sockets.take_all(ours.fileno())
        sockets.outage(ours.fileno())
        sockets.shutdown(ours.fileno(), socket.SHUT_WR)
    assert descriptors() == before
    assert ours.fileno() >= 0


@needs_darkness
def test_an_outage_tells_a_lost_peer_from_a_peer_that_does_not_read(tcp: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = tcp
    reader, lazy = tcp_pair()
    with reader, lazy:
        assert sockets.outage(ours.fileno()) is None
        deafen(peer.fileno())
        ours.send(b"into the dark")
        stuffed(reader)
        tries: set[float] = set()
        deadline = time.monotonic() + 20
        while len(tries) < 2 and time.monotonic() < deadline:  # after 0.2 and 0.6 s, as a rule
            outage = sockets.outage(ours.fileno())
            tries |= set() if outage is None else {outage}
            time.sleep(0.01)
        assert len(tries) == 2
        assert min(tries) > 0
        assert sockets.outage(reader.fileno()) is None


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RD])
def test_shutdown_for_a_peer_that_is_gone_is_no_error(how: int) -> None:
    ours, peer = tcp_pair()
    with ours:
        reset(peer)
        sockets.shutdown(ours.fileno(), how)
        sockets.shutdown(ours.fileno(), how)


def test_abort_closes_also_a_socket_that_takes_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS refuses options on a socket that the peer has reset; here a malformed option stands for that."""
    monkeypatch.setattr(sockets, "_ABORT", b"?")
    ours, peer = pair()
    with peer:
        descriptor = ours.detach()
        sockets.abort(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


# -- room for descriptors ---------------------------------------------------------------------------------------------


def table_size(process: int | str = "self") -> int:
    """Descriptors that fit the kernel's table of a process; it never shrinks."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("FDSize:")[2].split()[0])


def test_nothing_stays_open() -> None:
    before = descriptors()
    grow_table(50)
    assert descriptors() == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_the_descriptor_table_does_not_grow_while_a_crowd_connects(tmp_path: Path) -> None:
    """Each doubling of the table would stop the loop for 9 to 20 ms."""
    flags = free_flags(tmp_path, "--max-connections", "3000")
    async with server_process(tmp_path, *flags, is_forked=True) as server:
        assert table_size(server.process.pid) >= 3000
        assert descriptors(server.process.pid) <= RESERVED_DESCRIPTORS
