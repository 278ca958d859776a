"""Responses as bytes, and the small header formats that requests use: queries and cookies.

Owns: the form of an answer on the wire. Every answer has Content-Length, Content-Type and Connection (204 and 304 only
the last), so that no client has to guess where it ends or whether another may follow. Answers are formatted by hand in
less than 1 µs, where h11 takes 14; the tests read them with h11's client.
"""

import math
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import msgspec

from chatserver.protocol.errors import Headers, HttpError, MessageError
from chatserver.reasons import ErrorCode

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = "application/json"
MAX_COOKIES = 600  # read in one header; browsers keep 180 to 600 for a host
#: Besides a poll's rooms, whose number is a setting; 8 KiB hold 4,000 fields.
MAX_QUERY_FIELDS = 100

#: A 401 must name the way to authenticate (RFC 9110 section 11.6.1), and Bearer a parameter (RFC 6750 section 3).
CHALLENGE = (("WWW-Authenticate", 'Bearer realm="chat"'),)
#: Browsers must not guess the type of an answer, because a message's text may look like a page.
NOSNIFF = ("X-Content-Type-Options", "nosniff")
#: They have no body, and so no type and no length (RFC 9110 section 8.6).
BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
#: An answer in JSON depends on who asks, often by a cookie alone: a cache in front would give it to the next one.
NOT_STORED = ("Cache-Control", "no-store")


def response_head(
    status: int, length: int, *, content_type: str = JSON, headers: Headers = (), keep_alive: bool = True,
    date: bytes = b"",
) -> bytes:  # fmt: skip
    """The head of an answer with a body of this length; `date` is a `date_line`, for an answer that is made when sent.

    Answers 2xx, 3xx and 4xx must have one, those made in advance cannot (RFC 9110 section 6.6.1).
    """
    fixed = _fixed_head(status, content_type, keep_alive)
    if status in BODILESS:
        return b"%b%b%b\r\n" % (fixed, date, header_lines(headers))
    return b"%b%d\r\n%b%b\r\n" % (fixed, length, date, header_lines(headers) if headers else b"")


@lru_cache(maxsize=1)
def date_line(second: int) -> bytes:
    """The Date of an answer that is made at this time, in seconds since 1970."""
    return header_lines((("Date", formatdate(second, usegmt=True)),))


# Twice the number of combinations of status and content type in the program.
@lru_cache(maxsize=512)
def _fixed_head(status: int, content_type: str, keep_alive: bool) -> bytes:
    connection = "keep-alive" if keep_alive else "close"
    if status == HTTPStatus.UPGRADE_REQUIRED:
        connection += ", upgrade"  # a field Upgrade must be named here (RFC 9110 section 7.8)
    if status in BODILESS:
        return status_line(status) + header_lines((("Connection", connection),))
    caching = (NOT_STORED,) if content_type == JSON else ()
    lines = header_lines((("Content-Type", content_type), NOSNIFF, *caching, ("Connection", connection)))
    return status_line(status) + lines + b"Content-Length: "


def status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode("ascii")


def header_lines(headers: Headers) -> bytes:
    """Header fields as lines. Raises for a line break in one, a bug of ours that would split the answer."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if not lines.count("\r") == lines.count("\n") == len(headers) or "\0" in lines:
        raise ValueError(f"line break in one of {headers!r}")
    return lines.encode("latin-1")


def retry_after(seconds: float | None) -> Headers:
    """Retry-After in whole seconds, if the time is known (RFC 9110 section 10.2.3)."""
    return () if seconds is None else (("Retry-After", str(max(1, math.ceil(seconds)))),)


def with_retry_after(wire: bytes, seconds: int) -> bytes:
    """A complete answer, which many requests may share, with Retry-After added if it has none."""
    if b"\r\nRetry-After: " in wire[: wire.index(b"\r\n\r\n")]:
        return wire
    return with_headers(wire, retry_after(seconds))


def with_headers(wire: bytes, headers: Headers) -> bytes:
    """A complete answer, which many requests may share, with these fields added."""
    line, rest = wire.split(b"\r\n", 1)
    return b"%b\r\n%b%b" % (line, header_lines(headers), rest)


def error_body(code: ErrorCode, message: str, room: str | None = None) -> bytes:
    """The JSON of an error answer; `room` is the refused one of a request for many rooms."""
    place = {} if room is None else {"room": room}
    return json_body({"error": {"code": code.code, "message": message, **place}})


def json_body(content: object) -> bytes:
    """JSON as the body of an answer. It ends with a line feed, so that a terminal's prompt begins a new line."""
    return msgspec.json.encode(content) + b"\n"


def error_response(
    error: HttpError | MessageError, *, headers: Headers = (), keep_alive: bool = False, head_only: bool = False,
    date: bytes = b"",
) -> bytes:  # fmt: skip
    """The answer to a request that was refused. `head_only`: to a HEAD, which has only the length of the body."""
    own, room = (error.headers, None) if isinstance(error, HttpError) else (retry_after(error.wait), error.room)
    if error.code is ErrorCode.UNAUTHENTICATED:
        own += CHALLENGE
    body = error_body(error.code, error.message, room)
    head = response_head(error.code.status, len(body), headers=own + headers, keep_alive=keep_alive, date=date)
    return head if head_only else head + body


def query_fields(query: str, most: int = MAX_QUERY_FIELDS) -> list[tuple[str, str]]:
    """The fields of a query string, in order. Raises HttpError if one is not UTF-8, or there are more than `most`."""
    if query.count("&") >= most:
        raise HttpError(ErrorCode.BAD_REQUEST, f"more than {most} fields in the query")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    if "%" not in query and "+" not in query:
        return [(name, value) for name, _, value in pairs]
    try:
        return [(_unquoted(name), _unquoted(value)) for name, _, value in pairs]
    except UnicodeDecodeError:
        raise HttpError(ErrorCode.BAD_REQUEST, "the query is not UTF-8") from None


def _unquoted(text: str) -> str:
    # urllib's parse_qsl costs four times as much: 300 µs for 200 rooms in a query.
    text = text.replace("+", " ")
    return unquote_to_bytes(text).decode("utf-8") if "%" in text else text


def cookie(header: str, name: str) -> str | None:
    """The value of the first cookie of this name in a Cookie header.

    The first, because a browser sends the cookie with the more specific path first (RFC 6265 section 5.4).
    """
    for pair in header.split(";", MAX_COOKIES)[:MAX_COOKIES]:
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            return value.strip().strip('"')
    return None
