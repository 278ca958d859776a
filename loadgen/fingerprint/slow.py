"""Clients that begin something and make the server wait for the rest.

Owns: the one way in which every deadline is measured. A client's clock starts with the last thing that a well-behaved
client would have done, and runs until an answer, a close frame, FIN or RST comes, or its patience ends. Events of the
next second are recorded too, so that a 408 before the FIN is distinguished from a silent close. An end because of size,
or one that comes at once, is not a deadline.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle, islice
from typing import Final

import trio

from loadgen.answers import Exchange, GarbledError
from loadgen.client import TURNED_AWAY
from loadgen.fingerprint.exchange import exchange, tried, while_sending
from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, longest
from loadgen.fingerprint.site import ANSWER_SECONDS, PROMPT_SECONDS, Site
from loadgen.line import EndedError, Ending, Line

#: Events this soon after the first sign belong to it: an answer and its FIN are often two segments.
MOMENT_SECONDS: Final = 1.0

OPEN: Final = "left open"

#: Answers to something too large, or with too many lines: not a deadline, however long it took.
_TOO_LARGE: Final = ("400", "413", "414", "431", "close 1009")

#: The start of a TLS alert: the record type, and the first byte of the version.
_ALERT: Final = b"\x15\x03"

_TURNED_AWAY: Final = tuple(str(status) for status in TURNED_AWAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """The first event with which the server ends its wait."""

    at: float
    how: str

    @property
    def turned_away(self) -> bool:
        """Whether it is the answer of a server without capacity."""
        return self.how.startswith(_TURNED_AWAY)


class Client:
    """A connection on which a script runs; this class is for HTTP."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def listen(self) -> str:
        """Wait for the head of an answer and describe it."""
        answer = await Exchange(self.line).begin()
        return " after ".join(map(str, (answer.status, *answer.hints)))

    @property
    def before(self) -> str:
        """Describe what had come before the first sign."""
        return ""


class TlsClient(Client):
    """A connection to a TLS server before the TLS handshake."""

    async def listen(self) -> str:
        """Wait for bytes from the server and describe them."""
        return "a TLS alert" if (await self.line.receive()).startswith(_ALERT) else "bytes that are no TLS"


@asynccontextmanager
async def http(site: Site) -> AsyncIterator[Client]:
    async with site.dial() as line:
        yield Client(line)


@asynccontextmanager
async def kept(site: Site) -> AsyncIterator[Client]:
    async with http(site) as client:
        with trio.fail_after(ANSWER_SECONDS):
            await exchange(client.line, [site.plain_request()])
        yield client


@asynccontextmanager
async def tls(site: Site) -> AsyncIterator[TlsClient]:
    """Connect for a script that sends its own ClientHello."""
    async with site.dial(plaintext=True) as line:
        yield TlsClient(line)


async def first_sign(client: Client, until: float) -> Sign | None:
    """Listen until the first sign comes or patience ends, and then a moment longer."""
    how, at = "", 0.0
    with trio.move_on_at(until):
        try:
            how = await client.listen()
        except (EndedError, GarbledError) as error:
            how = str(error)
        at = trio.current_time()
    if not how:
        return None
    follows = "" if how in set(Ending) else f", {await ending_of(client.line, MOMENT_SECONDS)}"
    return Sign(at=at, how=how + follows + client.before)


async def ending_of(line: Line, seconds: float) -> str:
    """Discard data and return how the connection ends, or `OPEN` if it does not within so many seconds."""
    with trio.move_on_after(seconds):
        try:
            while True:
                await line.receive()
        except EndedError as error:
            return error.ending
    return OPEN


def elapsed(site: Site, line: Line, begun: float, sign: Sign | None) -> Found | NoneSeen:
    if sign is None:
        return NoneSeen(looked=max(site.until - begun, 0.0))
    return Found(value=sign.at - begun, uncertainty=site.doubt(line), how=sign.how)


#: The bytes to send first, and the pieces to send after it, one each pace.
Script = tuple[bytes, Iterable[bytes]]


def script(begin: Callable[[Site], bytes] | bytes, *pieces: bytes, most: int | None = None) -> Callable[[Site], Script]:
    """Send `begin`, then these pieces in turn, `most` at most, so that the request is never complete."""

    def write(site: Site) -> Script:
        return begin if isinstance(begin, bytes) else begin(site), islice(cycle(pieces), most) if pieces else ()

    return write


@dataclass(frozen=True)
class Slow:
    """Concurrent clients, each of which makes the server wait in a different way."""

    connect: Callable[[Site], AbstractAsyncContextManager[Client]]
    ways: Mapping[str, Callable[[Site], Script]]
    fast: str = ""  # the way that is fast enough for a minimum rate
    at_once: str = "refused at once"  # the remark on an end that comes at once, which is no deadline; "" if it is one

    async def __call__(self, site: Site) -> Finding:
        """Find the longest that the server waits for any of the clients."""
        findings: dict[str, Finding] = dict.fromkeys(self.ways, Failed(why="not begun"))

        async def go(name: str) -> None:
            findings[name] = await tried(partial(self._go, site, *self.ways[name](site)))

        async with trio.open_nursery() as nursery:
            for name in self.ways:
                nursery.start_soon(go, name)
        return longest(findings, self.fast)

    async def _go(self, site: Site, opening: bytes, pieces: Iterable[bytes]) -> Finding:
        async with self.connect(site) as client:
            begun = trio.current_time()
            listen = partial(first_sign, client, site.until)
            sign = await while_sending(client.line, chain([opening], pieces), listen, site.options.pace)
            finding = elapsed(site, client.line, begun, sign)
        if sign is None or not isinstance(finding, Found):
            return finding
        at_once = finding.value < PROMPT_SECONDS
        if at_once and (sign.turned_away or (opening and sign.how in set(Ending))):
            return Failed(why=f"turned away at once: {sign.how}")
        if at_once and self.at_once:
            return NotApplicable(why=f"{self.at_once}: {sign.how}")
        if pieces and sign.how.startswith(_TOO_LARGE):
            return NoneSeen(looked=finding.value, how=f"refused as too large: {sign.how}")
        return finding
