"""The closed lists: why a connection ended, what an error is called, which code closes a WebSocket.

Owns: every name that a peer, a log line or `/metrics` may show for a failure. May not: import our modules.
A new way to fail is a new row here first; docs/errors.md prints these tables and a test compares the two.
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
    BANNED = 4504


class Reason(Enum):
    """Why a connection ended; every end has one. The name is the label; then sentence, contract, close code."""

    DONE = ("the answer was written and one side had asked to close", Contract.COME_BACK, CloseCode.NORMAL)
    PEER_CLOSED = ("the peer closed in good order", Contract.COME_BACK, CloseCode.NORMAL)
    PEER_RESET = ("the peer reset the connection or vanished", Contract.COME_BACK, CloseCode.NORMAL)
    PROXY_HEADER = (
        "a trusted proxy did not begin with a valid PROXY header, or not in time",
        Contract.DO_NOT,
        CloseCode.PROTOCOL_ERROR,
    )
    TLS_DEADLINE = ("the TLS handshake was not over in time", Contract.BACK_OFF, CloseCode.POLICY)
    TLS_FAILED = (
        "the bytes were not valid TLS, or there was no version or cipher in common",
        Contract.DO_NOT,
        CloseCode.PROTOCOL_ERROR,
    )
    HEAD_DEADLINE = ("no complete request head in time", Contract.BACK_OFF, CloseCode.POLICY)
    BODY_DEADLINE = ("the request body came too slowly", Contract.BACK_OFF, CloseCode.POLICY)
    KEEPALIVE_DEADLINE = ("no further request on an idle connection", Contract.COME_BACK, CloseCode.GOING_AWAY)
    SERVING_DEADLINE = ("the server could not answer in time", Contract.BACK_OFF, CloseCode.TRY_AGAIN_LATER)
    PONG_DEADLINE = ("no answer to a ping", Contract.BACK_OFF, CloseCode.NO_PONG)
    MESSAGE_DEADLINE = ("a frame or a fragmented message was not finished in time", Contract.BACK_OFF, CloseCode.POLICY)
    FLUSH_DEADLINE = ("the peer took our bytes too slowly", Contract.BACK_OFF, CloseCode.TOO_SLOW)
    CLOSE_DEADLINE = ("the peer did not finish the close in time", Contract.COME_BACK, CloseCode.GOING_AWAY)
    BAD_REQUEST = ("the bytes were not a valid request", Contract.DO_NOT, CloseCode.PROTOCOL_ERROR)
    HEAD_TOO_LARGE = ("the request head was over its limit", Contract.DO_NOT, CloseCode.TOO_BIG)
    BODY_TOO_LARGE = ("the request body was over its limit", Contract.DO_NOT, CloseCode.TOO_BIG)
    CHUNK_OVERHEAD = ("a chunked body spent too many wire bytes for what it carried", Contract.DO_NOT, CloseCode.POLICY)
    UNFINISHED_FULL = (
        "all unfinished requests, messages and TLS records were over their limit, its network's over a share",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    BAD_FRAME = ("the bytes were not a valid frame", Contract.DO_NOT, CloseCode.PROTOCOL_ERROR)
    BAD_TEXT = ("a text message was not UTF-8", Contract.DO_NOT, CloseCode.BAD_TEXT)
    MESSAGE_TOO_BIG = ("a message was over its limit", Contract.DO_NOT, CloseCode.TOO_BIG)
    TOO_MANY_FRAGMENTS = ("a message came in more fragments than allowed", Contract.DO_NOT, CloseCode.TOO_BIG)
    FLOOD = ("the peer kept sending far more than it may", Contract.BACK_OFF, CloseCode.POLICY)
    REFUSED_FULL = ("the server holds as many connections as it may", Contract.BACK_OFF, CloseCode.TRY_AGAIN_LATER)
    REFUSED_ADDRESS = ("this network holds as many connections as it may", Contract.BACK_OFF, CloseCode.TRY_AGAIN_LATER)
    REFUSED_DESCRIPTORS = ("the process is out of descriptors", Contract.BACK_OFF, CloseCode.TRY_AGAIN_LATER)
    EXPIRED = ("the sign-in has expired, or there was none where one is needed", Contract.DO_NOT, CloseCode.SIGNED_OUT)
    BANNED = ("a moderator has banned its user or network", Contract.DO_NOT, CloseCode.BANNED)
    KICKED = ("a moderator has taken its user out of the room", Contract.COME_BACK, CloseCode.NORMAL)
    EVICTED = (
        "every place was taken, and it had waited longest without a whole request",
        Contract.BACK_OFF,
        CloseCode.TRY_AGAIN_LATER,
    )
    DRAINING = ("the server is stopping or restarting", Contract.BACK_OFF, CloseCode.SERVICE_RESTART)
    INTERNAL_ERROR = ("a fault of the server's own", Contract.BACK_OFF, CloseCode.INTERNAL)

    def __init__(self, sentence: str, contract: Contract, close_code: CloseCode) -> None:
        self.label = self.name.lower().replace("_", "-")
        self.sentence = sentence
        self.contract = contract
        self.close_code = close_code


class ErrorCode(Enum):
    """The `code` of an error body or an `error` message is the name; then HTTP status, sentence, contract."""

    BAD_REQUEST = (400, "the request is not valid HTTP, or not a valid upgrade", Contract.DO_NOT)
    BAD_JSON = (400, "the message is not a JSON object", Contract.DO_NOT)
    BAD_FIELD = (400, "a field or parameter is missing, unknown, doubled or not allowed", Contract.DO_NOT)
    BAD_ROOM = (400, "the name of the room is not valid", Contract.DO_NOT)
    BAD_CURSOR = (400, "the cursor is not valid", Contract.DO_NOT)
    UNKNOWN_TYPE = (400, "the message's type is not known here", Contract.DO_NOT)
    NOT_JOINED = (400, "this connection is not in that room", Contract.DO_NOT)
    TOO_MANY_ROOMS = (400, "this connection is in as many rooms as it may be", Contract.DO_NOT)
    UNAUTHENTICATED = (401, "this needs a sign-in, or the token or cookie is not valid", Contract.DO_NOT)
    FORBIDDEN = (403, "this is not allowed, to this user or to a page of another site", Contract.DO_NOT)
    NOT_FOUND = (404, "there is nothing at this path, or no message at this offset", Contract.DO_NOT)
    METHOD_NOT_ALLOWED = (405, "the path has no such method; `Allow` lists them", Contract.DO_NOT)
    TIMEOUT = (408, "the request was not complete in time", Contract.BACK_OFF)
    ANOTHER_USER = (409, "`as_user` names another user; nothing was done", Contract.DO_NOT)
    GONE = (410, "the message was deleted", Contract.DO_NOT)
    TOO_LARGE = (413, "the request body is over its limit", Contract.DO_NOT)
    TARGET_TOO_LONG = (414, "the path and query are over their limit", Contract.DO_NOT)
    UNSUPPORTED_MEDIA_TYPE = (415, "the body is neither JSON nor UTF-8 text, or is compressed", Contract.DO_NOT)
    EXPECTATION_FAILED = (417, "`Expect` has a value other than `100-continue`", Contract.DO_NOT)
    MISDIRECTED = (421, "`Host` is not a name of this server", Contract.DO_NOT)
    UPGRADE_REQUIRED = (426, "this path speaks WebSocket, version 13", Contract.DO_NOT)
    RATE_LIMITED = (429, "this user, network or connection sends too much", Contract.BACK_OFF)
    HEAD_TOO_LARGE = (431, "the request head is over its limit", Contract.DO_NOT)
    INTERNAL = (500, "a fault of the server's own; it has been logged", Contract.BACK_OFF)
    NOT_IMPLEMENTED = (501, "a transfer coding other than chunked", Contract.DO_NOT)
    UNAVAILABLE = (
        503,
        "the log is busy, failing or late, or memory is short; use the same `key` again",
        Contract.BACK_OFF,
    )
    FULL = (503, "the server, or this network, holds as many connections as it may", Contract.BACK_OFF)
    DRAINING = (503, "the server is starting or stopping", Contract.BACK_OFF)
    VERSION_NOT_SUPPORTED = (505, "neither HTTP/1.1 nor HTTP/1.0", Contract.DO_NOT)

    def __init__(self, status: int, sentence: str, contract: Contract) -> None:
        self.code = self.name.lower()
        self.status = status
        self.sentence = sentence
        self.contract = contract


#: Ends, and refusals, that a slow link, a mistyped address or an old token does not cause: they demote the peer
#: (net/demotion.py). A rate that was exceeded is none: after a stall, a person's program sends all that had to wait.
DEMOTING_ENDS = frozenset((
    Reason.TLS_FAILED, Reason.BAD_REQUEST, Reason.HEAD_TOO_LARGE, Reason.BODY_TOO_LARGE, Reason.CHUNK_OVERHEAD,
    Reason.BAD_FRAME, Reason.BAD_TEXT, Reason.MESSAGE_TOO_BIG, Reason.TOO_MANY_FRAGMENTS, Reason.FLOOD,
))  # fmt: skip
DEMOTING_REFUSALS = frozenset((
    ErrorCode.BAD_REQUEST, ErrorCode.BAD_JSON, ErrorCode.BAD_FIELD, ErrorCode.TOO_MANY_ROOMS, ErrorCode.TOO_LARGE,
    ErrorCode.TARGET_TOO_LONG, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.HEAD_TOO_LARGE,
))  # fmt: skip
