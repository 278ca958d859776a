"""Asks the kernel whether the server still has its end of a connection.

Owns: one netlink socket and the few fields of `sock_diag(7)` that answer that. A client that has gone dark, or does not
read, cannot see the server close, and a byte sent to find out would be a sign of life, whose absence is being tested.
On the loopback this kernel has both ends, and anybody may look up the other one by its addresses, as `ss` does, in 10
us and without walking all sockets. May not: touch the connection.
"""

import errno
import socket
import struct
from typing import Final

from loadgen.sockets import borrowed

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST: Final = 1  # NLM_F_REQUEST
_ERROR: Final = 2  # NLMSG_ERROR
_ESTABLISHED: Final = 1
_LISTEN: Final = 10
_NO_COOKIE: Final = 0xFFFFFFFF

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_QUESTION: Final = struct.Struct("=BBBBI")  # inet_diag_req_v2, before its inet_diag_sockid
_STATE_AT: Final = _HEADER.size + 1
_INODE_AT: Final = _HEADER.size + 68  # the last field of inet_diag_msg
_ANSWER_BYTES: Final = 4096


class SockDiag:
    """Looks up the other ends of connections. It must be closed."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG)

    def closed(self, fd: int) -> bool | None:
        """Whether no process holds the other end of this loopback connection; `None` if the kernel will not say."""
        with borrowed(fd) as sock:
            try:
                family, ours, theirs = sock.family, sock.getsockname(), sock.getpeername()
            except OSError as error:
                if error.errno == errno.ENOTCONN:
                    return True  # reset
                raise
        found = self.ask(family, theirs, ours)
        if found is None:  # gone, unless this kernel answers no such questions, not even about our own end
            return True if self.ask(family, ours, theirs) else None
        state, inode = found
        # For a pair that no longer exists, the kernel returns the listener. An end without inode belongs to no process
        # and only finishes sending; but an established one is still waiting to be accepted.
        return state == _LISTEN or (inode == 0 and state != _ESTABLISHED)

    def close(self) -> None:
        self._netlink.close()

    def ask(self, family: int, source: tuple[str, int], destination: tuple[str, int]) -> tuple[int, int] | None:
        """State and inode of the socket with these addresses; `None` if the kernel knows none or will not say."""
        ends = struct.pack(">HH", source[1], destination[1]) + _packed(family, source) + _packed(family, destination)
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends
        question += struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
        self._netlink.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 0, 0) + question)
        answer = self._netlink.recv(_ANSWER_BYTES)
        if _HEADER.unpack_from(answer)[1] == _ERROR:
            return None
        return answer[_STATE_AT], struct.unpack_from("=I", answer, _INODE_AT)[0]


def _packed(family: int, address: tuple[str, int]) -> bytes:
    return socket.inet_pton(family, address[0].partition("%")[0]).ljust(16, b"\0")
