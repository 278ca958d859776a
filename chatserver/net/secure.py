"""Connections under TLS: the same calls, with each byte sealed on its way to the kernel.

Owns: the write side of TLS, and what a connection needs for it, what came and is not whole included. May not: read
(net/tls_attendant.py does), or wait.

What differs from a plain connection is where bytes are kept that the kernel would not take. Plaintext that was not
sealed yet stays what it was: a place in a shared chunk. What was sealed must be sent exactly so, and is this peer's
alone: at most one record, `Secured.unsent`. So records are small (`RECORD`), one is sealed only when all before it
are in the kernel, and a peer that never reads costs 4 KiB more than on a plain connection.

A caller is told how much was *sealed*. If the kernel took less, the connection is blocked all the same, which the
caller finds out as for any other: by `blocked`, by 0 at the next `offer`, and by `drained` when it is over.
"""

import contextlib
import os
import ssl

import structlog

from chatserver.net.connection import Connection
from chatserver.net.connections import Connections, Finality
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.readiness import WRITE, Readiness
from chatserver.net.tls import TlsEngine, TlsError
from chatserver.net.unfinished import Unfinished
from chatserver.reasons import Reason

#: Plaintext in one record: 64 KiB cost 40 µs in records of 4 KiB, 23 in records of 16, without the system calls.
#: nginx has 16 KiB, and says to use 4 for a short time to the first byte.
RECORD = 4 * 1024
#: Ends at which the peer is past reading a close_notify.
_GONE = frozenset((Reason.PEER_CLOSED, Reason.PEER_RESET))

_log = structlog.get_logger("chatserver.net")


class Secured(Connection, gc=False, eq=False):
    """A peer under TLS: 40 bytes more than `Connection`, and OpenSSL's 13 KB."""

    tls: ssl.SSLObject | None = None  # from its ClientHello until our close_notify
    sealed: bytes = b""  # received: a record or a ClientHello that is not whole yet
    unsent: bytes = b""  # the rest of the last record that was made
    barren: int = 0  # bytes of records received since the last that held plaintext
    counted: int = 0  # bytes of `sealed`, see net/unfinished.py

    @property
    def unfinished(self) -> int:
        """Bytes that were received of something that is not whole, sealed or open."""
        return len(self.inbox) + len(self.sealed)


