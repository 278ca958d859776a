"""Deadlines of the TLS handshake: half a ClientHello, and one that comes byte by byte or record by record."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from loadgen.fingerprint.line import Line
from loadgen.fingerprint.practice import Probe
from loadgen.fingerprint.site import Need, Site
from loadgen.fingerprint.slow import Script, Slow
from loadgen.personas._tls13 import client_hello

_ALERT: Final = b"\x15\x03"  # a record's type, and the version's first byte

#: Type, version and length of a record (RFC 8446 section 5.1).
_RECORD_HEAD_BYTES: Final = 5


class TlsClient:
    """A connection to a TLS server on which there is no TLS yet."""

    before = ""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def listen(self) -> str:
        """Wait for what a server says before there is TLS."""
        return "a TLS alert" if (await self.line.receive()).startswith(_ALERT) else "bytes that are no TLS"


@asynccontextmanager
async def tls(site: Site) -> AsyncIterator[TlsClient]:
    """A connection for a ClientHello that a script sends."""
    async with site.dial(plaintext=True) as line:
        yield TlsClient(line)


def _half(site: Site) -> Script:
    hello = client_hello(site.target.host)
    return hello[: len(hello) // 2], ()


def _in_pieces(cut: Callable[[bytes], list[bytes]]) -> Callable[[Site], Script]:
    def script(site: Site) -> Script:
        first, *rest = cut(client_hello(site.target.host))
        return first, rest[:-1]  # the last never comes, should there be time for that many

    return script


def in_bytes(hello: bytes) -> list[bytes]:
    """The message byte by byte."""
    return [bytes((byte,)) for byte in hello]


def in_records(hello: bytes) -> list[bytes]:
    """The same message in records of a byte each."""
    kind_and_version = hello[:3]
    return [kind_and_version + b"\0\1" + byte for byte in in_bytes(hello[_RECORD_HEAD_BYTES:])]


PROBES: Final = (
    Probe(
        name="TLS hello, stalled",
        figure="tls_stall_deadline_s",
        meaning="until half a TLS ClientHello without the rest ends the connection",
        why="ranch 5, asyncio and nginx 60; the four flights of a phone 600 ms away fit in any of them",
        good=(5, 60),
        need=Need.TLS,
        play=Slow(tls, {"stalled": _half}),
    ),
    Probe(
        name="TLS hello, slowly",
        figure="tls_deadline_s",
        meaning="until a TLS ClientHello that comes by a byte or a record a second ends the connection",
        why="as above, in total: a byte a second must not extend it",
        good=(5, 60),
        need=Need.TLS,
        play=Slow(
            tls,
            {"stalled": _half, "a byte a second": _in_pieces(in_bytes), "a record a second": _in_pieces(in_records)},
        ),
    ),
)
