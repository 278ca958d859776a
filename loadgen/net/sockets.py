"""System calls on a client's descriptor, beyond read and write, and the kernel's word on the server's end.

Owns: connecting from a chosen source, and the ways in which a peer can misbehave below HTTP. All take a bare
descriptor, because a socket object would be a third of a client's memory.

A client that does not read cannot see the server close, and a byte sent to find out would be a sign of life. On the
loopback this kernel has both ends, and `sock_diag(7)` looks up the other one by its addresses, in 10 us.
"""

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from loadgen.net.target import Target

# In Linux since 4.2, in Python since 3.12. The port is then chosen at connect(), for the whole pair of addresses;
# bind() alone would reserve a port of the source address, and fail after 28,000.
IP_BIND_ADDRESS_NO_PORT: Final = 24

# Linux' asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27

# struct sock_filter {u16 code; u8 jt, jf; u32 k}: BPF_RET | BPF_K with k = 0, "keep 0 bytes of the packet", and the
# struct sock_fprog {u16 length; sock_filter *first} that points to it.
_KEEP_NOTHING: Final = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_FILTER: Final = struct.pack("HP", 1, ctypes.addressof(_KEEP_NOTHING))

#: Positions in `struct tcp_info` (linux/tcp.h): segments that are not acknowledged, milliseconds since data was last
#: sent and last arrived, the smoothed round trip in microseconds, segments that were sent again, the bytes that
#: arrived. Its first byte is the state.
_UNACKNOWLEDGED: Final = slice(24, 28)
_LAST_SENT: Final = slice(44, 48)
_LAST_RECEIVED: Final = slice(52, 56)
_ROUND_TRIP: Final = slice(68, 72)
_SENT_AGAIN: Final = slice(100, 104)
_RECEIVED: Final = slice(128, 136)
_TICK_SECONDS: Final = 0.01

#: States of a connection (linux/tcp_states.h). In the second and the third its peer has ended it.
ESTABLISHED: Final = 1
CLOSE: Final = 7
CLOSE_WAIT: Final = 8
LISTEN: Final = 10

#: What was sent so long before the end of its connection did not cross with that: a round trip, and what a busy machine
#: adds.
CROSSING_SECONDS: Final = 3.0

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


