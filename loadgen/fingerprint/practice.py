"""What a good server does: the closed list of limits, the range that serves everybody, and the marks.

Owns: each figure's name, meaning, range, reason and precedent, and the one rule that marks a finding. A new figure is a
new row here first. May not: probe anything.

A range has two ends because two people are hurt by a wrong limit: the honest slow user by one that is too tight
(`harsh`), everybody else by one that is too loose (`lenient`) or not there (`missing`).
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, Unit


class Mark(StrEnum):
    """How a finding compares with good practice."""

    GOOD = "good"
    LENIENT = "lenient"  # there is a limit, but it lets an attacker do more than good servers do
    HARSH = "harsh"  # honest slow users are hurt
    MISSING = "missing"  # there is no limit
    UNDECIDED = "undecided"  # no limit was seen, but we did not look as far as good servers go
    NONE = ""  # nothing to mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a server, and what good practice says of it."""

    figure: str
    meaning: str
    unit: Unit
    why: str
    least: float | None = None  # below is `below`
    most: float | None = None  # above is `above`
    below: Mark = Mark.HARSH
    above: Mark = Mark.LENIENT
    absent: Mark = Mark.MISSING
    enough: float | None = None  # how far one must look before "none seen" means anything; by default to `most`
    nothing: float = float("inf")  # what "none seen" counts as in a --fail-if

    @property
    def bounds(self) -> str:
        """The good range in words."""
        if self.unit is Unit.YES_NO:
            return "yes"
        if self.absent is Mark.GOOD:
            return "none"
        least, most = (None if end is None else f"{end:,.0f}" for end in (self.least, self.most))
        unit = f" {self.unit.value}".replace(" %", "%")
        if least and most:
            return f"{least} to {most}{unit}"
        return f"at least {least}{unit}" if least else f"at most {most}{unit}"


def mark(limit: Limit, finding: Finding) -> Mark:
    """Compare a finding with good practice; what may be within the range, given its uncertainty, is."""
    match finding:
        case Found(value=value, uncertainty=doubt):
            slack = doubt if limit.unit is Unit.SECONDS else 0.0
            if limit.least is not None and value + slack < limit.least:
                return limit.below
            if limit.most is not None and value - slack > limit.most:
                return limit.above
            return Mark.GOOD
        case NoneSeen(looked=looked):
            enough = limit.most if limit.enough is None else limit.enough
            return limit.absent if enough is None or looked >= enough else Mark.UNDECIDED
        case NotApplicable() | Failed():
            return Mark.NONE


