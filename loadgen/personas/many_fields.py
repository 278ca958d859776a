"""Thousands of header fields, each one small."""

from typing import Final

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._flood import Flooder

#: Past every default: Apache, Kestrel and Tomcat 100, Node 2,000. In 7 bytes each, so that many of them come before a
#: limit on the head's bytes: a table of fields costs 100 bytes for each of these.
FIELDS: Final = 20_000
_FIELDS_IN_BLOCK: Final = 2000

_BLOCK: Final = b"".join(b"%x: %x\r\n" % (number % 256, number % 16) for number in range(_FIELDS_IN_BLOCK))


@persona
class ManyFields(Flooder):
    """Sends a request head of 20,000 tiny fields, then waits for what is said to it.

    Every field costs a server ten times its bytes once it is an entry in a table; names that repeat are joined, which
    is quadratic where it is done naively. 431 should come when the limit is passed.
    """

    __slots__ = ()

    name = "many-fields"
    most_bytes = len(_BLOCK) * FIELDS // _FIELDS_IN_BLOCK

    def opening(self) -> bytes:
        """Begin a head."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)[:-2]

    def block(self) -> bytes:
        """Return more fields."""
        return _BLOCK
