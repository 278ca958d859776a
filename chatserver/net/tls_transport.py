"""Bytes under TLS: the transport of a peer whose handshake is over.

Owns: OpenSSL's object for one peer, its incomplete incoming record, the unsent rest of its last outgoing one. May not:
close, or know what plaintext means. The handshake is net/tls_handshake.py's.

Plaintext that is not sealed (encrypted) yet stays a position in a shared chunk. A sealed record belongs to this peer
alone: records are small, one is sealed only when all before it are in the kernel, and at most one is kept (`unsent`).
Callers get the number of bytes *sealed*; while `unsent` is not empty the connection is blocked.
"""

import os
import socket
import ssl

import msgspec

from chatserver.meters import FairByteBudget
from chatserver.net import sockets
from chatserver.net.connection import Backlog, Connection, TransportError
from chatserver.net.tls import TlsEngine, TlsError
from chatserver.net.tls_records import HEADER, whole_records
from chatserver.net.transport import advance
from chatserver.reasons import Reason

#: Bytes of plaintext in one record: 64 KiB cost 40 µs in records of 4 KiB, 23 in records of 16, without system calls.
#: nginx has 16 KiB, and advises 4 for a short time to the first byte.
RECORD = 4 * 1024
#: Records without plaintext of one connection, ever: key updates, warnings, empty ones. A key update costs 10 to 20 µs,
#: and no other budget counts it. OpenSSL and BoringSSL allow 32 in a row, which a byte of data between them evades.
#: Libraries change keys after 2^24 records or 2^37 bytes; a client that does it hourly has forty days.
MAX_EMPTY_RECORDS = 1_000


class TlsTransport(msgspec.Struct, gc=False, eq=False):
    """See the module; OpenSSL's part is 13 KB."""

    engine: TlsEngine
    budget: FairByteBudget
    tls: ssl.SSLObject
    sealed: bytes = b""  # received: a record that is not whole yet
    unsent: bytes = b""  # the rest of the last record that was sealed
    empty: int = 0  # records received that held no plaintext

    def offer(self, connection: Connection, data: bytes) -> int:
        """Seal and write until all is sealed or the kernel takes no more. Returns the bytes sealed.

        Nothing is unsent before: then the connection is blocked.
        """
        whole, start, end = memoryview(data), 0, len(data)
        while start < end and not self.unsent:
            self._seal(connection, whole[start : start + RECORD])
            start = min(start + RECORD, end)
        return start

    def flush(self, connection: Connection, backlog: Backlog) -> bool:
        """Write the rest of the last record, then seal the kept chunks."""
        if self.unsent:
            self._write(connection, self.unsent, backlog)
        while backlog.chunks and not self.unsent:
            plaintext = _first(backlog, RECORD)
            self._seal(connection, plaintext, backlog)
            advance(backlog, len(plaintext))
        return not self.unsent

    def _seal(self, connection: Connection, data: bytes | memoryview, backlog: Backlog | None = None) -> None:
        try:
            record = self.engine.seal(self.tls, data)
        except TlsError as error:
            raise TransportError(str(error)) from None
        self._write(connection, record, backlog)

    def _write(self, connection: Connection, record: bytes, backlog: Backlog | None = None) -> bool:
        """Write ciphertext and keep what the kernel does not take. Returns whether it took all."""
        try:
            taken = os.write(connection.descriptor, record)
        except BlockingIOError:
            taken = 0
        if backlog is not None:
            backlog.written += taken
        self.unsent = record[taken:]
        return not self.unsent

    def open(self, connection: Connection, data: bytes) -> bytes:
        """The plaintext of all whole records; an incomplete one is kept."""
        sealed = self.sealed + data if self.sealed else data
        count, end = whole_records(sealed)
        self.sealed = sealed[end:]
        if not self.budget.resize(self, len(self.sealed), connection.network):
            raise TransportError("too many records are unfinished", Reason.UNFINISHED_FULL)
        if not end:
            return b""
        try:
            received = self.engine.receive(self.tls, sealed[:end] if end < len(sealed) else sealed)
        except TlsError as error:
            if error.reply:
                self._write(connection, self.unsent + error.reply)
            raise TransportError(str(error)) from None
        if received.reply:
            self._write(connection, self.unsent + received.reply)
        if received.ended:
            sockets.shutdown(connection.descriptor, socket.SHUT_RD)
        self.empty += count - received.holding
        if self.empty > MAX_EMPTY_RECORDS:
            raise TransportError(f"more than {MAX_EMPTY_RECORDS:,} records without any data")
        return received.plaintext

    def lacking(self) -> int:
        sealed = self.sealed
        return HEADER + (sealed[3] << 8 | sealed[4]) - len(sealed) if len(sealed) >= HEADER else 0

    def finish(self, connection: Connection) -> bool:
        """Send close_notify, or what the kernel did not take of it. Returns whether the kernel took all."""
        return self._write(connection, self.unsent + self.engine.goodbye(self.tls))

    def released(self) -> None:
        """Free what is kept: the connection is closed, or has sent all."""
        self.sealed = self.unsent = b""
        self.budget.release(self)


def _first(backlog: Backlog, size: int) -> bytes:
    """The first bytes that are kept, up to `size`: a page is kept in hundreds of parts, and each record is a write."""
    parts, position = [], backlog.position
    for chunk in backlog.chunks:
        part = memoryview(chunk)[position : position + size]
        parts.append(part)
        position, size = 0, size - len(part)
        if not size:
            break
    return b"".join(parts)