def connect(target: "Target", number: int, options: Iterable[tuple[int, int, int]] = ()) -> int:
    """Begin a connection to the target from the source address of this number; the descriptor does not block.

    The options are set before the handshake, which fixes the window scale.
    """
    with socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in options:
            sock.setsockopt(*option)
        source = target.source(number)
        if source is not None:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        code = sock.connect_ex((target.address, target.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        return sock.detach()


def describe(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


@contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """Wrap a descriptor in a socket that does not close it."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def finish_sending(fd: int) -> None:
    """Send FIN, and keep the other direction open."""
    with borrowed(fd) as sock:
        sock.shutdown(socket.SHUT_WR)


def deafen(fd: int) -> None:
    """Drop every arriving segment, acknowledgements and resets too, so that to its peer this one has vanished.

    Linux lets any user set this classic BPF filter; hardened kernels require CAP_NET_ADMIN and raise `PermissionError`.
    """
    _set(fd, _SO_ATTACH_FILTER, _FILTER)


def undeafen(fd: int) -> None:
    _set(fd, _SO_DETACH_FILTER, 0)


def reset_when_closed(fd: int) -> None:
    """Make close() send RST instead of FIN, and drop unsent data."""
    _set(fd, socket.SO_LINGER, _LINGER_ZERO)


def pending_error(fd: int) -> int:
    """Return and clear the pending error of the socket; 0 if there is none."""
    with borrowed(fd) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def tcp_state(fd: int) -> int:
    return _tcp_info(fd, 1)[0]


def is_ended(fd: int) -> bool:
    """Whether the peer has ended the connection, read or not."""
    return tcp_state(fd) in {CLOSE, CLOSE_WAIT}


def has_crossed(fd: int) -> bool:
    """Whether the peer's end may have crossed with what was sent last, so that no program has read that.

    A FIN acknowledges everything that came before it, and a socket that is closed with unread data sends RST instead
    (RFC 1122 section 4.2.2.13).
    """
    info = _tcp_info(fd, _LAST_SENT.stop)
    if int.from_bytes(info[_LAST_SENT], sys.byteorder) > CROSSING_SECONDS * 1000:
        return False
    return info[0] != CLOSE_WAIT or any(info[_UNACKNOWLEDGED])


def ended_first(fd: int) -> bool:
    """Whether the peer's FIN certainly came before the peer had what was sent last.

    It acknowledges nothing of that, or it has been followed by a reset, which Linux then reports as EPIPE.
    """
    info = _tcp_info(fd, _UNACKNOWLEDGED.stop)
    return any(info[_UNACKNOWLEDGED]) if info[0] == CLOSE_WAIT else pending_error(fd) == errno.EPIPE


def round_trip_seconds(fd: int) -> float:
    return int.from_bytes(_tcp_info(fd, _ROUND_TRIP.stop)[_ROUND_TRIP], sys.byteorder) / 1e6


def has_sent_again(fd: int) -> bool:
    """Whether something that was sent was not acknowledged in time: mostly because the network lost a packet."""
    return any(_tcp_info(fd, _SENT_AGAIN.stop)[_SENT_AGAIN])


def unread_seconds(fd: int) -> float:
    """How long ago, at least, the last data arrived.

    The kernel counts in ticks of its own clock, of 10 ms at most, so one tick is subtracted.
    """
    info = _tcp_info(fd, _LAST_RECEIVED.stop)
    return max(int.from_bytes(info[_LAST_RECEIVED], sys.byteorder) / 1000 - _TICK_SECONDS, 0.0)


def _tcp_info(fd: int, size: int) -> bytes:
    with borrowed(fd) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)


def _set(fd: int, option: int, value: int | bytes) -> None:
    with borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, option, value)


_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST: Final = 1  # NLM_F_REQUEST
_ERROR: Final = 2  # NLMSG_ERROR
_NO_COOKIE: Final = 0xFFFFFFFF

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_QUESTION: Final = struct.Struct("=BBBBI")  # inet_diag_req_v2, before its inet_diag_sockid
_STATE_AT: Final = _HEADER.size + 1
_UNTAKEN_AT: Final = _HEADER.size + 60  # idiag_wqueue
_INODE_AT: Final = _HEADER.size + 68  # the last field of inet_diag_msg
_ANSWER_BYTES: Final = 4096


class PeerEnd(NamedTuple):
    state: int
    untaken: int  # bytes that its process has written and its peer has not acknowledged
    inode: int  # 0 if no process holds it


class SockDiag:
    """Looks up the other ends of connections. It must be closed."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG)

    def closed(self, fd: int) -> bool | None:
        """Whether no process holds the other end of this loopback connection; `None` if the kernel will not say."""
        ends = _ends(fd)
        if ends is None:
            return True  # reset
        family, ours, theirs = ends
        found = self.ask(family, theirs, ours)
        if found is None:  # gone, unless this kernel answers no such questions, not even about our own end
            return True if self.ask(family, ours, theirs) else None
        # For a pair that no longer exists, the kernel returns the listener. An end without inode belongs to no process
        # and only finishes sending; but an established one is still waiting to be accepted.
        return found.state == LISTEN or (found.inode == 0 and found.state != ESTABLISHED)

    def written(self, fd: int) -> tuple[int, int]:
        """Bytes of the other end that have come, and those that wait there until this one takes them.

        Those that have come and are not yet acknowledged are in both.
        """
        info = _tcp_info(fd, _RECEIVED.stop)
        came = int.from_bytes(info[_RECEIVED], sys.byteorder)
        if info[0] == CLOSE_WAIT:
            return came, 0  # its FIN has come, behind everything else
        ends = _ends(fd)
        found = None if ends is None else self.ask(ends[0], ends[2], ends[1])
        return came, 0 if found is None or found.state == LISTEN else found.untaken

    def close(self) -> None:
        self._netlink.close()

    def ask(self, family: int, source: tuple[str, int], destination: tuple[str, int]) -> PeerEnd | None:
        """The socket with these addresses; `None` if the kernel knows none or will not say."""
        ends = struct.pack(">HH", source[1], destination[1]) + _packed(family, source) + _packed(family, destination)
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends
        question += struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
        self._netlink.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 0, 0) + question)
        answer = self._netlink.recv(_ANSWER_BYTES)
        if _HEADER.unpack_from(answer)[1] == _ERROR:
            return None
        number = struct.Struct("=I").unpack_from
        return PeerEnd(answer[_STATE_AT], number(answer, _UNTAKEN_AT)[0], number(answer, _INODE_AT)[0])


def _ends(fd: int) -> tuple[int, tuple[str, int], tuple[str, int]] | None:
    """The family and the addresses of both ends; `None` after a reset."""
    with borrowed(fd) as sock:
        try:
            return sock.family, sock.getsockname(), sock.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return None
            raise


def _packed(family: int, address: tuple[str, int]) -> bytes:
    return socket.inet_pton(family, address[0].partition("%")[0]).ljust(16, b"\0")
