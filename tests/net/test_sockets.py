"""The few socket calls on bare descriptor numbers."""

import ctypes
import os
import select
import socket
import struct
import sys
import time

import pytest

from chatserver.net import sockets
from tests.support.parked import descriptors, ended, pair, take, tcp_pair

# A filter that lets nothing in, so that to its peer a socket is gone: SO_ATTACH_FILTER with the program "return 0".
_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_DROP_ALL = struct.pack("HP", 1, ctypes.addressof(_RETURN_NOTHING))


def test_outstanding_counts_what_was_not_acknowledged() -> None:
    ours, peer = tcp_pair()
    with ours, peer:
        assert sockets.outstanding(ours.fileno()) == 0
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        written = 0
        try:
            while True:
                written += ours.send(b"x" * 65536)
        except BlockingIOError:
            pass
        assert 0 < sockets.outstanding(ours.fileno()) <= written


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere that is how it is")
def test_the_kernel_takes_all_that_fits_when_it_is_asked_to() -> None:
    """At a drain: what the peer's window has no room for yet is sent when we are gone."""
    ours, peer = tcp_pair(receive_buffer=4096)
    with ours, peer:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1)
        ours.send(bytes(20_000))
        while select.select([], [ours], [], 0)[1]:
            ours.send(bytes(1_000))
        sockets.take_all(ours.fileno())
        assert select.select([], [ours], [], 0)[1]


def test_taking_all_is_nothing_to_a_socket_pair() -> None:
    ours, peer = pair()
    with ours, peer:
        sockets.take_all(ours.fileno())
        assert ours.send(b"x") == 1


def test_outstanding_borrows_the_descriptor() -> None:
    ours, peer = tcp_pair()
    with ours, peer:
        before = descriptors()
        for _ in range(50):
            sockets.outstanding(ours.fileno())
            sockets.shutdown(ours.fileno(), socket.SHUT_WR)
        assert descriptors() == before
        assert ours.fileno() >= 0


def _stuffed(ours: socket.socket) -> None:
    try:
        while True:
            ours.send(b"x" * 65536)
    except BlockingIOError:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO, and a filter to lose segments with")
def test_the_latest_try_is_what_tells_a_lost_peer_from_one_that_does_not_read() -> None:
    ours, peer = tcp_pair()
    reader, lazy = tcp_pair()
    with ours, peer, reader, lazy:
        assert sockets.latest_try(ours.fileno()) is None
        peer.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_ALL)
        ours.send(b"into the dark")
        _stuffed(reader)
        tries: set[float] = set()
        deadline = time.monotonic() + 20
        while len(tries) < 2 and time.monotonic() < deadline:  # after 0.2 and 0.6 s, as a rule
            latest = sockets.latest_try(ours.fileno())
            tries |= set() if latest is None else {latest}
            time.sleep(0.01)
        assert len(tries) == 2
        assert min(tries) > 0
        assert sockets.latest_try(reader.fileno()) is None


def test_a_socket_pair_loses_nothing() -> None:
    ours, peer = pair()
    with ours, peer:
        _stuffed(ours)
        assert sockets.latest_try(ours.fileno()) is None


def test_end_writing_sends_fin_behind_the_bytes() -> None:
    ours, peer = pair()
    with ours, peer:
        ours.send(b"last words")
        sockets.shutdown(ours.fileno(), socket.SHUT_WR)
        assert take(peer) == b"last words"
        assert ended(peer)
        peer.send(b"still read by us")
        assert take(ours) == b"still read by us"


def test_end_writing_to_a_peer_that_is_gone_is_no_error() -> None:
    ours, peer = tcp_pair()
    with ours:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        sockets.shutdown(ours.fileno(), socket.SHUT_WR)
        sockets.shutdown(ours.fileno(), socket.SHUT_WR)


def test_abort_resets_and_drops_what_was_not_sent() -> None:
    ours, peer = tcp_pair()
    with peer:
        before = descriptors()
        descriptor = ours.detach()
        sockets.abort(descriptor)
        assert descriptors() == before - 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        peer.setblocking(True)
        with pytest.raises(ConnectionResetError):
            peer.recv(4096)


def test_abort_gives_the_descriptor_back_even_if_the_option_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS refuses options on a socket that the peer has reset; here a malformed option stands for that."""
    monkeypatch.setattr(sockets, "_ABORT", b"?")
    ours, peer = pair()
    with peer:
        descriptor = ours.detach()
        with pytest.raises(OSError, match="Invalid argument"):
            sockets.abort(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
