"""The catalogue: every attack that `loadgen` plays, the defence against it, and its end.

Owns: the rows. docs/attacks.md prints them (docs/tables.py); test_catalogue.py plays each against the real server over
real sockets, and fails for an attacker without a row. A defence is a rule of a state, a budget or a step of admission,
never a special case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatserver.reasons import Reason

#: Limits of the server in these tests: short, but long enough for a busy machine.
SHORT: Final[Mapping[str, Any]] = {
    "head_deadline": 1.0,
    "body_deadline": 1.0,
    "body_deadline_max": 1.0,
    "keepalive_deadline": 1.5,
    "message_deadline": 1.0,
    "ping_interval": 1.0,
    "pong_deadline": 1.0,
    "heartbeat_interval": 1.0,
    "flush_window": 1.0,
    "close_deadline": 0.5,
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack."""

    kind: str
    defence: str  # the rule, with its default
    ends: tuple[Reason, ...]  # reasons that may be counted for its closes
    told: str  # what the peer sees
    settings: Mapping[str, Any] = field(default_factory=dict)  # for the test, in addition to SHORT
    clients: int = 3
    times: int = 1  # ends, or answers, that the test waits for; 0 where the persona records no answer
    received: int = 0  # messages that it waits for the attackers to receive
    stored_in: str = ""  # a room in which it waits for their messages
    answers: tuple[str, ...] = ()  # outcomes that the persona may record besides those named in `told`
    stays: bool = False  # the server closes no connection for it; the client leaves by itself
    with_key: bool = False  # needs a server with token sign-in
    needs_dark: bool = False  # needs a kernel in which a socket can drop all packets


def _rows(*kinds: str, **facts: Any) -> list[Row]:
    return [Row(kind=kind, **facts) for kind in kinds]


_HEAD: Final = "`HEAD`: 10 s in total"
_BODY: Final = "`BODY`: 10 s and 1 s for each KiB, at most 30 s"
_MESSAGE: Final = "`MESSAGE`: 20 s in total"
_FLUSH: Final = "`FLUSH`: at least 256 B/s over 30 s"
_SIZE: Final = "refused as soon as the size is known"
_WITH_MESSAGES: Final = {"message_rate": 20.0, "publish_rate": 20.0}