_ROWS: Final = (
    Limit(
        figure="answers_meanwhile_percent",
        meaning="plain requests answered while all slow probes were open, one a second",
        unit=Unit.PERCENT,
        least=99,
        below=Mark.MISSING,
        why="a few dozen slow clients must not stop a server; one with that many threads or less stops",
    ),
    Limit(
        figure="connections_per_address",
        meaning="connections that one address may hold",
        unit=Unit.CONNECTIONS,
        least=300,
        absent=Mark.LENIENT,
        why="an office of 300 sits behind one address; without a cap one machine can take all places",
    ),
    Limit(
        figure="tls_stall_deadline_s",
        meaning="until half a TLS ClientHello without the rest ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="ranch 5, asyncio and nginx 60; the four flights of a phone 600 ms away fit in any of them",
    ),
    Limit(
        figure="tls_deadline_s",
        meaning="until a TLS ClientHello that comes byte by byte ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="as above, in total: a byte a second must not extend it",
    ),
    Limit(
        figure="first_byte_deadline_s",
        meaning="until a connection that sends nothing is ended",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="cowboy 5, uWS and websockets 10, Apache 20-40, nginx 60; browsers open connections ahead of need",
    ),
    Limit(
        figure="head_stall_deadline_s",
        meaning="until a request head that was begun and not continued ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=30,
        why="cowboy 5, uWS and websockets 10, Apache 20, Kestrel 30, nginx 60",
    ),
    Limit(
        figure="head_deadline_s",
        meaning="until a request head that comes byte by byte ends the connection: a total deadline",
        unit=Unit.SECONDS,
        least=5,
        most=30,
        why="cowboy 5, set once; uWS and websockets 10; Apache 20-40; Kestrel 30. Started anew by each byte it is none",
    ),
    Limit(
        figure="slow_typist_served",
        meaning="whether a person who types a request head in 8 s is answered",
        unit=Unit.YES_NO,
        least=1,
        why="people with telnet, lines that lose touch for seconds",
    ),
    Limit(
        figure="body_stall_deadline_s",
        meaning="until a request body that was begun and not continued ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="Kestrel 5 of grace, uWS 10, Apache 20, nginx 60",
    ),
    Limit(
        figure="body_deadline_s",
        meaning="until a request body that comes at a byte a second ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="Apache 20 and 1 per 500 B, Kestrel 240 B/s after 5; nginx has none, hypercorn and aiohttp neither",
    ),
    Limit(
        figure="chunked_body_deadline_s",
        meaning="the same for a chunked body, a small chunk a second",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="as for a body with a length",
    ),
    Limit(
        figure="continue_deadline_s",
        meaning="until silence after `Expect: 100-continue` ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="as for a body: the server has asked for it, or not, and waits",
    ),
    Limit(
        figure="slow_poster_served",
        meaning="whether a body of 24 KiB at 3 KB/s is taken",
        unit=Unit.YES_NO,
        least=1,
        why="a phone on 2G sends no faster",
    ),
    Limit(
        figure="keepalive_deadline_s",
        meaning="until an idle connection that was answered before is ended",
        unit=Unit.SECONDS,
        least=2,
        most=90,
        why="Apache, node, uvicorn and hypercorn 5, nginx and aiohttp 75, Kestrel 120; a page's next comes in 2",
    ),
    Limit(
        figure="linger_deadline_s",
        meaning="until the server, after its last word, stops reading what we still send",
        unit=Unit.SECONDS,
        most=30,
        why="nginx lingers 5 between reads and 30 in all, Apache 30",
    ),
    Limit(
        figure="poll_hold_s",
        meaning="how long a long-poll that asks for an hour is held",
        unit=Unit.SECONDS,
        least=10,
        most=90,
        why="25-30 is usual and many proxies give up at 60; shorter makes every client ask all the time",
    ),
    Limit(
        figure="slow_read_floor_bps",
        meaning="slowest reader of answers that is not ended",
        unit=Unit.RATE,
        most=1024,
        above=Mark.HARSH,
        enough=60,
        nothing=0,
        why="Kestrel 240 B/s after 5 s; a phone on 2G reads 3 KB/s, and less while it shares the line",
    ),
    Limit(
        figure="never_read_deadline_s",
        meaning="until a client that asks for much and reads nothing is ended",
        unit=Unit.SECONDS,
        least=5,
        most=90,
        why="Kestrel 5, uWS 10, nginx 60; a tunnel or a lift takes the line away for 5 to 25",
    ),
    Limit(
        figure="head_bytes",
        meaning="largest request head, in fields of up to 4 KB",
        unit=Unit.BYTES,
        least=4096,
        most=128 * 1024,
        why="node and h11 16 KiB, Kestrel 32, Tomcat 8; cookies alone reach 4",
    ),
    Limit(
        figure="field_bytes",
        meaning="largest request head with all of it in one field",
        unit=Unit.BYTES,
        least=2048,
        most=128 * 1024,
        why="Apache, websockets and aiohttp 8 KiB a line, http.server 64; one cookie is 4 at most",
    ),
    Limit(
        figure="head_fields",
        meaning="most fields in one request head",
        unit=Unit.FIELDS,
        least=50,
        most=1000,
        why="Kestrel, Apache and http.server 100, websockets and aiohttp 128; browsers send 20",
    ),
    Limit(
        figure="body_bytes",
        meaning="largest request body",
        unit=Unit.BYTES,
        least=4096,
        most=32_000_000,
        why="nginx and aiohttp 1 MiB, Kestrel 30 MB; for a chat 64 KiB are plenty",
    ),
    Limit(
        figure="chunk_overhead_bytes",
        meaning="most bytes of chunk extensions that one request may bring",
        unit=Unit.BYTES,
        most=64 * 1024,
        why="Go 16 KiB since CVE-2023-39326, node 16 KiB a chunk; nobody has a use for any",
    ),
    Limit(
        figure="ws_ping_s",
        meaning="silence on a WebSocket until the server sends a ping",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="websockets 20, Centrifugo and Engine.IO 25; proxies and carriers forget a silent connection after 30-60",
    ),
    Limit(
        figure="ws_pong_deadline_s",
        meaning="from an unanswered ping until the WebSocket is ended",
        unit=Unit.SECONDS,
        least=5,
        most=30,
        why="Centrifugo 8, Engine.IO and websockets 20",
    ),
    Limit(
        figure="ws_idle_deadline_s",
        meaning="until a silent WebSocket that answers every ping is ended all the same",
        unit=Unit.SECONDS,
        least=3600,
        absent=Mark.GOOD,
        enough=60,
        why="a background tab says nothing for hours and is no attacker",
    ),
    Limit(
        figure="ws_frame_stall_deadline_s",
        meaning="until a WebSocket frame that was begun and not continued ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="only few servers have one of its own; an unanswered ping ends the others after 40",
    ),
    Limit(
        figure="ws_frame_deadline_s",
        meaning="the same for one that comes at a byte a second",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="16 KiB at 1 KB/s take 16; a frame that never ends must",
    ),
    Limit(
        figure="ws_message_deadline_s",
        meaning="until a fragmented message that never ends, with pings in between, ends the connection",
        unit=Unit.SECONDS,
        least=5,
        most=60,
        why="as for a frame; a ping is no progress",
    ),
    Limit(
        figure="ws_close_deadline_s",
        meaning="from the server's close frame until it ends a connection that does not answer it",
        unit=Unit.SECONDS,
        most=15,
        why="websockets, aiohttp and trio-websocket 10; nobody waits for what comes after goodbye",
    ),
    Limit(
        figure="ws_goodbye_deadline_s",
        meaning="from our close frame until the server ends the connection, which RFC 6455 leaves to it",
        unit=Unit.SECONDS,
        most=15,
        why="RFC 6455 section 7.1.1: the server closes first, and at once",
    ),
    Limit(
        figure="ws_message_bytes",
        meaning="largest WebSocket message, in one frame",
        unit=Unit.BYTES,
        least=4096,
        most=4 * 1024 * 1024,
        why="Centrifugo 64 KiB, websockets and trio-websocket 1 MiB, aiohttp 4, uvicorn 16, node ws 100",
    ),
    Limit(
        figure="ws_fragments",
        meaning="most fragments of one WebSocket message, empty ones included",
        unit=Unit.FRAGMENTS,
        least=8,
        most=4096,
        why="websockets 4,096; trio-websocket kept 200,001 empty ones",
    ),
)

LIMITS: Final = MappingProxyType({limit.figure: limit for limit in _ROWS})

COUNTS: Final = MappingProxyType(
    {
        "limits_good": "limits within good practice",
        "limits_lenient": "limits that let an attacker do more than good servers do",
        "limits_harsh": "limits that hurt honest slow users",
        "limits_missing": "limits that are not there",
        "limits_undecided": "limits not seen as far as we looked, which was not far enough",
        "probes_failed": "probes that came to no end",
    }
)

#: What --fail-if understands, and what each figure means.
FIGURES: Final = MappingProxyType({**{limit.figure: limit.meaning for limit in _ROWS}, **COUNTS})
