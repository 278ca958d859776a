"""Listening sockets: accept peers in batches, and answer 503 to those that are refused.

Owns: the listening descriptor and a spare one. May not: decide which peers are admitted (admission does), or read.

trio's own accept takes one connection a pass; batches make ten thousand handshakes a second possible. When accept fails
with EMFILE the socket stays readable, and the loop would spin: so the spare descriptor is given up to accept the peer,
and to answer 503 if no connection can be evicted for it. If even that fails, the listener rests (libev's manual,
"Special problems of being out of file descriptors").
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
from chatserver.net.connection import shared_address
from chatserver.net.connections import Connections
from chatserver.net.states import State
from chatserver.reasons import Reason

#: Peers accepted in one round of the scheduler; the others wait in the kernel's queue, at no cost. The work they bring
#: (60 µs for a peer that leaves at once) must fit into the time of `NORMAL` in a round, or queues grow.
ACCEPT_BATCH = 8
#: The same beside a `CROWD`.
FEW_ACCEPTED = 2
#: Length of the kernel's queue of peers not yet accepted, which caps it at net.core.somaxconn (4,096 on Linux). When a
#: burst overflows the queue, the peers beyond it wait a second for a SYN retransmit.
LISTEN_BACKLOG = 4096
#: Unsent bytes that the kernel takes besides those in flight. Further frames wait in the room's ring, where all members
#: share them, instead of in the kernel, where each peer has its own copy.
NOTSENT_LOWAT = 16 * 1024

#: The peer gave up while it was in the queue, or its network failed: not our error. accept(2) lists these, and EPERM,
#: with which seccomp refuses the call itself: the peer stays in the queue.
_PEER_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("ECONNABORTED", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
                 "EOPNOTSUPP", "ENETUNREACH", "ECONNRESET", "EINTR", "ETIMEDOUT")
    if hasattr(errno, name)
)  # fmt: skip
_OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_log = structlog.get_logger("chatserver.net")


class Listener:
    """One listening socket; safe to close twice.

    `first` is the state in which the connection of an address begins. With `operators`, its peers are noted in
    `Connections.operators`.
    """

    def __init__(
        self, listening: socket.socket, connections: Connections, admission: Admission, *,
        first: Callable[[str], State], refusals: Sequence[bytes], refused: Callable[[Reason, str], None],
        operators: bool = False,
    ) -> None:  # fmt: skip
        listening.listen(LISTEN_BACKLOG)  # again, if no worker could start on it for a while
        self.descriptor = listening.fileno()
        self._socket = listening
        self._connections = connections
        self._admission = admission
        self._refusals = refusals  # whole answers that differ in Retry-After, so that refused peers return spread out
        self._refused = refused
        self._first = first
        self._operators = operators
        self._spare = _open_spare()
        #: whether it does not accept until the next turn of the wheel, since not even a refusal was possible
        self.resting = False

    def accept(self) -> None:
        """Accept a batch of peers. Afterwards check `resting`."""
        for _ in range(FEW_ACCEPTED if self._connections.scheduler.crowded else ACCEPT_BATCH):
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
        """Admit a peer, or refuse it."""
        address = shared_address(address)
        try:
            reason = self._admission.admit(address, short=short, operator=self._operators)
        except BaseException:
            os.close(descriptor)  # nothing else owns it yet
            raise
        if reason is None:
            connection = self._connections.adopt(descriptor, address, self._first(address))
            if self._operators:
                self._connections.operators.add(connection)
        else:
            out = short and reason is Reason.REFUSED_FULL
            self._refused(Reason.REFUSED_DESCRIPTORS if out else reason, address)
            self._refuse(descriptor)

    def _refuse(self, descriptor: int) -> None:
        # No socket object, which would ask for the address: macOS knows none of a peer that is gone.
        with contextlib.suppress(OSError):  # a peer that is gone already needs no answer
            os.write(descriptor, random.choice(self._refusals))  # noqa: S311  jitter, not secrecy
            os.read(descriptor, 4096)  # unread bytes would turn our FIN into RST and lose the answer
        os.close(descriptor)

    def _accept_with_spare(self) -> bool:
        """No descriptor is left: accept a peer on the spare one; it stays if another is evicted. False: stop accepting.

        The peer's address must be known before an eviction, or a crowd could take every place that is freed.
        """
        if self._spare is not None:
            os.close(self._spare)
            try:
                descriptor, address = sockets.accept(self._socket)
            except BlockingIOError:
                return False
            except OSError as error:
                _log.warning("accept_failed", reason=error.strerror)
            else:
                self._take(descriptor, address, short=True)
                return True
            finally:
                self._spare = _open_spare()
        self._admission.make_room()
        self.resting = True  # else the loop would spin
        return False

    def tick(self) -> None:
        """At each turn of the wheel: try to reopen the spare descriptor, and end a rest."""
        if self._spare is None:
            self._spare = _open_spare()
        self.resting = False

    def close(self) -> None:
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
    """A listening, non-blocking socket with the options that every accepted one inherits, which saves five calls each.

    Of a name, the IPv4 address is bound if it has one: clients that try the other first then try this one.
    With `reuse_port` other sockets may be bound to the same address, and the kernel gives each new peer to one of them.
    Raises OSError when the address cannot be bound, socket.gaierror when it cannot be resolved.
    """
    bare = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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
