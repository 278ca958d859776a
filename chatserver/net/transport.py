"""The transport of a peer without TLS, which also defines the methods of every transport.

Owns: writing to a bare descriptor. May not: close, judge, keep.
"""

import os

from chatserver.net.connection import Backlog, Connection

#: Chunks written in one call: a page of messages has a hundred, with its commas.
FLUSH_CHUNKS = 128
_write = os.write


class PlainTransport:
    """See the module; one for all."""

    unsent = b""  # encrypted bytes that the kernel did not take: they are sent before anything else

    def offer(self, connection: Connection, data: bytes) -> int:
        """Write what the kernel takes now. Returns how many of these bytes need not be offered again.

        Raises BlockingIOError when it takes nothing, OSError when the peer is gone, TransportError.
        """
        return _write(connection.descriptor, data)

    def flush(self, connection: Connection, backlog: Backlog) -> bool:
        """Write the kept chunks, many in one call. Returns whether all are written. Raises as `offer` does."""
        chunks = backlog.chunks
        while chunks:
            batch: list[bytes | memoryview] = [memoryview(chunks[0])[backlog.position :], *chunks[1:FLUSH_CHUNKS]]
            taken = os.writev(connection.descriptor, batch)
            backlog.written += taken
            if advance(backlog, taken) < len(batch):
                return False
        return True

    def open(self, connection: Connection, data: bytes) -> bytes:
        """The plaintext of received bytes. Raises TransportError, and OSError if a reply of its own cannot be sent."""
        return data

    def lacking(self) -> int:
        """Bytes of an incomplete TLS record that have not arrived."""
        return 0

    def finish(self, connection: Connection) -> bool:
        """Send the protocol's goodbye, if it has one. Returns whether the kernel took it. Raises OSError."""
        return True

    def released(self) -> None:
        """Free what is kept; nothing more is encrypted or decrypted."""


def advance(backlog: Backlog, size: int) -> int:
    """Drop the first bytes that are kept. Returns how many chunks that ended."""
    chunks, whole = backlog.chunks, 0
    backlog.position += size
    while whole < len(chunks) and backlog.position >= len(chunks[whole]):
        backlog.position -= len(chunks[whole])
        whole += 1
    del chunks[:whole]
    return whole


PLAIN = PlainTransport()
