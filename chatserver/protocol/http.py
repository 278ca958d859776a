"""HTTP/1.1 in one import: heads, bodies and answers. See `head`, `body` and `response` for the thought."""

from chatserver.protocol.body import Body, BodyLimits, ChunkedBody, LengthBody, body_reader
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import BodyKind, Head, HeadLimits, find_head_end, parse_head, tokens
from chatserver.protocol.response import (
    CONTINUE,
    cookie,
    error_body,
    error_response,
    query_fields,
    response,
)

__all__ = [
    "CONTINUE",
    "Body",
    "BodyKind",
    "BodyLimits",
    "ChunkedBody",
    "Head",
    "HeadLimits",
    "HttpError",
    "LengthBody",
    "body_reader",
    "cookie",
    "error_body",
    "error_response",
    "find_head_end",
    "parse_head",
    "query_fields",
    "response",
    "tokens",
]
