"""A body that does not fit."""

from typing import Final

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._flood import BLOCK_BYTES, Flooder

#: Past every sensible default for text: nginx 1 MiB, Kestrel 28.6 MiB. aiohttp 1 MiB, uvicorn and Apache none.
BODY_BYTES: Final = 1 << 30

#: Who takes this much is shown to take it, and 300 attackers with it are 2.4 GB through the server.
SENT_BYTES: Final = 8 * 1024 * 1024

_PLAIN: Final = b"x" * BLOCK_BYTES
_CHUNK: Final = b"%x\r\n%s\r\n" % (BLOCK_BYTES, _PLAIN)


@persona
class BigBody(Flooder):
    """Posts a body of a gigabyte, half of them with the length announced and half in chunks.

    With a length, 413 should come before the body; in chunks, when the limit is passed. It stops after 8 MiB and waits:
    a server that gathered those in memory shows it.
    """

    __slots__ = ()

    name = "big-body"
    most_bytes = SENT_BYTES

    def opening(self) -> bytes:
        """Send the head."""
        place = self.cohort.place
        framing = "Transfer-Encoding: chunked" if self._chunked else f"Content-Length: {BODY_BYTES}"
        return wire.request(
            "POST", place.post_path.format(room=self.room), place.host, "Content-Type: text/plain", framing
        )

    @property
    def _chunked(self) -> bool:
        return self.number % 2 == 1

    def block(self) -> bytes:
        """Return more of the body."""
        return _CHUNK if self._chunked else _PLAIN
