"""Bytes under TLS: the transport of a peer whose handshake is over.

Owns: what one peer needs for it: OpenSSL's object, a record that is not whole yet, the rest of the last one that was
sealed. May not: close, or know what plaintext means. The handshake is net/tls_handshake.py's.

Plaintext that is not sealed yet stays a place in a shared chunk. What is sealed must be sent exactly so, and is this
peer's alone: at most one record, `unsent`. So records are small, one is sealed only when all before it are in the
kernel, and a peer that never reads costs 4 KiB more than on a plain connection. A caller is told how much was *sealed*;
while a rest of that is kept here the connection is blocked.
"""

import os
import socket
import ssl

import msgspec

from chatserver.meters import ByteBudget
from chatserver.net import sockets
from chatserver.net.connection import Backlog, Connection, TransportError
from chatserver.net.tls import TlsEngine, TlsError
from chatserver.net.tls_records import HEADER, MAX_RECORD, RecordError, whole_records
from chatserver.reasons import Reason

#: Plaintext in one record: 64 KiB cost 40 µs in records of 4 KiB, 23 in records of 16, without the system calls.
#: nginx has 16 KiB, and says to use 4 for a short time to the first byte.
RECORD = 4 * 1024
#: Bytes of records without plaintext, in a row, that a peer may send: tickets, key updates and warnings are hundreds of
#: bytes in a day. Each record is work for us, and nothing that any other budget would count.
MAX_EMPTY_RECORDS = 2 * MAX_RECORD


class TlsTransport(msgspec.Struct, gc=False, eq=False):
    """See the module; OpenSSL's part is 13 KB."""

    engine: TlsEngine
    budget: ByteBudget
    tls: ssl.SSLObject
    sealed: bytes = b""  # received: a record that is not whole yet
    unsent: bytes = b""  # the rest of the last record that was sealed
    empty: int = 0  # bytes of records received since the last that held plaintext
    finished: bool = False  # our close_notify is sealed: nothing can be sealed behind it

    # -- writing ----------------------------------------------------------------------------------------------------

    def offer(self, connection: Connection, data: bytes) -> int:
        """Seal and write until all is sealed or the kernel has enough."""
        if self.unsent and not self._write(connection, self.unsent):
            raise BlockingIOError
        return self._seal(connection, data, 0)

    def flush(self, connection: Connection, backlog: Backlog) -> bool:
        """Write the rest of the last record, then seal what is kept."""
        if self.unsent and not self._write(connection, self.unsent, backlog):
            return False
        chunks = backlog.chunks
        while chunks:
            chunk = chunks[0]
            backlog.position = self._seal(connection, chunk, backlog.position, backlog)
            if backlog.position == len(chunk):
                del chunks[0]
                backlog.position = 0
            if self.unsent:
                return False
        return True

    def _seal(self, connection: Connection, data: bytes, start: int, backlog: Backlog | None = None) -> int:
        whole, end = memoryview(data), len(data)
        try:
            while start < end:
                record = self.engine.seal(self.tls, whole[start : start + RECORD])
                start = min(start + RECORD, end)
                if not self._write(connection, record, backlog):
                    break
        except TlsError as error:
            # OpenSSL reads before it writes while half a post-handshake message is here: nothing can be sealed then.
            raise TransportError(str(error)) from None
        return start

    def _write(self, connection: Connection, record: bytes, backlog: Backlog | None = None) -> bool:
        """Give ciphertext to the kernel and keep what it does not take; whether it took all."""
        try:
            taken = os.write(connection.descriptor, record)
        except BlockingIOError:
            taken = 0
        if backlog is not None:
            backlog.written += taken
        self.unsent = record[taken:]
        return not self.unsent

    # -- reading ----------------------------------------------------------------------------------------------------

    def open(self, connection: Connection, data: bytes) -> bytes:
        """The plaintext in the whole records; what is behind them is kept."""
        sealed = self.sealed + data if self.sealed else data
        try:
            end = whole_records(sealed)
        except RecordError as error:
            raise TransportError(str(error)) from None
        self.sealed = sealed[end:]
        if not self.budget.resize(self, len(self.sealed)):
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
        if received.plaintext:
            self.empty = 0
        else:
            self.empty += end
            if self.empty > MAX_EMPTY_RECORDS:
                raise TransportError(f"{self.empty:,} bytes of records without any data")
        return received.plaintext

    def lacking(self, connection: Connection) -> int:
        """Bytes that the record under way has announced and not brought."""
        sealed = self.sealed
        return max(HEADER + (sealed[3] << 8 | sealed[4]) - len(sealed), 0) if len(sealed) >= HEADER else 0

    # -- the end ----------------------------------------------------------------------------------------------------

    def finish(self, connection: Connection) -> bool:
        """Say close_notify, once; whether the kernel took it."""
        if not self.finished:
            self.finished = True
            return self._write(connection, self.unsent + self.engine.goodbye(self.tls))
        return not self.unsent or self._write(connection, self.unsent)

    def released(self) -> None:
        """The connection is gone, or has nothing more to say."""
        self.sealed = self.unsent = b""
        self.budget.release(self)
