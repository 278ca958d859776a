"""Deadlines of the TLS handshake: half a ClientHello, and one that comes byte by byte."""

import ssl
from typing import Final

import trio

from loadgen.fingerprint.findings import Finding
from loadgen.fingerprint.line import EndedError, Line
from loadgen.fingerprint.probes.deadlines import elapsed
from loadgen.fingerprint.site import Site
from loadgen.fingerprint.watch import Sign, dripping, until_moved_on
from loadgen.target import client_context

_ALERT: Final = b"\x15\x03"  # a record's type, and the version's first byte


async def hello_stalled(site: Site) -> Finding:
    """Send half, and wait."""
    hello = client_hello(site)
    return await _begin(site, hello[: len(hello) // 2], b"")


async def hello_dripped(site: Site) -> Finding:
    """Send a byte a second; all but the last, should there be time for that many."""
    hello = client_hello(site)
    return await _begin(site, hello[:1], hello[1:-1])


async def _begin(site: Site, opening: bytes, rest: bytes) -> Finding:
    async with site.dial(plaintext=True) as line:
        begun = trio.current_time()
        await line.send(opening)
        async with dripping(line, (bytes((byte,)) for byte in rest), site.options.pace):
            sign = await alert_or_end(line, site.until)
        return elapsed(site, line, begun, sign)


async def alert_or_end(line: Line, until: float) -> Sign | None:
    """Wait for what a server says before there is TLS, or for the end without it."""

    async def listen() -> Sign:
        try:
            said = await line.receive()
            how = "a TLS alert" if said.startswith(_ALERT) else "bytes that are no TLS"
        except EndedError as error:
            how = error.ending
        return Sign(at=trio.current_time(), how=how)

    return await until_moved_on(listen, line, until)


def client_hello(site: Site) -> bytes:
    """What OpenSSL says first."""
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = client_context().wrap_bio(heard, said, server_hostname=site.target.host)
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        return said.read()
    raise AssertionError("a handshake needs an answer")
