"""What a test can plant in a server: limits, all off by default, and faults."""

import ssl
from dataclasses import dataclass
from typing import Final

NEVER: Final = float("inf")

#: A least rate counts from then on, as Kestrel's does.
GRACE_SECONDS: Final = 5.0

LATE_SECONDS: Final = 5.0

RESET: Final = b"\1\0\0\0\0\0\0\0"  # SO_LINGER on, for no time: close is RST


@dataclass(kw_only=True)
class Plant:
    """The limits; seconds, bytes or numbers."""

    head_total: float = NEVER
    head_idle: float = NEVER  # armed anew by each read
    head_line: float = NEVER  # armed anew by each line that is complete
    head_rate: float = 0.0  # bytes a second, from GRACE_SECONDS on
    sweep: float = 0.0  # deadlines of heads are looked at so often
    body_total: float = NEVER
    body_idle: float = NEVER
    body_rate: float = 0.0
    keepalive: float = NEVER
    poll_max: float = NEVER
    takes: float = 0.0  # each answer takes so long
    crowded: float = 0.0  # a GET takes so long while more than ten connections are open
    linger: float = 0.0
    send_stall: float = NEVER  # for 512 bytes of an answer to be taken
    any_activity: bool = False  # what comes in meanwhile arms that anew
    half_heads: bool = False  # the deadline of a head runs while an answer waits behind one that is half read
    reads: int = 65_536  # bytes at once
    one_by_one: bool = False  # a connection is closed if another request has come before the answer
    max_head: float = NEVER  # looked at when it is complete
    max_begun: float = NEVER  # looked at before
    begun_status: int = 431  # what one that is larger is answered
    max_joined: float = NEVER  # bytes of all fields of one name, which are joined
    max_fields: float = NEVER
    max_body: float = NEVER
    max_overhead: float = NEVER
    blank: int = 201  # what a body of blanks is answered
    per_address: float = NEVER
    ping_every: float = NEVER
    pong_within: float = NEVER
    frame_total: float = NEVER
    message_total: float = NEVER
    close_within: float = 0.0
    max_message: float = NEVER
    refuses_late: float = 0.0  # a message that is too large, so much later; a ping that came meanwhile is answered
    max_fragments: float = NEVER
    websocket: bool = True
    posts: bool = True  # else 405, before the body
    one_answer: bool = False  # a GET is answered with `Connection: close`
    turns_away: str = ""  # "POST" or "GET /ws" are answered 503
    close_first: bool = False  # a WebSocket is closed with 1001 when it would be pinged
    pings_at_once: bool = False  # a WebSocket, when it opens
    mute: bool = False  # a WebSocket is ended without a close frame
    reserved: str = "close"  # or "reset" or "nothing": the answer to a frame that breaks the protocol
    chunked: int = 0  # what a chunked body is answered, before it comes
    timeout_status: int = 408  # what a head or a body is answered at its deadline
    token: bytes = b""  # requests without it are answered 401
    late_head: int = 0  # what a head is answered that took longer than LATE_SECONDS; -1: nothing, it is hung up on
    busy: bool = False  # every request is answered 503
    reset_connection: int = 0  # this one is ended with RST, at once
    reset_head_once: float = NEVER  # the first head of at least so many bytes is answered with RST
    at_once: float = NEVER  # connections that are attended; more wait
    defers: bool = False  # a connection is accepted when its first bytes have come
    resets: bool = False  # every connection, at once
    says: bytes = b""  # to every connection, and closes
    dies_after: float = NEVER
    tls: ssl.SSLContext | None = None
    tls_total: float = NEVER


class LateError(Exception):
    """A deadline has struck."""


class GoneError(Exception):
    """The peer has."""
