"""Request heads: finding the end of one, and parsing it.

Owns: the search for the blank line, and every reason to refuse a head. The grammar of lines is h11's; this module also
refuses what h11 allows (obs-fold, bare LF, equal lengths, `Content-Length` beside `Transfer-Encoding`, any `Host`),
because a proxy in front may read those differently, and two readings of one request are a smuggled request.
A head is parsed only when complete, so an incomplete one costs only its bytes.
"""

import re
from enum import Enum
from urllib.parse import unquote_to_bytes

import msgspec
from h11._abnf import OWS, field_content, field_name, request_line

from chatserver.protocol.errors import HttpError
from chatserver.reasons import ErrorCode, Reason


class HeadLimits(msgspec.Struct, frozen=True, gc=False):
    """How much head a peer may send."""

    max_bytes: int
    max_fields: int
    max_target: int = 8 * 1024  # bytes; Apache 8,190 and nginx 8 KiB for the whole request line


class BodyKind(Enum):
    """How the end of the body is found."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request head that passed every check."""

    method: str
    path: str  # percent-decoded; valid UTF-8 without control characters
    query: str  # as sent, without the "?"; see `query_fields`
    headers: dict[str, str]  # lower-case names; repeated ones joined with ", " (cookies with "; ")
    body: BodyKind
    content_length: int  # 0 unless body is LENGTH
    keep_alive: bool
    expects_continue: bool
    version: str  # "1.1" or "1.0"


