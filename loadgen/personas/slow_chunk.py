"""A body that is nearly all wrapping."""

from typing import Final

from loadgen.personas import persona
from loadgen.personas._drip import Dripper
from loadgen.personas._posting import post_head

#: Each second. More than the byte rates that are asked for where one is (Apache 500 B/s, Kestrel 240 B/s), while the
#: body itself grows by a byte; below the 16 KiB for extensions at which llhttp stops.
EXTENSION_BYTES: Final = 1000

_CHUNK: Final = b"1;e=%s\r\nx\r\n" % (b"e" * EXTENSION_BYTES)


@persona
class SlowChunk(Dripper):
    """Posts a body in one-byte chunks, one a second, each with a kilobyte of chunk extension.

    Go (CVE-2023-39326), hyper, picohttpparser and waitress each had to bound what a chunk may carry beside its data: a
    size limit on the body counts the one byte only, and a rate limit on the wire is content with the thousand.
    """

    __slots__ = ()

    name = "slow-chunk"

    def opening(self) -> bytes:
        """Send a whole head."""
        return post_head(self.cohort.place, self.room, "Transfer-Encoding: chunked")

    def drop(self, number: int) -> bytes:
        """Return a chunk."""
        return _CHUNK
