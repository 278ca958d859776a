"""Bytes as they are: the transport of a peer without TLS, and what every transport can do.

Owns: writing to a bare descriptor. May not: close, judge, keep.
"""

import os

from chatserver.net.connection import Backlog, Connection

#: Chunks written in one call: a page of messages has a hundred, with its commas.
FLUSH_CHUNKS = 128
_write = os.write


class PlainTransport:
    """See the module; one for all."""

    unsent = b""  # sealed bytes that the kernel did not take: they go before anything else

    def offer(self, connection: Connection, data: bytes) -> int:
        """Write what the kernel takes now: how many of these bytes are on their way.

        Raises BlockingIOError when it takes nothing, OSError when the peer is gone, TransportError.
        """
        return _write(connection.descriptor, data)

    def flush(self, connection: Connection, backlog: Backlog) -> bool:
        """Write what is kept, many chunks in one call; whether all of it is on its way. Raises the same."""
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
        """The plaintext in what came. Raises TransportError, and OSError for what it has to answer itself."""
        return data

    def lacking(self, connection: Connection) -> int:
        """Bytes that a sealed record has announced and not brought."""
        return 0

    def finish(self, connection: Connection) -> bool:
        """Say goodbye, if the protocol has a word for it; whether the kernel took it. Raises OSError."""
        return True

    def released(self) -> None:
        """Nothing more is sealed or opened."""


PLAIN = PlainTransport()
