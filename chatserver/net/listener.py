"""Listening sockets: new peers in batches, and a polite word for those who cannot come in.

Owns: the listening descriptor and a spare one. May not: decide who may come in (admission does), or read from peers.

trio's own accept takes one connection a pass; taking some at a time makes ten thousand handshakes a second possible.
Options are set on the listening socket, since Linux and the BSDs copy them to each accepted one: five system calls a
peer are saved.

When places or descriptors run out, admission makes room before a newcomer is refused. When accept fails with EMFILE,
the socket stays readable and the loop would spin. So one descriptor is kept in reserve and given up to accept the peer,
and to tell it 503 if nobody can go for it (libev's manual, "Special problems of being out of file descriptors"). Where
even that fails, the listener rests.
"""

import contextlib
import errno
import os
import random
import socket
import sys
from collections.abc import Callable, Sequence

import structlog

from chatserver.net import sockets
from chatserver.net.admission import Admission
from chatserver.net.connections import Connections
from chatserver.net.states import State
from chatserver.reasons import Reason

#: Peers taken in one round of the scheduler; the others wait in the kernel's queue, which costs nothing. What they
#: bring must fit into a round, 60 us for one that leaves at once, or the queues grow behind the listener: with 16 of
#: them and 0.4 ms, users waited 210 ms beside 14,000 who connect and leave each second, with these 6.
ACCEPT_BATCH = 8
#: The kernel's queue of peers not yet accepted; it caps this at net.core.somaxconn (4,096 on Linux). With a short
#: queue a burst costs the unlucky ones a SYN retransmit of a second.
LISTEN_BACKLOG = 4096
#: Unsent bytes that the kernel takes ahead of what is in flight. Beyond it the frames wait in the room's ring, where
#: they are shared, instead of in the kernel, where each peer has its own copy.
NOTSENT_LOWAT = 16 * 1024
#: Ticks for which a listener that could not even refuse leaves its queue alone.
REST_TICKS = 2

#: Peers that gave up while they were in the queue, or a network that failed them: not our error. accept(2) lists them.
_PEER_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("ECONNABORTED", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
                 "EOPNOTSUPP", "ENETUNREACH", "EPERM", "ECONNRESET", "EINTR", "ETIMEDOUT")
    if hasattr(errno, name)
)  # fmt: skip
_OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_log = structlog.get_logger("chatserver.net")


class Listener:
    """One listening socket; safe to close twice.

    With `operators`, its peers are noted in `Connections.operators`. They send no PROXY header: they are behind it.
    """

    def __init__(
        self, listening: socket.socket, connections: Connections, admission: Admission, *,
        refusals: Sequence[bytes], refused: Callable[[Reason], None], operators: State | None = None,
    ) -> None:  # fmt: skip
        self.descriptor = listening.fileno()
        self._socket = listening
        self._connections = connections
        self._admission = admission
        self._refusals = refusals  # whole answers that differ in Retry-After, so that the refused return spread
        self._refused = refused
        self._operators = operators  # the state in which they begin
        self._spare = _open_spare()
        self._rest = 0

    def accept(self) -> None:
        """Take some of the peers that wait. See `resting` as well."""
        for _ in range(ACCEPT_BATCH):
            try:
                descriptor, address = sockets.accept(self._socket)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PEER_ERRORS:
                    continue
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                if not self._accept_with_spare():
                    return
            else:
                self._take(descriptor, address)

    def _take(self, descriptor: int, address: str, *, short: bool = False) -> None:
        """Let a peer in, or tell it why not."""
        address = sys.intern(address)
        try:
            reason = self._admission.admit(address, short=short)
        except BaseException:
            os.close(descriptor)  # nobody else knows of it yet
            raise
        if reason is None:
            connection = self._connections.adopt(descriptor, address)
            if self._operators is not None:
                self._connections.operators.add(connection)
                if connection.state is State.PROXY:
                    self._connections.enter(connection, self._operators)
        else:
            self._refuse(descriptor, Reason.REFUSED_DESCRIPTORS if short and reason is Reason.REFUSED_FULL else reason)

    @property
    def resting(self) -> bool:
        """Whether not even a refusal was possible: its queue is left alone for a while, or the loop would spin."""
        return self._rest > 0

    def _refuse(self, descriptor: int, reason: Reason) -> None:
        self._refused(reason)
        with (
            socket.socket(fileno=descriptor) as accepted,
            contextlib.suppress(OSError),  # a peer that is gone already need not be told
        ):
            accepted.send(random.choice(self._refusals))  # noqa: S311  jitter, not secrecy
            accepted.shutdown(socket.SHUT_WR)
            accepted.recv(4096)  # unread bytes would turn our FIN into RST and lose the answer

    def _accept_with_spare(self) -> bool:
        """No descriptor is left: the next peer gets the spare one, and stays if another goes for it. False: no more.

        Who comes has to be known first: a crowd for which others had to go, unseen, would be all that is ever let in.
        """
        if self._spare is None:
            self._admission.make_room()
            self._spare = _open_spare()
        if self._spare is None:
            self._rest = REST_TICKS
            return False
        os.close(self._spare)
        try:
            descriptor, address = sockets.accept(self._socket)
        except BlockingIOError:
            return False
        except OSError as error:
            _log.warning("accept_failed", reason=error.strerror)
            self._admission.make_room()
            self._rest = REST_TICKS
            return False
        else:
            self._take(descriptor, address, short=True)
        finally:
            self._spare = _open_spare()
        return self._spare is not None

    def tick(self) -> None:
        """Once a tick of the wheel: try to get the spare descriptor back, and let a rest run out."""
        if self._spare is None:
            self._spare = _open_spare()
        self._rest = max(self._rest - 1, 0)

    def close(self) -> None:
        """Give both descriptors back."""
        self._socket.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # taken meanwhile by another thread; `tick` tries again


def bind(host: str, port: int, *, send_buffer: int, reuse_port: bool = False) -> socket.socket:
    """A listening, non-blocking socket with the options that every accepted one inherits.

    With `reuse_port` others may be bound to the same address, and the kernel gives each new peer to one of them.
    Raises OSError when the address cannot be bound, socket.gaierror when it cannot be resolved.
    """
    bare = host.removeprefix("[").removesuffix("]")
    family, kind, protocol, _, address = socket.getaddrinfo(
        bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if send_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if sys.platform == "linux":
            # No TCP_USER_TIMEOUT: Linux counts it through zero-window probes, and honest members with a small receive
            # buffer that read 3 KB/s were reset after 40 s. `FLUSH` finds a peer that vanished.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        listening.bind(address)
        listening.listen(LISTEN_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
