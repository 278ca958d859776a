"""What a parked connection waits for: the one table.

Owns: `State`, and for each state every fact about it that the layers above do not have to know. May not: read a clock,
touch a socket. Nothing else in the program lists states; the handlers and the types of their contexts live above, and
`parts.py` binds them once.

1. A connection is always in exactly one state. `Connections.enter` sets the state, its context and its deadline in one
   call: a state without a deadline cannot be written down.
2. Progress never moves a *total* deadline. `BODY` alone is entered again as bytes come, up to a cap.
3. `FLUSH` is no row: it lies over any state while the peer has not taken what was written (net/flush.py), and judges
   alone as long as it lasts. The state beneath gets its remaining time back afterwards.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from chatserver.reasons import Reason


class State(IntEnum):
    """The rows; `TABLE` says what each waits for. An IntEnum indexes tables, and hashing it costs no Python call."""

    PROXY = 0
    TLS_HELLO = 1
    TLS_HANDSHAKE = 2
    HEAD = 3
    BODY = 4
    KEEPALIVE = 5
    THROTTLED = 6
    SERVING = 7
    PAUSED = 8
    HELD = 9
    STREAM = 10
    OPEN = 11
    PINGED = 12
    MESSAGE = 13
    REPLYING = 14
    CLOSING = 15
    LINGERING = 16


class Priority(IntEnum):
    """The scheduler's classes, each with a share of the loop's time of its own."""

    FIRST = 0  # accept, and answers of the log: among the others they would wait for a turn of each network there
    NORMAL = 1  # everybody who has sent something or whose time is up
    BULK = 2  # what is left of long work, and TLS handshakes


class Reclaim(IntEnum):
    """Who gives up a place first when room is needed; `NEVER` is for members, and for who waits for our answer."""

    LINGERING = 0  # it has its answer
    ASKING = 1  # it has not finished asking
    IDLE = 2  # it may ask again
    SENDING = 3  # it sends a body
    NEVER = 4


class Reads(Enum):
    """Whether a peer is read: not armed means not read."""

    YES = "yes"
    NO = "no"  # nothing that it does is of interest
    HANGUP = "hang-up"  # no, but its reset is noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table."""

    waits_for: str
    seconds: str | float  # the setting that says how long, or the seconds themselves
    expires: Reason | None  # what its end counts as; None: no fault, so it may begin anew
    priority: Priority = Priority.NORMAL
    reclaim: Reclaim = Reclaim.NEVER
    reads: Reads = Reads.YES
    at_rest: bool = False  # whether deadlines may be brought together, so that pings go out in batches
    total: bool = True  # progress does not move its deadline; else it does, up to a cap
    announces: bool = False  # whether the handler can tell how many bytes are still to come
    most: int | None = None  # connections that may be in this state at a time
    next: tuple[State, ...]  # the legal moves; CLOSING, and closed, are allowed from everywhere
    precedent: str


#: Handshakes under way at a time: each costs 43 KB of OpenSSL's memory, 11 MB in all. A core begins some 500 a second,
#: so all of these may be half a second away before one is in the way of another. FreeBSD's syncache is bounded alike.
MAX_HALF_OPEN: Final = 256
#: Seconds for which a connection that asks too fast is not read: long enough to be worth a timer, and hardly noticed.
THROTTLE_SECONDS: Final = 0.2

_S, _R = State, Reclaim

#: Where an HTTP connection may go when its request is complete.
_ANSWERS = (_S.KEEPALIVE, _S.SERVING, _S.HELD, _S.STREAM, _S.OPEN, _S.PAUSED)

