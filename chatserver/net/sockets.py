"""The few socket calls that a bare descriptor number does not offer.

Owns: the differences between Linux and macOS. May not: keep a socket object; each call borrows the descriptor.
"""

import errno
import fcntl
import os
import socket
import struct
import sys
import termios
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Linger on, for zero seconds: closing sends RST at once and the kernel forgets what it still had to send.
_ABORT = struct.pack("ii", 1, 0)
_SO_NWRITE = 0x1024  # macOS: bytes in the send queue
#: The kernel writes a number here. One for all calls: an object for each takes three times as long.
_NUMBER = array("i", [0])
_UNLIMITED = (1 << 31) - 1
#: Fields of Linux' struct tcp_info: congestion state, number of backoffs, the present RTO in microseconds, and the
#: milliseconds since data last arrived.
_TCP_INFO = struct.Struct("xB2xB3xI40xI")
_TCP_CA_LOSS = 4  # from the first timeout until all bytes in flight at that time have been acknowledged


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    # Family and type are given so that Python asks the kernel for neither; no call made here depends on them.
    borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def accept(listening: socket.socket) -> tuple[int, str]:
    """Accept one peer: its descriptor, made non-blocking, and its address. Raises OSError as accept(2) does.

    `socket.accept` wraps the number in an object, which takes 5 of its 10 µs; `_accept`, which it calls, does not.
    """
    descriptor, address = listening._accept()  # type: ignore[attr-defined]
    if not address:  # macOS: the peer has reset it in the queue. Go says ECONNABORTED too.
        os.close(descriptor)
        raise ConnectionAbortedError(errno.ECONNABORTED, "the peer has no address")
    os.set_blocking(descriptor, False)
    return descriptor, address[0]


def outstanding(descriptor: int) -> int:
    """Bytes that were written and not yet acknowledged by the peer (SIOCOUTQ, tcp(7))."""
    if sys.platform == "darwin":
        with _borrowed(descriptor) as borrowed:
            return borrowed.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
    fcntl.ioctl(descriptor, termios.TIOCOUTQ, _NUMBER)
    return _NUMBER[0]


def unread(descriptor: int) -> int:
    """Bytes that have arrived and were not read."""
    fcntl.ioctl(descriptor, termios.FIONREAD, _NUMBER)
    return _NUMBER[0]


def take_all(descriptor: int) -> None:
    """Let the kernel accept bytes until its send buffer is full, despite TCP_NOTSENT_LOWAT."""
    if sys.platform != "linux":
        return  # other systems do so anyway
    with _borrowed(descriptor) as borrowed, suppress(OSError):  # not TCP: a socket pair sends at once, or not at all
        borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNLIMITED)


def outage(descriptor: int) -> float | None:
    """Seconds for which the link to a peer was down, as far as TCP knows; it may be up again.

    None while TCP has no reason to retry: all is acknowledged, or the peer's window is closed. Else from the first
    transmission of the oldest unacknowledged bytes to the latest retry (RFC 6298), or since the peer sent something if
    that is less. The waits double, and a retry may be lost: a peer back after 25 s may get nothing before 51 s.
    """
    if sys.platform == "darwin":
        return None  # its TCP_CONNECTION_INFO counts retransmissions over the connection's life only
    with _borrowed(descriptor) as borrowed:
        try:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:
            return None  # not TCP: nothing is ever lost on a socket pair
    state, backoff, wait, silent = _TCP_INFO.unpack(info)
    return min((wait - (wait >> backoff)) / 1e6, silent / 1e3) if state == _TCP_CA_LOSS else None


def shutdown(descriptor: int, how: int) -> None:
    """`SHUT_WR`: send FIN after all that was written. `SHUT_RD`: report an end as if the peer's FIN had arrived."""
    # ENOTCONN: the peer reset the connection meanwhile, which the next read reports.
    with _borrowed(descriptor) as borrowed, suppress(OSError):
        borrowed.shutdown(how)


def abort(descriptor: int) -> None:
    """Close with RST and drop what the kernel still has to send: for peers that do not take it."""
    # macOS refuses options once both sides have ended: then nothing is left to drop.
    with suppress(OSError), _borrowed(descriptor) as borrowed:
        borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    os.close(descriptor)
