"""Request heads: finding the end of one, and parsing it.

Owns: the search for the blank line, and every reason to refuse a head. The grammar of lines and the rules for lengths
and encodings are h11's; this module also refuses what h11 allows (obs-fold, bare LF, `Content-Length` beside
`Transfer-Encoding`, any `Host`), because a proxy in front may read those differently, and two readings of one request
are a smuggled request.
May not: keep an h11 object alive. A head is parsed only when complete, so an incomplete one costs only its bytes.
"""

import re
from enum import Enum
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

import h11
import msgspec
from h11._headers import normalize_and_validate
from h11._readers import header_field_re, request_line_re

from chatserver.protocol.errors import HttpError
from chatserver.reasons import ErrorCode, Reason


class HeadLimits(msgspec.Struct, frozen=True, gc=False):
    """How much head a peer may send."""

    max_bytes: int = 16 * 1024  # h11 and IIS 16 KiB, tomcat 8, Kestrel 32, node 80
    max_fields: int = 100  # Kestrel and Apache 100
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


#: A field as h11 gives it: its name as sent, its name in lower case, its value.
_Field: TypeAlias = tuple[bytes, bytes, bytes]

_TOKEN_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CR, _TLS_HANDSHAKE = 0x0D, 0x16
_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
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
_CONTENT_LENGTH = re.compile(rb"\ncontent-length[ \t]*:([^\r]*)", re.IGNORECASE)
_ORIGIN = re.compile(rb"\norigin:([^\r\n]*)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NO_REQUEST_LINE = "the request line is not a method, a target and HTTP/1.1, with one space between"


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
    fields = _count_lines(head) - _NO_FIELDS
    if fields > limits.max_fields:
        raise _too_large(f"{fields:,} header fields, limit {limits.max_fields}")
    if len(head) > _LONG_HEAD:
        parts = head.count(b",") + head.count(b" ") + head.count(b"\t")
        if parts > _MAX_PARTS:
            raise _too_large(f"the request head has {parts:,} commas and spaces, limit {_MAX_PARTS:,}")
    line, items = _parse_with_h11(head)
    version = _VERSIONS.get(line["http_version"])
    if version is None:
        message = f"HTTP/{line['http_version'].decode('ascii')} is not supported; HTTP/1.1 is"
        raise HttpError(ErrorCode.VERSION_NOT_SUPPORTED, message)
    target = line["target"].decode("ascii")
    if len(target) > limits.max_target:
        raise _target_too_long(limits)
    headers = _headers(items, fields)
    if version == "1.1" and "host" not in headers:
        raise HttpError(ErrorCode.BAD_REQUEST, "Host is missing")
    path, query = _split_target(target, headers)
    host = headers.get("host")
    if host is not None and not _HOST.fullmatch(host):
        raise HttpError(ErrorCode.BAD_REQUEST, "Host is not the name or address of a host")
    body, content_length = _NOTHING
    if "content-length" in headers or "transfer-encoding" in headers:
        body, content_length = _framing(head, headers, version)
        if "content-encoding" in headers and headers["content-encoding"].lower() not in ("", "identity"):
            spoken = (("Accept-Encoding", "identity"),)  # RFC 9110 section 15.5.16
            message = "Content-Encoding is not supported; send the body as it is"
            raise HttpError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, headers=spoken)
    expects_continue = False
    if "expect" in headers and version == "1.1":
        if headers["expect"].lower() != "100-continue":
            raise HttpError(ErrorCode.EXPECTATION_FAILED, "the only supported expectation is 100-continue")
        expects_continue = body is not NO_BODY
    return Head(
        line["method"].decode("ascii"),
        path,
        query,
        headers,
        body,
        content_length,
        # HTTP/1.0 is never kept alive, as in h11: its keep-alive is unreliable through proxies.
        version == "1.1" and not has_token(headers.get("connection"), "close"),
        expects_continue,
        version,
    )


def origin_in(sent: bytes) -> str | None:
    """The first `Origin` in the bytes of a head that need not be valid or complete."""
    field = _ORIGIN.search(sent)
    return None if field is None else field[1].strip(b" \t").decode("latin-1")


def _parse_with_h11(head: bytes) -> tuple[re.Match[bytes], list[_Field]]:
    """The request line and the fields, by h11's grammar and its rules for lengths and encodings.

    h11's own reader copies the head into a buffer, and makes an object that would be dropped at once.
    """
    first, *lines = head[: -len(_BLANK_LINE)].split(b"\r\n")
    request = request_line_re.fullmatch(first)
    if request is None:
        raise HttpError(ErrorCode.BAD_REQUEST, _NO_REQUEST_LINE)
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        field = header_field_re.fullmatch(line)
        if field is None:
            raise HttpError(ErrorCode.BAD_REQUEST, _FOLDED if line[:1] in (b" ", b"\t") else _NO_FIELD)
        fields.append((field["field_name"], field["field_value"]))
    try:
        return request, normalize_and_validate(fields, _parsed=True)._full_items
    except h11.ProtocolError as error:
        code = ErrorCode.NOT_IMPLEMENTED if error.error_status_hint == 501 else ErrorCode.BAD_REQUEST
        message = _WORDS.get(str(error).partition(":")[0], "the request head is not valid HTTP/1.1")
        raise HttpError(code, message) from None


_NO_FIELD = "a header field is not a name, a colon and a value"
_FOLDED = "a folded header field (obsolete, RFC 9112 section 5.2)"
#: Our messages for h11's errors, by its message up to the first colon. Some of its own include the repr of bytes.
_WORDS = {
    "bad Content-Length": "Content-Length is not a number of at most 20 digits",
    "conflicting Content-Length headers": "more than one Content-Length",
    "multiple Transfer-Encoding headers": "more than one Transfer-Encoding",
    "Only Transfer-Encoding": "the only supported Transfer-Encoding is chunked",
}


def _headers(items: list[_Field], sent: int) -> dict[str, str]:
    """The fields by name; `sent` is how many there were, since h11 joins equal lengths, which a proxy may not do."""
    if len(items) != sent:
        raise HttpError(ErrorCode.BAD_REQUEST, "more than one Content-Length")
    headers = {name.decode("ascii"): value.decode("latin-1") for _, name, value in items}
    if len(headers) == len(items):
        return headers
    values: dict[str, list[str]] = {}
    for _, name, value in items:
        values.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
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


def _framing(head: bytes, headers: dict[str, str], version: str) -> tuple[BodyKind, int]:
    length = headers.get("content-length")
    if "transfer-encoding" not in headers:
        assert length is not None, "one of the two is there"
        # h11 merges a list of equal lengths into one, so this searches the bytes as sent.
        sent = _CONTENT_LENGTH.search(head)
        if sent is None or b"," in sent[1]:
            raise HttpError(ErrorCode.BAD_REQUEST, "more than one Content-Length")
        return (_LENGTH, int(length)) if int(length) else _NOTHING
    if length is not None:
        raise HttpError(ErrorCode.BAD_REQUEST, "both Content-Length and Transfer-Encoding")
    if version == "1.0":
        raise HttpError(ErrorCode.BAD_REQUEST, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
    return CHUNKED, 0


def has_token(value: str | None, token: str) -> bool:
    """Whether a lower-case token is in a header value."""
    if value is None:
        return False
    value = value.lower()
    return value == token or (token in value and token in [part.strip(" \t") for part in value.split(",")])