TABLE: dict[State, Row] = {
    _S.PROXY: Row(
        waits_for="the PROXY header of a trusted balancer", seconds="head_deadline", expires=Reason.PROXY_HEADER,
        reclaim=_R.ASKING, next=(_S.TLS_HELLO, _S.HEAD), precedent="nginx 30 s, Caddy 5 s",
    ),
    _S.TLS_HELLO: Row(
        waits_for="the end of a TLS ClientHello", seconds="tls_deadline", expires=Reason.TLS_DEADLINE,
        priority=Priority.BULK, reclaim=_R.ASKING, next=(_S.TLS_HANDSHAKE,),
        precedent="ranch 5 s, Kestrel 10 s, nginx 60 s",
    ),
    _S.TLS_HANDSHAKE: Row(
        waits_for="the end of the TLS handshake", seconds="tls_deadline", expires=Reason.TLS_DEADLINE,
        priority=Priority.BULK, reclaim=_R.ASKING, most=MAX_HALF_OPEN, next=(_S.HEAD,),
        precedent="the same time goes on: it began with the hello",
    ),
    _S.HEAD: Row(
        waits_for="the end of the request head", seconds="head_deadline", expires=Reason.HEAD_DEADLINE,
        reclaim=_R.ASKING, next=(_S.BODY, *_ANSWERS),
        precedent="cowboy 5 s 'set once', uWS and websockets 10 s, Apache 20-40 s, nginx 60 s (a total too)",
    ),
    _S.BODY: Row(
        waits_for="the rest of the request body", seconds="body_deadline", expires=Reason.BODY_DEADLINE,
        reclaim=_R.SENDING, total=False, announces=True, next=(_S.BODY, *_ANSWERS),
        precedent="Apache 20 s + 1 s per 500 B (no cap), Kestrel 240 B/s after 5 s",
    ),
    _S.KEEPALIVE: Row(
        waits_for="the next request", seconds="keepalive_deadline", expires=Reason.KEEPALIVE_DEADLINE,
        reclaim=_R.IDLE, at_rest=True, next=(_S.HEAD, _S.BODY, _S.THROTTLED, *_ANSWERS),
        precedent="nginx 75 s, hypercorn 5 s",
    ),
    _S.THROTTLED: Row(
        waits_for="its rate: it asks too fast", seconds=THROTTLE_SECONDS, expires=None,
        reclaim=_R.IDLE, reads=Reads.HANGUP, next=(_S.KEEPALIVE,),
        precedent="nginx limit_req delays too",
    ),
    _S.SERVING: Row(
        waits_for="our answer to its request", seconds="serving_deadline", expires=Reason.SERVING_DEADLINE,
        reads=Reads.HANGUP, next=_ANSWERS, precedent="nginx proxy_read_timeout 60 s",
    ),
    _S.PAUSED: Row(
        waits_for="a room's members, which it publishes too fast for", seconds="serving_deadline", expires=None,
        reclaim=_R.IDLE, reads=Reads.HANGUP, next=(_S.KEEPALIVE,),
        precedent="backpressure; RabbitMQ blocks publishing connections",
    ),
    _S.HELD: Row(
        waits_for="a message, for a long-poll", seconds="poll_wait_max", expires=None,
        next=(_S.KEEPALIVE, _S.SERVING), precedent="25-30 s is usual",
    ),
    _S.STREAM: Row(
        waits_for="a message, for server-sent events", seconds="heartbeat_interval", expires=None,
        at_rest=True, next=(_S.STREAM,), precedent="15-30 s is usual",
    ),
    _S.OPEN: Row(
        waits_for="a frame, or a message to push", seconds="ping_interval", expires=None,
        at_rest=True, next=(_S.OPEN, _S.PINGED, _S.MESSAGE, _S.REPLYING),
        precedent="Centrifugo 25 s, Engine.IO 25 s",
    ),
    _S.PINGED: Row(
        waits_for="any byte after our ping", seconds="pong_deadline", expires=Reason.PONG_DEADLINE,
        next=(_S.OPEN, _S.MESSAGE, _S.REPLYING), precedent="Centrifugo 8 s, Engine.IO 20 s",
    ),
    _S.MESSAGE: Row(
        waits_for="the rest of a frame or of a fragmented message",
        seconds="message_deadline", expires=Reason.MESSAGE_DEADLINE,
        announces=True, next=(_S.OPEN, _S.REPLYING), precedent="none of the peers has one",
    ),
    _S.REPLYING: Row(
        waits_for="our reply to a message, or the log and the room it publishes into",
        seconds="serving_deadline", expires=Reason.SERVING_DEADLINE,
        reads=Reads.HANGUP, next=(_S.OPEN, _S.MESSAGE), precedent="as SERVING",
    ),
    _S.CLOSING: Row(
        waits_for="the peer's end of the close", seconds="close_deadline", expires=Reason.CLOSE_DEADLINE,
        reclaim=_R.LINGERING, announces=True, next=(_S.LINGERING,), precedent="nginx 5 s lingering",
    ),
    _S.LINGERING: Row(
        waits_for="the end of its time to read our last words", seconds="close_deadline", expires=Reason.CLOSE_DEADLINE,
        reclaim=_R.LINGERING, reads=Reads.NO, next=(), precedent="the same time goes on",
    ),
}  # fmt: skip

#: The rows by number, and `ALLOWED[old][new]`: the same facts for the hot path, two index operations each.
ROWS: tuple[Row, ...] = tuple(TABLE[state] for state in State)
ALLOWED: tuple[tuple[bool, ...], ...] = tuple(
    tuple(new in row.next or (new is State.CLOSING and row.reclaim is not Reclaim.LINGERING) for new in State)
    for row in ROWS
)
READS: tuple[bool, ...] = tuple(row.reads is Reads.YES for row in ROWS)
PRIORITY: tuple[Priority, ...] = tuple(row.priority for row in ROWS)


class IllegalMoveError(AssertionError):
    """A state was entered from one that does not lead there, or with a context of another: a bug of ours."""


#: States in which everything has been said.
ENDING = frozenset((State.CLOSING, State.LINGERING))
