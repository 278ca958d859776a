"""Bytes as they are: the transport of everybody who does not speak TLS.

Owns: writing to a bare descriptor. May not: close, judge, keep.
"""

import os

from chatserver.net.connection import Backlog, Connection

#: Chunks written in one call: a page of messages has a hundred, with its commas.
FLUSH_CHUNKS = 128
_write = os.write


class PlainTransport:
    """See the module; one for all."""

    unsent = b""

    def offer(self, connection: Connection, data: bytes) -> int:
        """Write what the kernel takes now."""
        return _write(connection.descriptor, data)

    def flush(self, connection: Connection, backlog: Backlog) -> bool:
        """Write what is kept, many chunks in one call."""
        chunks = backlog.chunks
        while chunks:
            batch: list[bytes | memoryview] = [memoryview(chunks[0])[backlog.position :], *chunks[1:FLUSH_CHUNKS]]
            taken = os.writev(connection.descriptor, batch)
            backlog.written += taken
            backlog.position += taken
            whole = 0
            while whole < len(chunks) and backlog.position >= len(chunks[whole]):
                backlog.position -= len(chunks[whole])
                whole += 1
            del chunks[:whole]
            if whole < len(batch):
                return False
        return True

    def open(self, connection: Connection, data: bytes) -> bytes:
        """They are what they are."""
        return data

    def lacking(self, connection: Connection) -> int:
        """Nothing is ever announced."""
        return 0

    def finish(self, connection: Connection) -> bool:
        """FIN says it all."""
        return True

    def released(self) -> None:
        """It keeps nothing."""


PLAIN = PlainTransport()