ROWS: Final[tuple[Row, ...]] = (
    *_rows("idle-connect", defence=_HEAD, ends=(Reason.HEAD_DEADLINE,), told="FIN"),
    *_rows(
        "slow-head", "drip-head", "slow-handshake",
        defence=_HEAD, ends=(Reason.HEAD_DEADLINE,), told="408, FIN",
    ),
    *_rows("slow-body", "expect-continue", defence=_BODY, ends=(Reason.BODY_DEADLINE,), told="408, FIN"),
    *_rows(
        "slow-chunk", defence="on the wire at most four times the content and 256 bytes",
        ends=(Reason.CHUNK_OVERHEAD,), told="400, FIN", settings={"body_deadline": 20.0, "body_deadline_max": 20.0},
    ),
    *_rows(
        "slow-read", defence=_FLUSH + "; one answer in flight", ends=(Reason.FLUSH_DEADLINE,), told="RST",
        answers=("answered 200",),
    ),
    *_rows("slow-read-ws", defence=_FLUSH, ends=(Reason.FLUSH_DEADLINE,), told="RST", clients=20),
    *_rows(
        "poll-abandon", defence="`HELD` as long as it asked for, then `KEEPALIVE`: 60 s", needs_dark=True,
        ends=(Reason.KEEPALIVE_DEADLINE, Reason.FLUSH_DEADLINE), told="nothing: it is gone", answers=("answered 200",),
    ),
    *_rows(
        "poll-halfclose", defence="on FIN the poll is answered at once",
        ends=(Reason.DONE, Reason.PEER_CLOSED), told="200, FIN",
    ),
    *_rows("slow-frame", "slow-fragment", defence=_MESSAGE, ends=(Reason.MESSAGE_DEADLINE,), told="close 1008"),
    *_rows(
        "no-pong", defence="a ping after 25 s of silence; `PINGED`: 10 s for any byte",
        ends=(Reason.PONG_DEADLINE,), told="close 4000",
    ),
    *_rows(
        "no-close", defence="`CLOSING`: 2 s in total", ends=(Reason.BAD_TEXT, Reason.CLOSE_DEADLINE),
        told="close 1007, then FIN",
    ),
    *_rows(
        "vanish", "vanish-stream", needs_dark=True,
        defence="the ping or heartbeat is not acknowledged: " + _FLUSH,
        ends=(Reason.FLUSH_DEADLINE, Reason.PONG_DEADLINE), told="nothing: it is gone", answers=("answered 200",),
    ),
    *_rows(
        "slow-tls", defence="`TLS_HELLO`, `TLS_HANDSHAKE`: 10 s in total, 256 handshakes at a time",
        ends=(Reason.BAD_REQUEST, Reason.TLS_DEADLINE, Reason.EVICTED), told="400 on a plain port, else FIN",
    ),
    *_rows(
        "tls-half-message", answers=("joined",),
        defence="a record that ends within a handshake message ends its connection at once",
        ends=(Reason.TLS_FAILED,), told="FIN or RST",
    ),
    *_rows(
        "tls-key-updates", settings={"head_deadline": 60.0},
        defence="1,000 records without data in the life of a connection", ends=(Reason.TLS_FAILED,), told="FIN or RST",
    ),
    # Greedy
    *_rows(
        "connect-flood",
        defence="8 connections are accepted in a round; networks take turns",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="nothing: it does not stay",
    ),
    *_rows(
        "request-reset", defence="a request whose client is known to have reset is not read",
        ends=(Reason.PEER_RESET,), told="nothing: it does not stay",
    ),
    *_rows(
        "descriptor-exhaust", settings={"total": 30}, clients=60,
        defence="the worst-ranked connection is evicted; a spare descriptor serves for 503",
        ends=(Reason.REFUSED_FULL, Reason.EVICTED, Reason.REFUSED_DESCRIPTORS), told="503 with `Retry-After`",
        answers=("answered 200",),
    ),
    *_rows(
        "ping-flood", "pong-flood", settings=_WITH_MESSAGES,
        defence="`--message-rate`, pings and pongs included",
        ends=(Reason.FLOOD,), told="close 1008",
    ),
    *_rows(
        "empty-fragments", defence="64 fragments a message, empty ones included",
        ends=(Reason.TOO_MANY_FRAGMENTS,), told="close 1009",
    ),
    *_rows(
        "tiny-frames", "room-churn", settings=_WITH_MESSAGES,
        defence="the same rate; presence is sent once a second and bounded over all rooms",
        ends=(Reason.FLOOD,), told="`rate_limited` with `retry_after`, then close 1008",
    ),
    *_rows(
        "join-many", settings=_WITH_MESSAGES,
        defence="100 rooms a connection, at most four of them without messages; the same rate",
        ends=(Reason.FLOOD,), told="`too_many_rooms`, or `rate_limited` with `retry_after`, then close 1008",
        answers=("joined", "error too_many_rooms", "error rate_limited"),
    ),
    *_rows(
        "pipeline", ends=(Reason.FLUSH_DEADLINE,), told="RST",
        defence="the peer is not read until it takes the answer: `FLUSH`",
    ),
    *_rows(
        "long-requests", stays=True, clients=4, times=0, stored_in="long-3",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="200, 201, 413 or 429",
        defence="the rest of a long request comes behind all other work; `--request-rate`",
    ),
    *_rows(
        "long-messages", settings=_WITH_MESSAGES, ends=(Reason.FLOOD,),
        defence="eight messages in a step; networks take turns; `--message-rate`",
        told="`rate_limited` with `retry_after`, then close 1008",
    ),
    *_rows("big-head", "many-fields", defence=_SIZE, ends=(Reason.HEAD_TOO_LARGE,), told="431, FIN"),
    *_rows(
        "big-body", "huge-length", defence=_SIZE,
        ends=(Reason.BODY_TOO_LARGE, Reason.BAD_REQUEST), told="413 or 400, FIN",
    ),
    *_rows("big-frame", defence=_SIZE, ends=(Reason.MESSAGE_TOO_BIG, Reason.BAD_FRAME), told="close 1009"),
    *_rows(
        "reconnect-storm", stays=True, times=0, received=2,
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="`joined`",
        defence="networks take turns; missed messages are sent from shared bytes",
    ),
    *_rows(
        "publish-reset", settings={"ring_bytes": 65_536}, clients=150, times=200,
        defence="a closed connection leaves every list; an exception ends only its own connection",
        ends=(Reason.PEER_RESET,), answers=("answered 503",), told="201",
    ),
    *_rows(
        "ask-the-log", stays=True, clients=30, times=100,
        defence="networks take turns at the log; equal requests share one query",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="200, or 503 with `Retry-After`",
        answers=("answered 201", "answered 404", "answered 429"),
    ),
    *_rows(
        "catch-up", stays=True, clients=30, times=100, settings={"ring_messages": 16},
        defence="networks take turns to catch up; members at one offset share one page",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="`joined`, or `error` with `retry_after`",
        answers=("joined", "error rate_limited", "error unavailable"),
    ),
    *_rows(
        "costly-text", stays=True, clients=6, times=6,
        defence="size and rate are checked before content",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="400, 413, or 429 with `Retry-After`",
    ),
    *_rows(
        "fill-rooms", stays=True, clients=40, times=120, settings={"max_rooms": 100},
        defence="a network has a share of the rooms in memory",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="`ack` and `joined`, beyond the share an `error`",
        answers=("ack", "joined", "error unavailable"),
    ),
    *_rows(
        "bad-tokens", stays=True, with_key=True, clients=20, times=200,
        defence="after 50 wrong tokens from a network, five of its tokens a second are checked",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="401, or 429 with `Retry-After`",
    ),
    *_rows(
        "sign-outs", stays=True, clients=20, times=200, settings={"publish_rate": 20.0},
        defence="guests of a network may sign out once a second; the last 10,000 are kept",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="204, or 429 with `Retry-After`",
    ),
    *_rows(
        "sse-flood", times=3,
        defence="beyond 64 KiB after the request the stream ends",
        ends=(Reason.FLOOD,), told="200 and events",
    ),
    *_rows(
        "thundering-poll", stays=True, ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="200", received=2,
        answers=("answered 201",),
        defence="one encoding for all polls at one cursor; eight are answered in a step",
    ),
    *_rows(
        "compress-bomb", defence="compression is not offered", ends=(Reason.BAD_FRAME,), told="close 1002",
        answers=("permessage-deflate not accepted",),
    ),
    # Malformed
    *_rows(
        "malformed-http", defence="h11, and the stricter reading where RFC 9112 leaves a choice",
        ends=(Reason.BAD_REQUEST,), told="400, 405, 426, 501 or 505, FIN", clients=90, times=60,
    ),
    *_rows(
        "malformed-frames", defence="wsproto, on whole frames", clients=50, times=30,
        ends=(Reason.BAD_FRAME, Reason.BAD_TEXT), told="close 1000, 1002, 1007 or 1009",
        settings={"message_deadline": 10.0},
    ),
    *_rows(
        "malformed-chat", stays=True, clients=55, times=55,
        defence="typed decoding; a bad message gets an error",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="`error` with its code",
        answers=(
            *(f"error {code}" for code in ("bad_json", "bad_field", "bad_room", "bad_cursor", "unknown_type")),
            "error not_joined", "unknown field: pong",
        ),
    ),
    *_rows(
        "foreign-page", stays=True, clients=10, times=10, settings={"head_deadline": 10.0},
        defence="a foreign `Origin` or `Sec-Fetch-Site` is refused where the request acts as a user or changes"
        " something, a foreign `Host` everywhere",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="403 or 421",
    ),
)  # fmt: skip