_TOKEN_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CR, _TLS_HANDSHAKE = 0x0D, 0x16
_VERSIONS = ("1.1", "1.0")
#: h11's grammar, for a head as Latin-1. ASCII: 0x85 and 0xA0 are no white space, as in h11's expressions of bytes.
_REQUEST_LINE = re.compile(rf"{request_line}(?=\r\n)", re.ASCII)
_FIELD_LINE = re.compile(rf"\r\n({field_name}):{OWS}((?:{field_content})?){OWS}(?=\r\n)", re.ASCII)
_BLANK_LINE = b"\r\n\r\n"  # with the end of the line before it
_NO_FIELDS = 2  # lines of a head without fields: the request line and the blank line
#: Globals for each request: to look up a member of an enum costs CPython 3.11 some 900 instructions.
NO_BODY, _LENGTH, CHUNKED = BodyKind
_NOTHING = (NO_BODY, 0)
_BLANK_LINES = 4  # bytes: two empty lines before a request are ignored; RFC 9112 section 2.2 asks for at least one
_REQUEST_LINE_REST = 64  # bytes: the request line's method, version and spaces, generously
# Parts that take 30 to 100 ns each: words and list items of a head (browsers send 50), and escapes in a target (a poll
# of 100 rooms has 200). A head below 2 KiB cannot have enough of them to matter.
_MAX_PARTS, _MAX_ESCAPES, _LONG_HEAD = 1000, 1000, 2 * 1024
_NOT_CONTROLS = bytes(byte for byte in range(256) if (byte >= 0x20 and byte != 0x7F) or byte == 0x09)
_ABSOLUTE_FORM = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_CONTENT_LENGTH = re.compile(r"[0-9]{1,20}")
_ORIGIN = re.compile(rb"\norigin:([^\r\n]*)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NO_REQUEST_LINE = "the request line is not a method, a target and HTTP/1.1, with one space between"
_NOT_ASCII = "the request line has bytes beyond ASCII; percent-encode them, in UTF-8: %C3%A9 for é"
_NO_FIELD = "a header field is not a name, a colon and a value"
_FOLDED = "a folded header field (obsolete, RFC 9112 section 5.2)"


def find_head_end(buffer: bytes | bytearray, searched: int, limits: HeadLimits) -> int:
    """Where the head ends (just past its blank line), or 0 while it is incomplete.

    `searched` is how many bytes earlier calls have seen, so that a head that comes a byte at a time is searched once in
    all. Bytes that can never become a request are refused at once, not at the deadline.
    """
    if not buffer:
        return 0
    start = _skip_blank_lines(buffer) if buffer[0] == _CR else 0
    if start < len(buffer) and buffer[start] not in _TOKEN_BYTES:
        message = f"a request cannot begin with byte 0x{buffer[start]:02x}"
        if buffer[start] == _TLS_HANDSHAKE:
            message = "this port speaks plain HTTP, and that was a TLS handshake"
        raise HttpError(ErrorCode.BAD_REQUEST, message)
    found = buffer.find(_BLANK_LINE, max(searched - 3, start), limits.max_bytes)
    if found >= 0:
        return found + len(_BLANK_LINE)
    # An incomplete head has no bytes of a body, so a fault in it is final. Each byte is checked once.
    fresh = max(searched - 1, 0)
    unfinished = buffer[fresh : limits.max_bytes]
    lines = _count_lines(unfinished, unfinished.startswith(b"\n") + unfinished.endswith(b"\r"))
    # This counts in the whole head, but only when a line has ended: at most 101 times, then the head is refused.
    if lines and buffer.count(b"\r\n", start) - 1 > limits.max_fields:
        raise _too_large(f"more than {limits.max_fields} header fields, limit {limits.max_fields}")
    line_end = buffer.find(b"\r\n", start) if lines else -1
    if line_end >= fresh and buffer.find(b" HTTP/", start, line_end) < 0:
        raise HttpError(ErrorCode.BAD_REQUEST, _NO_REQUEST_LINE)  # HTTP/0.9, or a client of another protocol
    line_limit = start + limits.max_target + _REQUEST_LINE_REST
    if len(buffer) > line_limit and buffer.find(b"\n", start, line_limit) < 0:
        raise _target_too_long(limits)
    if len(buffer) >= limits.max_bytes:
        raise _too_large(f"the request head is over its limit of {limits.max_bytes:,} bytes")
    return 0


def _skip_blank_lines(buffer: bytes | bytearray) -> int:
    start = 0
    while start < _BLANK_LINES and buffer[start : start + 2] == b"\r\n":
        start += 2
    if len(buffer) == start + 1 and buffer[start] == _CR:
        return start + 1  # half a line break: wait for the rest
    return start


def _count_lines(wire: bytes | bytearray, halves: int = 0) -> int:
    """Count the line ends; `halves` of one are at the ends of `wire`, their other bytes before and after it.

    h11 allows bare LFs, control characters in values and folded lines. Here each control character but TAB must be part
    of a line end.
    """
    lines = wire.count(b"\r\n")
    if len(wire.translate(None, _NOT_CONTROLS)) > 2 * lines + halves:
        message = "a bare CR, bare LF or other control character in the request head; lines end with CR LF"
        raise HttpError(ErrorCode.BAD_REQUEST, message)
    return lines


def _too_large(message: str, code: ErrorCode = ErrorCode.HEAD_TOO_LARGE) -> HttpError:
    return HttpError(code, message, reason=Reason.HEAD_TOO_LARGE)


def _target_too_long(limits: HeadLimits) -> HttpError:
    message = f"the request target is over its limit of {limits.max_target:,} bytes"
    return _too_large(message, ErrorCode.TARGET_TOO_LONG)


def parse_head(head: bytes, limits: HeadLimits) -> Head:
    """Parse one complete head, which ends with its blank line. Raises HttpError for anything wrong with it."""
    if head[:1] == b"\r":
        head = head[_skip_blank_lines(head) :]
    lines = _count_fields(head, limits)
    text = head.decode("latin-1")
    method, target, version = _request_line(text, limits)
    headers = _headers(text, lines)
    if version == "1.1" and "host" not in headers:
        raise HttpError(ErrorCode.BAD_REQUEST, "Host is missing")
    path, query = _split_target(target, headers)
    if "host" in headers and not _HOST.fullmatch(headers["host"]):
        raise HttpError(ErrorCode.BAD_REQUEST, "Host is not the name or address of a host")
    body, content_length = _NOTHING
    if "content-length" in headers or "transfer-encoding" in headers:
        body, content_length = _framing(headers, version)
    expects_continue = "expect" in headers and _expects_continue(headers["expect"], version)
    return Head(
        method,
        path,
        query,
        headers,
        body,
        content_length,
        # HTTP/1.0 is never kept alive, as in h11: its keep-alive is unreliable through proxies.
        version == "1.1" and not has_token(headers.get("connection"), "close"),
        expects_continue and body is not NO_BODY,
        version,
    )


def origin_in(sent: bytes) -> str | None:
    """The first `Origin` in the bytes of a head that need not be valid or complete."""
    field = _ORIGIN.search(sent)
    return None if field is None else field[1].strip(b" \t").decode("latin-1")


def _count_fields(head: bytes, limits: HeadLimits) -> int:
    """The lines of fields in a head of bounded cost."""
    fields = _count_lines(head) - _NO_FIELDS
    if fields > limits.max_fields:
        raise _too_large(f"{fields:,} header fields, limit {limits.max_fields}")
    if len(head) > _LONG_HEAD:
        parts = head.count(b",") + head.count(b" ") + head.count(b"\t")
        if parts > _MAX_PARTS:
            raise _too_large(f"the request head has {parts:,} commas and spaces, limit {_MAX_PARTS:,}")
    return fields


def _request_line(text: str, limits: HeadLimits) -> tuple[str, str, str]:
    """Method, target and version."""
    line = _REQUEST_LINE.match(text)
    if line is None:
        is_ascii = text.partition("\r\n")[0].isascii()
        raise HttpError(ErrorCode.BAD_REQUEST, _NO_REQUEST_LINE if is_ascii else _NOT_ASCII)
    method, target, version = line.groups()
    if version not in _VERSIONS:
        raise HttpError(ErrorCode.VERSION_NOT_SUPPORTED, f"HTTP/{version} is not supported; HTTP/1.1 is")
    if len(target) > limits.max_target:
        raise _target_too_long(limits)
    return method, target, version


def _headers(text: str, lines: int) -> dict[str, str]:
    """The fields by name, of a head with so many lines of them."""
    fields: list[tuple[str, str]] = _FIELD_LINE.findall(text)
    if len(fields) != lines:
        folded = "\r\n " in text or "\r\n\t" in text
        raise HttpError(ErrorCode.BAD_REQUEST, _FOLDED if folded else _NO_FIELD)
    headers = {name.lower(): value for name, value in fields}
    if len(headers) == lines:
        return headers
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    if len(values.get("host", ())) > 1:
        raise HttpError(ErrorCode.BAD_REQUEST, "more than one Host")
    return {name: ("; " if name == "cookie" else ", ").join(several) for name, several in values.items()}


def _split_target(target: str, headers: dict[str, str]) -> tuple[str, str]:
    if target[0] != "/":
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None:
            raise HttpError(ErrorCode.BAD_REQUEST, "the request target is neither a path nor a URL")
        # RFC 9112 section 3.2.2: the target's authority replaces whatever Host said.
        headers["host"], target = absolute.group(1), absolute.group(2)
        if target[:1] != "/":
            target = "/" + target
    if "#" in target:
        raise HttpError(ErrorCode.BAD_REQUEST, "a fragment in the request target")
    if target.count("%") > _MAX_ESCAPES:
        message = f"the request target has {target.count('%'):,} escapes, limit {_MAX_ESCAPES:,}"
        raise _too_large(message, ErrorCode.TARGET_TOO_LONG)
    path, _, query = target.partition("?")
    if "%" in path:
        if "%2f" in path.lower():  # it is a part of a name, but no name here has one
            raise HttpError(ErrorCode.BAD_REQUEST, "an escaped / in the path")
        try:
            path = unquote_to_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            raise HttpError(ErrorCode.BAD_REQUEST, "the path is not UTF-8") from None
        if _CONTROL.search(path):
            raise HttpError(ErrorCode.BAD_REQUEST, "a control character in the path")
    return path, query


def _framing(headers: dict[str, str], version: str) -> tuple[BodyKind, int]:
    """The kind and announced length of a body that is sent as it is."""
    length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
    if encoding is None:
        assert length is not None, "one of the two is there"
        if "," in length:  # h11 merges equal ones, which a proxy may not do
            raise HttpError(ErrorCode.BAD_REQUEST, "more than one Content-Length")
        if not _CONTENT_LENGTH.fullmatch(length):
            raise HttpError(ErrorCode.BAD_REQUEST, "Content-Length is not a number of at most 20 digits")
        body = (_LENGTH, int(length)) if int(length) else _NOTHING
    else:
        if encoding.lower() != "chunked":
            raise HttpError(ErrorCode.NOT_IMPLEMENTED, "the only supported Transfer-Encoding is chunked")
        if length is not None:
            raise HttpError(ErrorCode.BAD_REQUEST, "both Content-Length and Transfer-Encoding")
        if version == "1.0":
            raise HttpError(ErrorCode.BAD_REQUEST, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
        body = (CHUNKED, 0)
    if headers.get("content-encoding", "").lower() not in ("", "identity"):
        spoken = (("Accept-Encoding", "identity"),)  # RFC 9110 section 15.5.16
        message = "Content-Encoding is not supported; send the body as it is"
        raise HttpError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, headers=spoken)
    return body


def _expects_continue(expectation: str, version: str) -> bool:
    """Whether a client waits for our 100 before its body; HTTP/1.0 has no expectations (RFC 9110 section 10.1.1)."""
    if version == "1.0":
        return False
    if expectation.lower() != "100-continue":
        raise HttpError(ErrorCode.EXPECTATION_FAILED, "the only supported expectation is 100-continue")
    return True


def has_token(value: str | None, token: str) -> bool:
    """Whether a lower-case token is in a header value."""
    if value is None:
        return False
    value = value.lower()
    return value == token or (token in value and token in [part.strip(" \t") for part in value.split(",")])
