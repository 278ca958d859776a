"""One header field of 256 KiB."""

from typing import Final

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._flood import BLOCK_BYTES, Flooder

#: Past every default: nginx and Kestrel 32 KiB in all, h11, Node and IIS 16, Apache and tomcat 8 KiB a line.
HEAD_BYTES: Final = 256 * 1024

_BLOCK: Final = b"x" * BLOCK_BYTES


@persona
class BigHead(Flooder):
    """Sends a request head of 256 KiB in one field, then waits for what is said to it.

    431 (or 400, 414) should come at once, when the limit is passed: not after all of it was gathered, and not only at a
    deadline. A server that answers by closing loses the answer if the rest is still unread.
    """

    __slots__ = ()

    name = "big-head"
    most_bytes = HEAD_BYTES

    def opening(self) -> bytes:
        """Begin the field."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host, "X-Big: ")[:-4]

    def block(self) -> bytes:
        """Return more of the field."""
        return _BLOCK
