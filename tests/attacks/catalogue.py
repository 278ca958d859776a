"""The catalogue: every attack that `loadgen` plays, what stands against it, and how it ends.

Owns: the rows. docs/attacks.md prints them (docs/tables.py), test_catalogue.py plays each of them against the real
server over real sockets, and fails if an attacker is added without a row. A defence is a rule of a phase, a budget or
a step of admission, never a special case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatserver.reasons import Reason

#: Limits of the server in these tests: short enough to wait for, long enough for a machine that is busy.
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
    ends: tuple[Reason, ...]  # any of these is counted when it ends; what began a close counts
    told: str  # what the peer sees
    settings: Mapping[str, Any] = field(default_factory=dict)  # for the test, over SHORT
    clients: int = 3
    needs_dark: bool = False  # only where the kernel lets a socket go deaf
    greedy: bool = False
    malformed: bool = False


def _rows(*kinds: str, **facts: Any) -> list[Row]:
    return [Row(kind=kind, **facts) for kind in kinds]


_HEAD: Final = "`HEAD`: 10 s in total from accept, or from the request's first byte"
_BODY: Final = "`BODY`: 10 s in total and 1 s for each KiB received, 30 s at most"
_MESSAGE: Final = "`MESSAGE`: 20 s in total, whatever else comes in between"
_FLUSH: Final = "`FLUSH`: 256 B/s acknowledged, over 30 s; what is not taken stays in shared memory"
_SIZE: Final = "refused as soon as the size is known; nothing of it is kept"
_WITH_MESSAGES: Final = {"message_rate": 20.0, "publish_rate": 20.0}

ROWS: Final[tuple[Row, ...]] = (
    *_rows("idle-connect", defence=_HEAD, ends=(Reason.HEAD_DEADLINE,), told="FIN"),
    *_rows(
        "slow-head", "drip-head", "slow-handshake",
        defence=_HEAD + "; searched once, however it comes", ends=(Reason.HEAD_DEADLINE,), told="408, FIN",
    ),
    *_rows("slow-body", "expect-continue", defence=_BODY, ends=(Reason.BODY_DEADLINE,), told="408, FIN"),
    *_rows(
        "slow-chunk", defence="wire bytes of a chunked body: four times what they carry, and 256 bytes",
        ends=(Reason.CHUNK_OVERHEAD,), told="400, FIN", settings={"body_deadline": 20.0, "body_deadline_max": 20.0},
    ),
    *_rows("slow-read", defence=_FLUSH + "; one answer in flight", ends=(Reason.FLUSH_DEADLINE,), told="RST"),
    *_rows("slow-read-ws", defence=_FLUSH, ends=(Reason.FLUSH_DEADLINE,), told="RST", clients=20),
    *_rows(
        "poll-abandon", defence="`HELD` for what it asked, then `KEEPALIVE`: 60 s in total", needs_dark=True,
        ends=(Reason.KEEPALIVE_DEADLINE, Reason.FLUSH_DEADLINE), told="nothing: it is gone",
    ),
    *_rows(
        "poll-halfclose", defence="a FIN is answered at once with what there is, and the connection closed",
        ends=(Reason.DONE, Reason.PEER_CLOSED), told="200, FIN",
    ),
    *_rows("slow-frame", "slow-fragment", defence=_MESSAGE, ends=(Reason.MESSAGE_DEADLINE,), told="close 1008"),
    *_rows(
        "no-pong", defence="`OPEN`: a ping after 25 s of silence; `PINGED`: 10 s for any byte at all",
        ends=(Reason.PONG_DEADLINE,), told="close 4000",
    ),
    *_rows(
        "no-close", defence="`CLOSING`: 2 s in total", ends=(Reason.BAD_TEXT, Reason.CLOSE_DEADLINE),
        told="close 1007, then FIN",
    ),
    *_rows(
        "vanish", "vanish-stream", needs_dark=True,
        defence="our ping or heartbeat is never acknowledged: " + _FLUSH,
        ends=(Reason.FLUSH_DEADLINE, Reason.PONG_DEADLINE), told="nothing: it is gone",
    ),
    *_rows(
        "slow-tls", defence="`TLS`: 10 s in total, 256 half-way at most; on a plain port its first byte is no request",
        ends=(Reason.BAD_REQUEST, Reason.TLS_DEADLINE, Reason.EVICTED), told="400 on a plain port, else FIN",
    ),
    # Greedy
    *_rows(
        "connect-flood", greedy=True,
        defence="newcomers have 0.5 ms of a pass; 4 are accepted in it, 64 while nobody else is heard",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="nothing: it does not stay",
    ),
    *_rows(
        "descriptor-exhaust", greedy=True, settings={"total": 30}, clients=60,
        defence="places are counted; the longest without a whole request goes first; a spare descriptor says 503",
        ends=(Reason.REFUSED_FULL, Reason.EVICTED, Reason.REFUSED_DESCRIPTORS), told="503 with `Retry-After`",
    ),
    *_rows(
        "ping-flood", "pong-flood", greedy=True, settings=_WITH_MESSAGES,
        defence="a budget of messages, pings and pongs included, with a burst of ten seconds' worth",
        ends=(Reason.FLOOD,), told="close 1008",
    ),
    *_rows(
        "empty-fragments", greedy=True, defence="64 fragments a message, empty ones included",
        ends=(Reason.TOO_MANY_FRAGMENTS,), told="close 1009",
    ),
    *_rows(
        "tiny-frames", "room-churn", greedy=True, settings=_WITH_MESSAGES,
        defence="the same budget; 100 rooms a connection; presence is told once a second and bounded over all rooms",
        ends=(Reason.FLOOD,), told="`rate_limited` with `retry_after`, then close 1008",
    ),
    *_rows(
        "join-many", greedy=True, settings=_WITH_MESSAGES,
        defence="100 rooms a connection, and of those that nobody wrote in two, while there are 256; such a room is a"
        " name until somebody else comes; the same budget",
        ends=(Reason.FLOOD,), told="`too_many_rooms`, or `rate_limited` with `retry_after`, then close 1008",
    ),
    *_rows(
        "pipeline", greedy=True, ends=(Reason.FLUSH_DEADLINE,), told="RST",
        defence="one request in flight; not read while its answer is not taken: `FLUSH`",
    ),
    *_rows(
        "long-requests", greedy=True, ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="200, 201, 413 or 429",
        defence="whoever has sent more than one read of it shares half a millisecond of a pass with all who have; twice"
        " 50 requests at once, then 50 a second",
    ),
    *_rows(
        "long-messages", greedy=True, settings=_WITH_MESSAGES, ends=(Reason.FLOOD,),
        defence="the same slice of a pass; the budget of messages",
        told="`rate_limited` with `retry_after`, then close 1008",
    ),
    *_rows("big-head", "many-fields", greedy=True, defence=_SIZE, ends=(Reason.HEAD_TOO_LARGE,), told="431, FIN"),
    *_rows(
        "big-body", "huge-length", greedy=True, defence=_SIZE,
        ends=(Reason.BODY_TOO_LARGE, Reason.BAD_REQUEST), told="413 or 400, FIN",
    ),
    *_rows("big-frame", greedy=True, defence=_SIZE, ends=(Reason.MESSAGE_TOO_BIG, Reason.BAD_FRAME), told="close 1009"),
    *_rows(
        "reconnect-storm", greedy=True, ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="`joined`",
        defence="whoever leaves and whoever comes waits for those who stay; what was missed comes out of shared bytes",
    ),
    *_rows(
        "thundering-poll", greedy=True, ends=(Reason.PEER_CLOSED, Reason.PEER_RESET), told="200",
        defence="one encoding for all who wait at one cursor; they are answered no faster than they come back, and then"
        " wait for everybody else",
    ),
    *_rows(
        "compress-bomb", greedy=True, defence="compression is not offered", ends=(Reason.BAD_FRAME,), told="close 1002",
    ),
    # Malformed
    *_rows(
        "malformed-http", malformed=True, defence="h11, held to the stricter reading where RFC 9112 leaves a choice",
        ends=(Reason.BAD_REQUEST,), told="400, 431, 501 or 505, FIN", clients=40,
    ),
    *_rows(
        "malformed-frames", malformed=True, defence="wsproto, on whole frames", clients=20,
        ends=(Reason.BAD_FRAME,), told="close 1002, 1007 or 1009",
    ),
    *_rows(
        "malformed-chat", malformed=True, defence="typed decoding; a bad message is answered and the connection lives",
        ends=(Reason.PEER_CLOSED, Reason.PEER_RESET, Reason.BAD_TEXT), told="`error` with its code",
    ),
)  # fmt: skip
