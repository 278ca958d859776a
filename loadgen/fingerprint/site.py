"""The target as the probes see it: where to dial, what it serves, how much patience is left.

Owns: the options of a fingerprint, the needs that a probe may have of a server, and how sure a measured time is.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

import trio

from loadgen.fingerprint.exchange import Exchange, Field
from loadgen.fingerprint.line import Line, dial
from loadgen.target import PER_SOURCE, Target, client_context

#: Patience. Long enough for nginx's and aiohttp's 75 s and node's 89, short enough for two minutes in all.
WITHIN_SECONDS: Final = 105.0

#: Looking around takes two or three; a server that makes it take longer must not make the whole last for ever.
LOOK_AROUND_SECONDS: Final = 10.0

#: Between two drips, two looks at a slow reader and two plain requests.
PACE_SECONDS: Final = 1.0

#: A server that has not begun to answer by then is waiting for something.
PROMPT_SECONDS: Final = 1.0

#: A plain request, or one step of a search, that takes longer has no answer.
ANSWER_SECONDS: Final = 5.0

#: Connections opened from one address: twice an office. More could take all descriptors of a small server.
CONNECTIONS: Final = 600

#: The rates of the slow readers, in bytes a second: not at all; on both sides of the floors in use (240, 256), since
#: one that reads at a floor's own rate lives or dies by the size of its segments; a phone's on 2G.
READ_RATES: Final = (0, 50, 100, 200, 300, 600, 1000, 3072)

#: Where the chat contract has what we look for.
PATH: Final = "/"
POST_PATH: Final = "/rooms/fingerprint/messages"
POLL_PATH: Final = "/rooms/fingerprint-quiet/messages?wait={wait}"
WEBSOCKET_PATH: Final = "/ws"

#: Stands for the seconds in the path of a long-poll.
WAIT: Final = "{wait}"

#: Source addresses in turn: more than there are probes, so that a cap per address meets only the probe of it.
_SOURCES: Final = 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a fingerprint is told."""

    within: float = WITHIN_SECONDS
    pace: float = PACE_SECONDS
    prompt: float = PROMPT_SECONDS
    path: str = PATH
    read_path: str | None = None  # of a large answer; by default `path`
    post_path: str = POST_PATH
    poll_path: str = POLL_PATH
    websocket_path: str = WEBSOCKET_PATH
    connections: int = CONNECTIONS  # 0: leave it alone
    read_rates: tuple[int, ...] = READ_RATES
    arguments: str = ""


class Need(Enum):
    """What a probe needs a server to serve."""

    NOTHING = "nothing"
    HTTP = "an answer to a plain request"
    KEEPALIVE = "a connection kept for another request"
    BODY = "a path where a body is waited for"
    WEBSOCKET = "a WebSocket"
    TLS = "TLS"
    CROWD = "many connections"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the server turned out to serve."""

    lacks: Mapping[Need, str] = field(default_factory=lambda: MappingProxyType({}))  # with the reason
    plain_status: int = 0  # what it answers to a request that it takes
    plain_path: str = PATH  # of that request
    plain_fields: tuple[Field, ...] = ()  # its fields: an upgrade's where that is all it takes
    body_path: str = PATH
    notes: tuple[str, ...] = ()


class Site:
    """One server under probe."""

    def __init__(self, target: Target, options: Options) -> None:
        self.target = target
        self.options = options
        self.survey = Survey()
        self.begun = trio.current_time()
        self.until = self.begun + options.within  # until the probes begin, from when on they have as much
        self.worst_lag = 0.0  # how late our own schedule ran at worst, so far
        self._dialled = 0

    def begin(self) -> None:
        """Start the clock of the probes. What looking around took too long is taken off their time."""
        self.until = min(trio.current_time(), self.begun + LOOK_AROUND_SECONDS) + self.options.within

    @asynccontextmanager
    async def dial(
        self,
        *,
        source: str | None = None,
        plaintext: bool = False,
        receive_buffer_bytes: int = 0,
        segment_bytes: int = 0,
    ) -> AsyncIterator[Line]:
        """Connect, each time from another address where there are many."""
        self._dialled += 1
        async with dial(
            self.target.address,
            self.target.port,
            family=self.target.family,
            source=source or self.target.source(self._dialled % _SOURCES * PER_SOURCE),
            tls=client_context() if self.target.tls and not plaintext else None,
            host=self.target.host,
            receive_buffer_bytes=receive_buffer_bytes,
            segment_bytes=segment_bytes,
        ) as line:
            yield line

    @property
    def lonely_source(self) -> str | None:
        """An address that no `dial` comes from by itself."""
        return self.target.source(_SOURCES * PER_SOURCE)

    def exchange(self) -> Exchange:
        """A request to this server, not yet written."""
        return Exchange(self.target.authority)

    def plain_request(self, talk: Exchange, more: tuple[Field, ...] = ()) -> bytes:
        """The request that this server is known to answer, with more fields."""
        return talk.request("GET", self.survey.plain_path, [*self.survey.plain_fields, *more])

    def doubt(self, line: Line) -> float:
        """How far a measured time may be off: a round trip, how late we ran, and how often we look at that."""
        return line.round_trip_seconds + self.worst_lag + LAG_EVERY_SECONDS


#: How often our own lateness is looked at; a stall that begins and ends between two looks is not seen.
LAG_EVERY_SECONDS: Final = 0.05