class SecureConnections(Connections):
    """`Connections` whose peers all speak TLS."""

    kind = Secured
    first = Phase.TLS

    def __init__(
        self, readiness: Readiness, limits: PhaseLimits, engine: TlsEngine, unfinished: Unfinished, *, now: float
    ) -> None:  # fmt: skip
        super().__init__(readiness, limits, now=now)
        self.engine = engine
        self._unfinished = unfinished

    # -- reading ----------------------------------------------------------------------------------------------------

    def gather(self, connection: Secured, sealed: bytes) -> bool:
        """Keep what is not whole yet, or not opened; False if that is too much, with what all others keep."""
        connection.sealed = sealed
        return self._unfinished.fits(connection, len(sealed))

    def _drop(self, connection: Secured) -> None:
        connection.sealed = b""
        self._unfinished.gone(connection)

    # -- writing ----------------------------------------------------------------------------------------------------

    def offer(self, connection: Connection, data: bytes) -> int:
        """See Connections. What is left of the last record counts as taken."""
        assert isinstance(connection, Secured)
        if connection.backlog is not None and connection.interest & WRITE:
            return 0
        if connection.descriptor < 0:
            return -1
        taken = self._seal_and_write(connection, data, 0)
        return taken if connection.descriptor >= 0 else -1

    def offer_each(self, connections: list[Connection], data: bytes) -> list[tuple[int, int]]:
        """See Connections."""
        size = len(data)
        partly = []
        for index, connection in enumerate(connections):
            taken = self._offer_guarded(connection, data)
            if taken != size:
                partly.append((index, taken))
        return partly

    def flush(self, connection: Connection) -> None:
        """See Connections."""
        assert isinstance(connection, Secured)
        backlog = connection.backlog
        assert backlog is not None, "WRITE is only asked for together with a backlog"
        rest, connection.unsent = connection.unsent, b""
        if rest and not self._write(connection, rest):
            return
        chunks = backlog.chunks
        while chunks:
            chunk = chunks[0]
            backlog.position = self._seal_and_write(connection, chunk, backlog.position)
            if backlog.position == len(chunk):
                del chunks[0]
                backlog.position = 0
            if connection.unsent or connection.descriptor < 0:
                return
        self._flushed(connection, backlog)

    def _seal_and_write(self, connection: Secured, data: bytes, start: int) -> int:
        """Seal and write until all is sealed or the kernel has enough; how far it came.

        Sealing fails when the peer has broken TLS in a way that only writing finds: that is its own end.
        """
        try:
            return self._seal_all(connection, data, start)
        except TlsError as error:
            connection.tls = None  # broken: no close_notify can be said
            self.lines.write(
                _log.info, "misbehaved", reason=Reason.TLS_FAILED.label, peer=connection.address,
                phase=connection.phase.name, detail=error.message,
            )  # fmt: skip
            self.close(connection, Reason.TLS_FAILED)
            return start

    def _seal_all(self, connection: Secured, data: bytes, start: int) -> int:
        tls = connection.tls
        assert tls is not None, "there is plaintext only between the handshake and our close_notify"
        seal, end = self.engine.seal, len(data)
        if end - start <= RECORD:  # nearly always
            self._write(connection, seal(tls, data[start:] if start else data))
            return end
        whole = memoryview(data)
        while start < end:
            record = seal(tls, whole[start : start + RECORD])
            start = min(start + RECORD, end)
            if not self._write(connection, record):
                break
        return start

    def _write(self, connection: Secured, sealed: bytes) -> bool:
        """Give ciphertext to the kernel and keep what it does not take; whether it took all."""
        if connection.unsent:
            connection.unsent += sealed
            return False
        try:
            taken = os.write(connection.descriptor, sealed)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.close(connection, Reason.PEER_RESET)
            return False
        backlog = connection.backlog
        if backlog is not None:
            backlog.written += taken
        if taken == len(sealed):
            return True
        connection.unsent = sealed[taken:]
        self.keep(connection, b"", 0)
        return False

    def reply(self, connection: Secured, sealed: bytes) -> None:
        """Send what OpenSSL itself has to say: a part of a handshake, the answer to a key update."""
        self._write(connection, sealed)

    # -- the end ----------------------------------------------------------------------------------------------------

    def turn_away(self, connection: Connection, reason: Reason, last: bytes) -> None:
        """See Connections: plain bytes, an alert for example."""
        assert isinstance(connection, Secured)
        connection.tls = None
        if connection.backlog is not None:
            connection.backlog.chunks.clear()
        if last:
            self._write(connection, last)
        self.finish(connection, reason)

    def _begin_closing(self, connection: Connection, reason: Reason) -> None:
        assert isinstance(connection, Secured)
        tls, connection.tls = connection.tls, None
        if tls is not None and not self._write(connection, self.engine.goodbye(tls)):
            if connection.backlog is not None:
                connection.backlog.last = reason  # FIN comes behind the close_notify
            return
        self._drop(connection)  # nothing more is opened
        super()._begin_closing(connection, reason)

    def close(self, connection: Connection, reason: Reason, finality: Finality = Finality.CLOSE) -> None:
        """See Connections. A close_notify goes first if the kernel takes it at once."""
        assert isinstance(connection, Secured)
        tls, connection.tls = connection.tls, None
        try:
            if tls is not None and finality is Finality.CLOSE and reason not in _GONE and not connection.unsent:
                with contextlib.suppress(OSError):
                    os.write(connection.descriptor, self.engine.goodbye(tls))
        finally:
            connection.unsent = b""
            self._drop(connection)
            super().close(connection, reason, finality)
