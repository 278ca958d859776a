"""Slowloris below HTTP."""

import ssl
from contextlib import suppress
from functools import cache
from typing import Final

from loadgen.personas import persona
from loadgen.personas._drip import Dripper

#: A plain port refuses it at its first byte: 8,000 who came back each second would be a flood, which is another attack.
RETURNS_SECONDS: Final = 10.0


@persona
class SlowTls(Dripper):
    """Sends a TLS ClientHello, a byte a second or every other client all of it at once, then nothing.

    The handshake comes before everything that HTTP servers time, and asyncio gives it 60 s, Node 120 s. On a plain port
    it is a head that is no HTTP from its first byte on. (Who ends the handshake and then says nothing is idle-connect.)
    """

    __slots__ = ()

    name = "slow-tls"
    below_tls = True
    returns_seconds = RETURNS_SECONDS

    def opening(self) -> bytes:
        """Send the first byte, or all: a server has its work with a whole one, and keeps what it has worked out."""
        return _hello() if self.index % 2 else _hello()[:1]

    def drop(self, number: int) -> bytes:
        """Return one byte; after the last, nothing."""
        return b"" if self.index % 2 else _hello()[number + 1 : number + 2]


@cache
def _hello() -> bytes:
    """Have OpenSSL say what a browser would."""
    said = ssl.MemoryBIO()
    handshake = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return said.read()
