"""What a parked connection waits for, and for how long: the one table.

Owns: `Phase`, the legal moves between phases, and each phase's limit. May not: read a clock, touch a socket.

Rules:
1. A connection is always in exactly one phase, and entering a phase sets its deadline: there is no call that does one
   without the other (`Connections.enter`).
2. Progress never moves a *total* deadline. Only what completes a phase ends it.
3. `FLUSH` is not in the table: it lies over any phase while the peer has not taken what we wrote, and judges alone
   as long as it lasts (`Backlog` in connection.py). The phase beneath gets its remaining time back afterwards.
"""

from dataclasses import dataclass
from enum import IntEnum

from chatserver.reasons import Reason


class Phase(IntEnum):
    """What a connection waits for. An IntEnum: it indexes tables, and hashing it costs no Python call."""

    #: the end of the request head, from accept or from its first byte
    HEAD = 0
    #: the rest of a request body
    BODY = 1
    #: the next request
    KEEPALIVE = 2
    #: us: the log, or a room that has to catch up. Its bytes are not read meanwhile
    SERVING = 3
    #: a message, for a long-poll
    HELD = 4
    #: a message, for server-sent events
    STREAM = 5
    #: a frame, or a message to push
    OPEN = 6
    #: any byte at all, after our ping
    PINGED = 7
    #: the rest of a frame or of a fragmented message
    MESSAGE = 8
    #: the peer's end of the close
    CLOSING = 9
    #: its turn: it asks faster than it may, and is not read meanwhile
    PACED = 10
    #: the TLS handshake, from accept
    TLS = 11
    #: the PROXY header of a trusted balancer, before anything else
    PROXY = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: what the phase waits for, why it may end, and what others do."""

    waits_for: str
    total: bool  # True: progress does not extend it
    expiry: Reason | None  # None: its end is not a fault (a heartbeat, an empty answer, a ping)
    then: frozenset[Phase]  # where it may go; CLOSING and closed are allowed from everywhere
    precedent: str


def _to(*phases: Phase) -> frozenset[Phase]:
    return frozenset((*phases, Phase.CLOSING))


_ANSWERED = (
    Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.SERVING, Phase.HELD, Phase.STREAM, Phase.OPEN, Phase.PACED,
)  # fmt: skip

_SETTLED = frozenset((Phase.KEEPALIVE, Phase.SERVING, Phase.HELD, Phase.STREAM, Phase.OPEN))

RULES: dict[Phase, Rule] = {
    Phase.PROXY: Rule(
        "the PROXY header of a trusted balancer", True, Reason.PROXY_HEADER, _to(Phase.TLS, Phase.HEAD),
        "nginx 30 s, Caddy 5 s",
    ),
    Phase.TLS: Rule(
        "the end of the TLS handshake", True, Reason.TLS_DEADLINE, _to(Phase.HEAD),
        "ranch 5 s, Kestrel 10 s, nginx 60 s",
    ),
    Phase.HEAD: Rule(
        "the end of the request head", True, Reason.HEAD_DEADLINE, _to(*_ANSWERED),
        "cowboy 5 s 'set once', uWS and websockets 10 s, Apache 20-40 s, nginx 60 s (a total too)",
    ),
    Phase.BODY: Rule(
        "the rest of the request body", True, Reason.BODY_DEADLINE, _to(*_ANSWERED),
        "Apache 20 s + 1 s per 500 B (no cap), Kestrel 240 B/s after 5 s",
    ),
    Phase.KEEPALIVE: Rule(
        "the next request", True, Reason.KEEPALIVE_DEADLINE, _to(*_ANSWERED), "nginx 75 s, hypercorn 5 s",
    ),
    Phase.SERVING: Rule(
        "our own answer", True, Reason.SERVING_DEADLINE,
        _to(*_ANSWERED, Phase.PINGED, Phase.MESSAGE), "nginx proxy_read_timeout 60 s",
    ),
    Phase.HELD: Rule(
        "a message, for a long-poll", True, None, _to(Phase.KEEPALIVE, Phase.SERVING), "25-30 s is usual",
    ),
    Phase.STREAM: Rule("a message, for server-sent events", False, None, _to(Phase.STREAM), "15-30 s is usual"),
    Phase.OPEN: Rule(
        "a frame, or a message to push", False, None,
        _to(Phase.OPEN, Phase.PINGED, Phase.MESSAGE, Phase.SERVING), "Centrifugo 25 s, Engine.IO 25 s",
    ),
    Phase.PINGED: Rule(
        "any byte after our ping", True, Reason.PONG_DEADLINE,
        _to(Phase.OPEN, Phase.PINGED, Phase.MESSAGE, Phase.SERVING), "Centrifugo 8 s, Engine.IO 20 s",
    ),
    Phase.MESSAGE: Rule(
        "the rest of a frame or of a fragmented message", True, Reason.MESSAGE_DEADLINE,
        _to(Phase.OPEN, Phase.MESSAGE, Phase.SERVING), "none of the peers has one",
    ),
    Phase.CLOSING: Rule("the peer's end of the close", True, Reason.CLOSE_DEADLINE, frozenset(), "nginx 5 s lingering"),
    Phase.PACED: Rule("its turn: it asks too fast", True, None, _to(Phase.KEEPALIVE), "nginx limit_req delays too"),
}  # fmt: skip

#: `ALLOWED[old][new]`, the same facts as two tuples: a move costs two index operations on the hot path.
ALLOWED: tuple[tuple[bool, ...], ...] = tuple(tuple(new in RULES[old].then for new in Phase) for old in Phase)

#: `SETTLES[old][new]`: whether whoever makes this move is in, and comes first from now on. It has asked for something
#: and was answered; a WebSocket by its first message, since everybody who comes has the upgrade and a `join` to do.
SETTLES: tuple[tuple[bool, ...], ...] = tuple(
    tuple(new in _SETTLED and not (new is Phase.OPEN and old is Phase.HEAD) for new in Phase) for old in Phase
)


class IllegalMoveError(AssertionError):
    """A phase was entered from one that does not lead there: a bug of ours, never the peer's doing."""


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """Seconds for each phase, bytes a second for `FLUSH`. Zero means the phase has no end of its own."""

    head: float = 10.0
    body: float = 10.0
    keepalive: float = 60.0
    serving: float = 10.0
    held: float = 60.0
    stream: float = 20.0  # between heartbeats
    open: float = 25.0  # of silence before a ping
    pinged: float = 10.0
    message: float = 20.0
    closing: float = 2.0
    tls: float = 10.0
    proxy: float = 10.0
    paced: float = 0.2  # long enough to be worth the wheel's trouble, and nobody notices it
    flush_window: float = 30.0
    flush_rate: int = 256

    def seconds(self) -> tuple[float, ...]:
        """One number for each phase, in the order of `Phase`."""
        return tuple(getattr(self, phase.name.lower()) for phase in Phase)
