"""The target as the probes see it: where to dial, what it serves, how much patience is left.

Owns: the options of a fingerprint, the needs that a probe may have of a server, and how sure a measured time is.
"""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from loadgen import wire
from loadgen.fingerprint.exchange import Answer, exchange
from loadgen.fingerprint.findings import Finding
from loadgen.fingerprint.line import Line, dial
from loadgen.target import PER_SOURCE, Target

#: Looking around takes two or three; a server that makes it take longer must not make the whole last for ever.
LOOK_AROUND_SECONDS: Final = 5.0

#: A plain request, or one step of a search, that takes longer has no answer.
ANSWER_SECONDS: Final = 5.0

#: How often our own lateness is looked at; a stall that begins and ends between two looks is not seen.
LAG_EVERY_SECONDS: Final = 0.05

#: Stands for the seconds in the path of a long-poll.
WAIT: Final = "{wait}"

#: A body that no server takes for a message of a chat, at any size: an answer, but no entry in a log.
BODY_TYPE: Final = "Content-Type: application/json"
BODY_BEGIN: Final = b"{"

#: Source addresses in turn: more than there are probes, so that a cap per address meets only the probe of it.
_SOURCES: Final = 200

_NO_FLAG: Final = Parameter(parse=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What a fingerprint is told. The paths are by default those of the chat contract."""

    # long enough for nginx's and aiohttp's 75 s and node's 89, short enough for two minutes in all
    within: Annotated[float, Parameter(help="Patience of each probe in seconds: a deadline beyond it is not seen.")] = (
        105.0
    )
    path: Annotated[str, Parameter(help="A page for plain requests.")] = "/"
    read_path: Annotated[
        str | None, Parameter(help="What the slow readers ask for; by default --path, many times over.")
    ] = None
    post_path: Annotated[str, Parameter(help="Where the server takes a body; if it is not there, --path.")] = (
        "/rooms/fingerprint/messages"
    )
    poll_path: Annotated[str, Parameter(help=f"Where a request is held for {WAIT} seconds if there is no news.")] = (
        f"/rooms/fingerprint-quiet/messages?wait={WAIT}"
    )
    ws_path: Annotated[str, Parameter(help="Where the server speaks WebSocket.")] = "/ws"
    # twice an office; more could take all descriptors of a small server
    connections: Annotated[
        int, Parameter(help="Connections to open from one address, to find its cap; 0 leaves that alone.")
    ] = 600
    # between two drips, two looks at a slow reader and two plain requests
    pace: Annotated[float, _NO_FLAG] = 1.0
    # a server that has not begun to answer by then is waiting for something
    prompt: Annotated[float, _NO_FLAG] = 1.0
    # bytes a second of the slow readers: none; on both sides of the floors in use (240, 256), since a reader at
    # a floor's own rate lives or dies by the size of its segments; a phone's on 2G
    read_rates: Annotated[tuple[int, ...], _NO_FLAG] = (0, 50, 100, 200, 300, 600, 1000, 3072)


class Need(Enum):
    NOTHING = "nothing"
    HTTP = "an answer to a plain request"
    KEEPALIVE = "a connection kept for another request"
    BODY = "a path where a body is waited for"
    WEBSOCKET = "a WebSocket"
    TLS = "TLS"
    CROWD = "many connections"


class Site:
    def __init__(self, target: Target, options: Options) -> None:
        self.target = target
        self.options = options
        self.lacks: dict[Need, Finding] = {}  # what is found where that is needed
        self.notes: list[str] = []
        self.plain_status = 0  # what it answers to a request that it takes, ...
        self.plain_path = (
            options.path
        )  # ... which is one for this, with these fields: an upgrade's if it takes no other
        self.plain_fields: tuple[str, ...] = ()
        self.body_path = "/"
        self.begun = trio.current_time()
        self.until = self.begun + options.within  # until the probes begin, from when on they have as much
        self.worst_lag = 0.0  # how late our own schedule ran at worst, so far
        self._dialled = 0

    def begin(self) -> None:
        """Start the clock of the probes. What looking around took too long is taken off their time."""
        self.until = min(trio.current_time(), self.begun + LOOK_AROUND_SECONDS) + self.options.within

    def dial(
        self, *, source: str | None = None, plaintext: bool = False, options: Iterable[tuple[int, int, int]] = ()
    ) -> AbstractAsyncContextManager[Line]:
        """Connect, each time from another address where there are many."""
        self._dialled += 1
        source = source or self.target.source(self._dialled % _SOURCES * PER_SOURCE)
        return dial(self.target, source=source, plaintext=plaintext, options=options)

    @property
    def lonely_source(self) -> str | None:
        """An address that no `dial` comes from by itself."""
        return self.target.source(_SOURCES * PER_SOURCE)

    def get(self, path: str, *fields: str) -> bytes:
        return wire.request("GET", path, self.target.authority, *fields)

    def plain_request(self, *more: str) -> bytes:
        """The request that this server is known to answer, with more fields."""
        return self.get(self.plain_path, *self.plain_fields, *more)

    def post(self, *fields: str, path: str = "") -> bytes:
        """The head of a request where a body is waited for."""
        return wire.request("POST", path or self.body_path, self.target.authority, BODY_TYPE, *fields)

    async def ask(self, *pieces: bytes, pause: float = 0.0) -> Answer:
        with trio.fail_after(ANSWER_SECONDS + pause * len(pieces)):
            async with self.dial() as line:
                return await exchange(line, pieces, pause=pause)

    def doubt(self, line: Line) -> float:
        """How far a measured time may be off: a round trip, how late we ran, and how often we look at that."""
        return line.round_trip_seconds + self.worst_lag + LAG_EVERY_SECONDS
