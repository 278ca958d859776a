"""The table of probes: what each measures, what it needs of a server, and the function that plays it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from loadgen.fingerprint.findings import Finding
from loadgen.fingerprint.probes import crowd, deadlines, honest, reading, secure, sizes, websockets
from loadgen.fingerprint.site import Need, Site

Play = Callable[[Site], Awaitable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe: a name for people, the figure it finds."""

    name: str
    figure: str
    need: Need
    play: Play


def _probe(name: str, figure: str, need: Need, play: Play) -> Probe:
    return Probe(name=name, figure=figure, need=need, play=play)


_stalled, _dripped = deadlines.stalled, deadlines.dripped

#: Played before the others, alone.
FIRST: Final = (_probe("connections from one address", "connections_per_address", Need.CROWD, crowd.per_address),)

#: Played all at once. Probes of a stall stand before their twins that drip.
ALONGSIDE: Final = (
    _probe("TLS hello, stalled", "tls_stall_deadline_s", Need.TLS, secure.hello_stalled),
    _probe("TLS hello, a byte a second", "tls_deadline_s", Need.TLS, secure.hello_dripped),
    _probe("connected, silent", "first_byte_deadline_s", Need.NOTHING, partial(_stalled, opening=deadlines.nothing)),
    _probe("head, stalled", "head_stall_deadline_s", Need.HTTP, partial(_stalled, opening=deadlines.head)),
    _probe(
        "head, a byte a second", "head_deadline_s", Need.HTTP, partial(_dripped, opening=deadlines.head, piece=b"a")
    ),
    _probe("head, typed in 8 s", "slow_typist_served", Need.HTTP, honest.typist),
    _probe("body, stalled", "body_stall_deadline_s", Need.BODY, partial(_stalled, opening=deadlines.body)),
    _probe(
        "body, a byte a second", "body_deadline_s", Need.BODY, partial(_dripped, opening=deadlines.body, piece=b" ")
    ),
    _probe(
        "body, a chunk a second",
        "chunked_body_deadline_s",
        Need.BODY,
        partial(_dripped, opening=deadlines.chunked_body, piece=deadlines.CHUNK),
    ),
    _probe(
        "Expect: 100-continue, silent",
        "continue_deadline_s",
        Need.BODY,
        partial(_stalled, opening=deadlines.expectation),
    ),
    _probe("body at 3 KB/s", "slow_poster_served", Need.BODY, honest.poster),
    _probe("keep-alive", "keepalive_deadline_s", Need.KEEPALIVE, deadlines.keepalive),
    _probe("after the last word", "linger_deadline_s", Need.HTTP, deadlines.linger),
    _probe("long-poll", "poll_hold_s", Need.HTTP, deadlines.held_poll),
    _probe("slow readers", "slow_read_floor_bps", Need.HTTP, reading.floor),
    _probe("never reads", "never_read_deadline_s", Need.HTTP, reading.never),
    _probe("head size", "head_bytes", Need.HTTP, sizes.head_bytes),
    _probe("field size", "field_bytes", Need.HTTP, sizes.field_bytes),
    _probe("fields", "head_fields", Need.HTTP, sizes.head_fields),
    _probe("body size", "body_bytes", Need.BODY, sizes.body_bytes),
    _probe("chunk extensions", "chunk_overhead_bytes", Need.BODY, sizes.chunk_overhead),
    _probe("WebSocket, silent", "ws_ping_s", Need.WEBSOCKET, websockets.silence),
    _probe("WebSocket, no pong", "ws_pong_deadline_s", Need.WEBSOCKET, websockets.no_pong),
    _probe("WebSocket, only pongs", "ws_idle_deadline_s", Need.WEBSOCKET, websockets.only_pongs),
    _probe("frame, stalled", "ws_frame_stall_deadline_s", Need.WEBSOCKET, websockets.frame_stalled),
    _probe("frame, a byte a second", "ws_frame_deadline_s", Need.WEBSOCKET, websockets.frame_dripped),
    _probe("fragments without end", "ws_message_deadline_s", Need.WEBSOCKET, websockets.message_without_end),
    _probe("server's close unanswered", "ws_close_deadline_s", Need.WEBSOCKET, websockets.close_unanswered),
    _probe("our close", "ws_goodbye_deadline_s", Need.WEBSOCKET, websockets.goodbye),
    _probe("message size", "ws_message_bytes", Need.WEBSOCKET, sizes.message_bytes),
    _probe("fragments", "ws_fragments", Need.WEBSOCKET, sizes.fragments),
)

#: Pairs of which the second adds progress to the first.
TWINS: Final = (
    ("tls_stall_deadline_s", "tls_deadline_s"),
    ("head_stall_deadline_s", "head_deadline_s"),
    ("body_stall_deadline_s", "body_deadline_s"),
    ("ws_frame_stall_deadline_s", "ws_frame_deadline_s"),
)
