"""Costly input is refused by its size, its number or its rate before any work on it.

Its cost in microseconds: tests/bench/costly.py.
"""

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import msgspec
import pytest

from chatserver.protocol.bodies import decode_publish
from chatserver.protocol.client_messages import MAX_JSON_BYTES, decode
from chatserver.protocol.errors import MessageError
from chatserver.protocol.validation import MAX_TEXT_BYTES, check_text
from chatserver.reasons import ErrorCode
from tests.support.costly import costs

#: Calls of functions, Python's and C's, for one request or one read of frames. The costliest, 64 frames of wsproto,
#: takes 4,300; without limits 8,000 cookies take 24,000, and 4,000 proxies 97,000.
MAX_CALLS = 6_000


def calls_of(cost: Callable[[], None]) -> int:
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event.endswith("call")

    cost()  # fills caches and makes the spare parser
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        cost()
    finally:
        sys.setprofile(before)
    return calls


def test_no_input_takes_many_calls() -> None:
    """A call takes at least 50 ns, so this test finds a loop over unbounded input."""
    calls = {name: calls_of(cost) for name, cost in costs().items()}
    assert {name: number for name, number in calls.items() if number > MAX_CALLS} == {}


def looked_at(*_: object) -> NoReturn:
    """Replaces each method that reads the content."""
    raise AssertionError("the content was read")


class Unread(str):
    """A text of which only the length, and whether it is ASCII, may be read."""

    __slots__ = ()
    count = encode = find = isprintable = isspace = replace = translate = looked_at  # type: ignore[assignment]
    __iter__ = __getitem__ = looked_at


class UnreadBytes(bytes):
    """Bytes of which only the length may be read."""

    count = decode = find = replace = translate = looked_at  # type: ignore[assignment]
    __iter__ = __getitem__ = looked_at


def test_a_text_that_is_too_long_is_not_read() -> None:
    """Otherwise 62 KB of balanced isolates take 2.4 ms before they are refused for their length."""
    for character in ("x", "\u2066", "\u0301", "\0", "\r\n", "\ud800", " "):
        with pytest.raises(MessageError, match=r"^text: [0-9,]+ characters, limit 8,192 bytes"):
            check_text(Unread(character * (2 * MAX_TEXT_BYTES + 1)))


def test_a_body_or_a_message_that_is_too_long_is_not_read() -> None:
    with pytest.raises(MessageError, match="text: 16,385 bytes, limit 8,192"):
        decode_publish("lobby", UnreadBytes(b"\xff" * (2 * MAX_TEXT_BYTES + 1)), "text/plain")
    for data in (UnreadBytes(b"\xff" * (MAX_JSON_BYTES + 1)), Unread("\ud800" * (MAX_JSON_BYTES + 1))):
        with pytest.raises(MessageError, match="26,625 bytes of JSON, limit 26,624") as refused:
            decode(data) if isinstance(data, str) else decode_publish("lobby", data, "application/json")
        assert refused.value.code is ErrorCode.TOO_LARGE


def test_the_longest_text_fits_however_it_is_written() -> None:
    """As bytes, as UTF-8 with two escaped characters, and as ASCII with every other character escaped."""
    for text in ("x" * MAX_TEXT_BYTES, '"' * MAX_TEXT_BYTES, "ü" * (MAX_TEXT_BYTES // 2), "😀" * (MAX_TEXT_BYTES // 4)):
        for encode in (json.dumps, msgspec.json.encode):
            written = encode({"text": text, "key": "ü" * 64})
            body = written.encode() if isinstance(written, str) else written
            assert decode_publish("lobby", body, "application/json").text == text
    assert decode_publish("lobby", b"x\r\n" * (MAX_TEXT_BYTES // 2), "text/plain").text == "x\n" * (MAX_TEXT_BYTES // 2)
