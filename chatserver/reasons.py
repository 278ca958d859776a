"""The closed lists: why a connection ended, what an error is called, which code closes a WebSocket.

Owns: every name that a peer, a log line or `/metrics` may show for a failure. May not: import our modules.
A new way to fail is a new row here first; docs/protocol.md prints these tables and a test compares the two.
"""

from enum import Enum, StrEnum


class Contract(StrEnum):
    """What a client should do after a close, so that it need not guess."""

    COME_BACK = "come back at once"
    BACK_OFF = "come back later, after the time given or with jittered back-off"
    DO_NOT = "do not come back with the same bytes; they will fail again"


class CloseCode(Enum):
    """WebSocket close codes in use: RFC 6455 section 7.4.1, the IANA registry, and two ranges of our own.

    4000-4499 means "come back later", 4500-4999 "do not come back".
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    BAD_TEXT = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    NO_PONG = 4000
    TOO_SLOW = 4001
    SIGNED_OUT = 4503


class Reason(Enum):
    """Why a connection ended: one of these, always. `name` as label, sentence, contract, close code."""

    DONE = (
        "done",
        "the answer was written and one side had asked to close",
        Contract.COME_BACK,
        CloseCode.NORMAL,
    )
    PEER_CLOSED = ("peer-closed", "the peer closed in good order", Contract.COME_BACK, CloseCode.NORMAL)
    PEER_RESET = (
        "peer-reset",
        "the peer reset the connection or vanished",
        Contract.COME_BACK,
        CloseCode.NORMAL,
    )
    PROXY_HEADER = (
        "proxy-header",
        "a trusted proxy did not begin with a valid PROXY header, or not in time",
        Contract.DO_NOT,
        CloseCode.PROTOCOL_ERROR,
    )
    TLS_DEADLINE = ("tls-deadline", "the TLS handshake was not over in time", Contract.BACK_OFF, CloseCode.POLICY)
    TLS_FAILED = (
        "tls-failed",
        "the bytes were not valid TLS, or there was no version or cipher in common",
        Contract.DO_NOT,
        CloseCode.PROTOCOL_ERROR,
    )
    HEAD_DEADLINE = ("head-deadline", "no complete request head in time", Contract.BACK_OFF, CloseCode.POLICY)
    BODY_DEADLINE = ("body-deadline", "the request body came too slowly", Contract.BACK_OFF, CloseCode.POLICY)
    KEEPALIVE_DEADLINE = (
        "keepalive-deadline",
        "no further request on an idle connection",
        Contract.COME_BACK,
        CloseCode.GOING_AWAY,
    )
    SERVING_DEADLINE = (
        "serving-deadline",
        "the server could not answer in time",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    PONG_DEADLINE = ("pong-deadline", "no answer to a ping", Contract.BACK_OFF, CloseCode.NO_PONG)
    MESSAGE_DEADLINE = (
        "message-deadline",
        "a frame or a fragmented message was not finished in time",
        Contract.BACK_OFF,
        CloseCode.POLICY,
    )
    FLUSH_DEADLINE = (
        "flush-deadline",
        "the peer took our bytes too slowly",
        Contract.BACK_OFF,
        CloseCode.TOO_SLOW,
    )
    CLOSE_DEADLINE = (
        "close-deadline",
        "the peer did not finish the close in time",
        Contract.COME_BACK,
        CloseCode.GOING_AWAY,
    )
    BAD_REQUEST = (
        "bad-request",
        "the bytes were not a valid request",
        Contract.DO_NOT,
        CloseCode.PROTOCOL_ERROR,
    )
    HEAD_TOO_LARGE = (
        "head-too-large",
        "the request head was over its limit",
        Contract.DO_NOT,
        CloseCode.TOO_BIG,
    )
    BODY_TOO_LARGE = (
        "body-too-large",
        "the request body was over its limit",
        Contract.DO_NOT,
        CloseCode.TOO_BIG,
    )
    CHUNK_OVERHEAD = (
        "chunk-overhead",
        "a chunked body spent too many wire bytes for what it carried",
        Contract.DO_NOT,
        CloseCode.POLICY,
    )
    UNFINISHED_FULL = (
        "unfinished-full",
        "all unfinished requests, messages and TLS records together were over their limit",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    BAD_FRAME = ("bad-frame", "the bytes were not a valid frame", Contract.DO_NOT, CloseCode.PROTOCOL_ERROR)
    BAD_TEXT = ("bad-text", "a text message was not UTF-8", Contract.DO_NOT, CloseCode.BAD_TEXT)
    MESSAGE_TOO_BIG = ("message-too-big", "a message was over its limit", Contract.DO_NOT, CloseCode.TOO_BIG)
    TOO_MANY_FRAGMENTS = (
        "too-many-fragments",
        "a message came in more fragments than allowed",
        Contract.DO_NOT,
        CloseCode.TOO_BIG,
    )
    FLOOD = (
        "flood",
        "many more frames than it may send, and no end of them",
        Contract.BACK_OFF,
        CloseCode.POLICY,
    )
    REFUSED_FULL = (
        "refused-full",
        "the server holds as many connections as it may",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    REFUSED_ADDRESS = (
        "refused-address",
        "this address holds as many connections as it may",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    REFUSED_DESCRIPTORS = (
        "refused-descriptors",
        "the process is out of descriptors",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    EXPIRED = (
        "expired",
        "its sign-in has run out",
        Contract.DO_NOT,
        CloseCode.SIGNED_OUT,
    )
    EVICTED = (
        "evicted",
        "every place was taken, and it had waited longest without a whole request",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    DRAINING = (
        "draining",
        "the server is stopping or restarting",
        Contract.BACK_OFF,
        CloseCode.SERVICE_RESTART,
    )
    INTERNAL_ERROR = ("internal-error", "a fault of the server's own", Contract.BACK_OFF, CloseCode.INTERNAL)

    def __init__(self, label: str, sentence: str, contract: Contract, close_code: CloseCode) -> None:
        self.label = label
        self.sentence = sentence
        self.contract = contract
        self.close_code = close_code


class ErrorCode(Enum):
    """The `code` of an error body or an `error` message: HTTP status, sentence, contract."""

    BAD_REQUEST = ("bad_request", 400, "the request is not valid HTTP, or not a valid upgrade", Contract.DO_NOT)
    BAD_JSON = ("bad_json", 400, "the message is not a JSON object", Contract.DO_NOT)
    BAD_FIELD = ("bad_field", 400, "a field or parameter is missing, unknown, doubled or not allowed", Contract.DO_NOT)
    BAD_ROOM = ("bad_room", 400, "that is no name for a room", Contract.DO_NOT)
    BAD_CURSOR = ("bad_cursor", 400, "that is no cursor", Contract.DO_NOT)
    UNKNOWN_TYPE = ("unknown_type", 400, "the message's type is not known here", Contract.DO_NOT)
    NOT_JOINED = ("not_joined", 400, "this connection is not in that room", Contract.DO_NOT)
    TOO_MANY_ROOMS = ("too_many_rooms", 400, "this connection is in as many rooms as it may be", Contract.DO_NOT)
    FORBIDDEN = ("forbidden", 403, "this is not allowed, to this user or to a page of another site", Contract.DO_NOT)
    NOT_FOUND = ("not_found", 404, "there is nothing at this path", Contract.DO_NOT)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, "the path has no such method; `Allow` lists them", Contract.DO_NOT)
    TIMEOUT = ("timeout", 408, "the request was not complete in time", Contract.BACK_OFF)
    TOO_LARGE = ("too_large", 413, "the request body is over its limit", Contract.DO_NOT)
    TARGET_TOO_LONG = ("target_too_long", 414, "the path and query are over their limit", Contract.DO_NOT)
    UNSUPPORTED_MEDIA_TYPE = ("unsupported_media_type", 415, "the body is neither JSON nor UTF-8 text", Contract.DO_NOT)
    EXPECTATION_FAILED = ("expectation_failed", 417, "`Expect` asks for what is not known here", Contract.DO_NOT)
    MISDIRECTED = ("misdirected", 421, "`Host` is not a name of this server", Contract.DO_NOT)
    UPGRADE_REQUIRED = ("upgrade_required", 426, "this path speaks WebSocket, version 13", Contract.DO_NOT)
    RATE_LIMITED = ("rate_limited", 429, "this user, address or connection asks too often", Contract.BACK_OFF)
    HEAD_TOO_LARGE = ("head_too_large", 431, "the request head is over its limit", Contract.DO_NOT)
    INTERNAL = ("internal", 500, "a fault of the server's own; it has been logged", Contract.BACK_OFF)
    NOT_IMPLEMENTED = ("not_implemented", 501, "a transfer coding other than chunked", Contract.DO_NOT)
    UNAVAILABLE = (
        "unavailable",
        503,
        "the log is busy, failing or late, or memory is short; use the same `key` again",
        Contract.BACK_OFF,
    )
    FULL = ("full", 503, "the server, or this address, holds as many connections as it may", Contract.BACK_OFF)
    DRAINING = ("draining", 503, "the server is starting or stopping", Contract.BACK_OFF)
    VERSION_NOT_SUPPORTED = ("version_not_supported", 505, "neither HTTP/1.1 nor HTTP/1.0", Contract.DO_NOT)

    def __init__(self, code: str, status: int, sentence: str, contract: Contract) -> None:
        self.code = code
        self.status = status
        self.sentence = sentence
        self.contract = contract
