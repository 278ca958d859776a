"""What a parked connection waits for: the one table.

Owns: `State`, and every fact about a state that does not depend on the layers above. May not: read a clock, touch a
socket. Handlers and the types of contexts live above; `parts.py` binds them.

`Connections.enter` sets a state, its context and its deadline in one call: there is no state without a deadline.
`FLUSH` is no row: it applies in any state while the peer has not taken what was written (net/flush.py). Meanwhile the
state's own deadline stands still, and goes on with its remaining time afterwards.
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
    """The scheduler's classes, each with its own share of the loop's time."""

    FIRST = 0  # the server's own: accept, answers of the log, pings, housekeeping, evictions, bans; behind no network
    NORMAL = 1  # connections that have sent something or whose deadline has passed, and other short work
    BULK = 2  # the rest of long work, and TLS handshakes


#: Globals for each event: to look up a member of an enum costs CPython 3.11 some 900 instructions, a global hardly any.
KEEPALIVE, SERVING, HELD = State.KEEPALIVE, State.SERVING, State.HELD
OPEN, PINGED, MESSAGE, REPLYING = State.OPEN, State.PINGED, State.MESSAGE, State.REPLYING
BULK = Priority.BULK


class Reclaim(IntEnum):
    """The order of eviction when room is needed; `NEVER` is for members, and for peers that wait for our answer."""

    ENDING = 0  # it has its answer
    ASKING = 1  # its request or handshake is incomplete
    IDLE = 2  # it may send another request
    SENDING = 3  # it sends a body
    NEVER = 4


class Reads(Enum):
    """Whether a peer is read: not armed means not read."""

    YES = "yes"
    NO = "no"  # and no event of it is reported
    HANGUP = "hang-up"  # no, but a reset is noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    waits_for: str
    seconds: str | float  # the time limit: the name of its setting, or seconds
    expires: Reason | None  # the reason counted when the deadline passes; None: no fault, so it may begin anew
    priority: Priority = Priority.NORMAL
    reclaim: Reclaim = Reclaim.NEVER
    reads: Reads = Reads.YES
    at_rest: bool = False  # whether deadlines are rounded to common ticks and handled together: pings go out in batches
    total: bool = True  # progress does not move its deadline; False: it does, up to a cap
    awaited: bool = True  # whether the outcome of its bytes is awaited; if not, the poller may nap before it reads more
    announces: bool = False  # whether the handler knows how many bytes are still to come (`Handler.lacking`)
    asks: bool = False  # whether what the peer has sent is part of an HTTP request: its eviction is an HTTP answer
    next: tuple[State, ...]  # the legal moves; CLOSING is allowed from every state, and so is closing at once
    precedent: str


#: Seconds for which a connection that sends requests too fast is not read: worth a timer, and hardly noticed.
THROTTLE_SECONDS: Final = 0.2

_S, _R = State, Reclaim

#: Where an HTTP connection may go when its request is complete.
_ANSWERS = (_S.KEEPALIVE, _S.SERVING, _S.HELD, _S.STREAM, _S.OPEN)

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
        priority=Priority.BULK, reclaim=_R.ASKING, next=(_S.HEAD,),
        precedent="shares the deadline of TLS_HELLO",
    ),
    _S.HEAD: Row(
        waits_for="the end of the request head", seconds="head_deadline", expires=Reason.HEAD_DEADLINE,
        reclaim=_R.ASKING, asks=True, next=(_S.BODY, *_ANSWERS),
        precedent="cowboy 5 s 'set once', uWS and websockets 10 s, Apache 20-40 s, nginx 60 s (a total too)",
    ),
    _S.BODY: Row(
        waits_for="the rest of the request body", seconds="body_deadline", expires=Reason.BODY_DEADLINE,
        reclaim=_R.SENDING, total=False, announces=True, asks=True, next=(_S.BODY, *_ANSWERS),
        precedent="Apache 20 s + 1 s per 500 B (no cap), Kestrel 240 B/s after 5 s",
    ),
    _S.KEEPALIVE: Row(
        waits_for="the next request", seconds="keepalive_deadline", expires=Reason.KEEPALIVE_DEADLINE,
        reclaim=_R.IDLE, at_rest=True, asks=True, next=(_S.HEAD, _S.BODY, _S.THROTTLED, *_ANSWERS),
        precedent="nginx 75 s, hypercorn 5 s",
    ),
    _S.THROTTLED: Row(
        waits_for="a moment: its requests come too fast", seconds=THROTTLE_SECONDS, expires=None,
        reclaim=_R.IDLE, reads=Reads.HANGUP, asks=True, next=(_S.KEEPALIVE,),
        precedent="nginx limit_req delays too",
    ),
    _S.SERVING: Row(
        waits_for="our answer to its request", seconds="serving_deadline", expires=Reason.SERVING_DEADLINE,
        reads=Reads.HANGUP, next=(*_ANSWERS, _S.PAUSED), precedent="nginx proxy_read_timeout 60 s",
    ),
    _S.PAUSED: Row(
        waits_for="a room's members to catch up with its messages", seconds="serving_deadline", expires=None,
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
        awaited=False, next=(_S.OPEN, _S.MESSAGE, _S.REPLYING), precedent="Centrifugo 8 s, Engine.IO 20 s",
    ),
    _S.MESSAGE: Row(
        waits_for="the rest of a frame or of a fragmented message",
        seconds="message_deadline", expires=Reason.MESSAGE_DEADLINE,
        announces=True, next=(_S.OPEN, _S.REPLYING), precedent="other servers have none",
    ),
    _S.REPLYING: Row(
        waits_for="our reply to a message, or the log or a room's members to catch up",
        seconds="serving_deadline", expires=Reason.SERVING_DEADLINE,
        reads=Reads.HANGUP, next=(_S.OPEN, _S.REPLYING), precedent="as SERVING",
    ),
    _S.CLOSING: Row(
        waits_for="the peer to finish the close", seconds="close_deadline", expires=Reason.CLOSE_DEADLINE,
        reclaim=_R.ENDING, announces=True, next=(_S.LINGERING,), precedent="nginx 5 s lingering",
    ),
    _S.LINGERING: Row(
        waits_for="the peer to read our last bytes", seconds="close_deadline", expires=Reason.CLOSE_DEADLINE,
        reclaim=_R.ENDING, reads=Reads.NO, next=(), precedent="shares the deadline of CLOSING",
    ),
}  # fmt: skip

#: States in which we have nothing more to send.
ENDING = frozenset(state for state, row in TABLE.items() if row.reclaim is Reclaim.ENDING)
#: The rows by number, and `ALLOWED[old][new]`: the same facts for the hot path, two index operations each.
ROWS: tuple[Row, ...] = tuple(TABLE[state] for state in State)
ALLOWED: tuple[tuple[bool, ...], ...] = tuple(
    tuple(new in TABLE[old].next or (new is State.CLOSING and old not in ENDING) for new in State) for old in State
)
READS: tuple[bool, ...] = tuple(row.reads is Reads.YES for row in ROWS)
AT_REST: tuple[bool, ...] = tuple(row.at_rest for row in ROWS)
PRIORITY: tuple[Priority, ...] = tuple(row.priority for row in ROWS)


class IllegalMoveError(AssertionError):
    """A bug of ours: a state was entered by a move that is not allowed, or with another state's context."""
