"""Messages to peers have no Python in them and no exception texts of libraries."""

import re
from collections.abc import Callable, Iterator

from chatserver.protocol.bodies import decode_publish
from chatserver.protocol.body import ChunkedBody
from chatserver.protocol.client_messages import decode
from chatserver.protocol.errors import ProtocolError
from chatserver.protocol.head import find_head_end, parse_head
from chatserver.protocol.websocket import Violation
from tests.protocol.feed import take_frames
from tests.protocol.test_body import MALFORMED as CHUNKS
from tests.protocol.test_head import MALFORMED as HEADS
from tests.protocol.test_head import NOT_SERVED
from tests.protocol.test_websocket_malformed import BAD_TEXT, BROKEN
from tests.support.errors import error_of
from tests.support.limits import BODY_LIMITS, FRAME_LIMITS, HEAD_LIMITS

PYTHON = re.compile(r"bytearray|\bb['\"]|codec|in position|surrogates not|Traceback|Error|Opcode|<|\\x|CLOSE")
FALLBACK = "the request head is not valid HTTP/1.1"


def message(parse: Callable[..., object], *arguments: object) -> str:
    return error_of(ProtocolError, parse, *arguments).message


def head_message(wire: bytes) -> str:
    return message(lambda: parse_head(wire[: find_head_end(wire, 0, HEAD_LIMITS)], HEAD_LIMITS))


def frame_message(wire: bytes) -> str:
    violation = take_frames(wire, None, FRAME_LIMITS)[0][-1]
    assert isinstance(violation, Violation)
    return violation.error.message


def body_message(body: bytes, content_type: str = "application/json") -> str:
    return message(decode_publish, "lobby", body, content_type)


NO_MESSAGES = ("[", "[]", "nul", '"\ud800"', b'{"type":"ping","id":"\xff"}', '{"type":"join","room":"a","after":{}}')
NO_BODIES = (b"\xff", b"[]", b"1", b'"a"', b'{"text":"\xff"}', b'{"text":1}', b"{}", b'{"text":"\\ud800"}')


def messages() -> Iterator[tuple[str, str]]:
    for name, wire in HEADS.items():
        yield name, head_message(wire)
    for wire, _ in NOT_SERVED:
        yield wire.decode("latin-1"), head_message(wire)
    for wire in CHUNKS:
        yield wire.decode("latin-1"), message(ChunkedBody(BODY_LIMITS).receive, wire)
    for name, wire in (BROKEN | BAD_TEXT).items():
        yield name, frame_message(wire)
    for data in NO_MESSAGES:
        yield repr(data), message(decode, data)
    for body in NO_BODIES:
        yield repr(body), body_message(body)
    yield "bytes", body_message(b"\x89PNG\xff", "application/octet-stream")


def test_no_answer_has_python_in_it() -> None:
    told = dict(messages())
    assert len(told) > 120
    assert {name: message for name, message in told.items() if PYTHON.search(message) or message == FALLBACK} == {}


def test_a_target_that_is_not_ascii_is_told_how_to_be_written() -> None:
    """`curl 'http://…/search?q=été'` sends it so, and was told of the spaces in its request line."""
    wire = "GET /search?q=été HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    assert "percent-encode" in head_message(wire)
