"""Parsing leaves no memory behind, with the garbage collector switched off.

The server collects garbage at quiet moments only, so reference cycles would grow until then. wsproto's `Connection`
and h11's refusals are such cycles; these tests check that our use of them leaves none.
"""

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from chatserver.protocol.body import ChunkedBody, LengthBody
from chatserver.protocol.client_messages import decode
from chatserver.protocol.errors import HttpError, MessageError
from chatserver.protocol.head import parse_head
from chatserver.protocol.websocket import Assembly, receive
from tests.protocol.samples import POST, UPGRADE, request
from tests.support.limits import BODY_LIMITS, FRAME_LIMITS, HEAD_LIMITS
from tests.support.peers import raw_frame as frame

LIMITS = FRAME_LIMITS
TEXT = frame(0x81, b"hello")
FRAGMENTS = frame(0x01, b"he") + frame(0x89, b"p") + frame(0x00) + frame(0x80, b"llo")


def parse(wire: bytes) -> None:
    with suppress(HttpError):
        parse_head(wire, HEAD_LIMITS)


def chunks(wire: bytes) -> None:
    with suppress(HttpError):
        ChunkedBody(BODY_LIMITS).receive(wire)


def message(data: str) -> None:
    with suppress(MessageError):
        decode(data)


def frames(wire: bytes) -> None:
    receive(wire, None, LIMITS)


CASES: dict[str, Callable[[], None]] = {
    "head": lambda: parse(POST),
    "upgrade": lambda: parse(UPGRADE),
    "bad head": lambda: parse(request(b"bad name: x")),
    "bad length": lambda: parse(request(b"Content-Length: x")),
    "bad host": lambda: parse(request(host=b"Host: a/b")),
    "chunks": lambda: chunks(b"5\r\nhello\r\n0\r\n\r\n"),
    "unfinished chunks": lambda: chunks(b"5\r\nhel"),
    "bad chunks": lambda: chunks(b"nonsense\r\n"),
    "text": lambda: frames(TEXT),
    "fragments": lambda: frames(FRAGMENTS),
    "an abandoned message": lambda: frames(FRAGMENTS[:-1]),
    "ping": lambda: frames(frame(0x89, b"p")),
    "close": lambda: frames(frame(0x88, b"\x03\xe8")),
    "text and close": lambda: frames(TEXT + frame(0x88) + TEXT),
    "bad text": lambda: frames(frame(0x81, b"\xff")),
    "bad text in fragments": lambda: frames(frame(0x01, b"\xc3") + frame(0x80, b"x")),
    "bad close": lambda: frames(frame(0x88, b"\x03")),
    "bad frame": lambda: frames(b"\xc1\x80"),
    "message": lambda: message('{"type":"publish","id":1,"room":"a","text":"b"}'),
    "bad message": lambda: message('{"type":"publish","id":1,"room":"a"}'),
    "bad field": lambda: message('{"type":"publish","id":1,"room":"A","text":"b"}'),
    "bad JSON": lambda: message("{"),
    "field sent twice": lambda: message('{"type":"ping","id":1,"id":1}'),
}


@pytest.fixture(scope="module")
def _frozen() -> None:
    """Freeze the objects of other tests: with those of a whole run, each count would take 0.1 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def _no_collector(_frozen: None) -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_cyclic_garbage(case: Callable[[], None]) -> None:
    case()  # fills caches and makes the spare connection
    gc.collect()
    objects = len(gc.get_objects())
    for _ in range(100):
        case()
    assert len(gc.get_objects()) - objects < 50, "a wsproto connection for each message leaves 1,000"
    assert gc.collect() == 0


def bytes_of(make: Callable[[], object]) -> int:
    """The bytes that the made object holds."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = make()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del held
    return after - before


def test_a_slow_body_costs_less_than_500_bytes() -> None:
    def slow() -> LengthBody:
        body = LengthBody(60_000)
        for _ in range(10):
            body.receive(b"x")
        return body

    assert bytes_of(lambda: [slow() for _ in range(1000)]) < 500 * 1000


@pytest.mark.parametrize("wire", [b"1;e=%s\r\nx\r\n" % (b"e" * 240), b"4000\r\n%s\r\n" % (b"x" * 0x4000)])
def test_a_body_in_chunks_costs_what_is_charged_and_less_than_700_bytes(wire: bytes) -> None:
    """The last read must not be kept as well: up to 16 KiB that are not charged."""

    def half_a_body(number: int) -> ChunkedBody:
        body = ChunkedBody(BODY_LIMITS)
        body.receive(wire + b"%x" % (number % 7))
        return body

    # a bytearray that grows is allocated an eighth more
    assert bytes_of(lambda: [half_a_body(number) for number in range(200)]) / 200 < half_a_body(0).kept * 9 / 8 + 700


def test_an_unfinished_message_costs_its_bytes() -> None:
    """No parser is kept for it: an unfinished message costs its bytes and 150 more."""
    _, _, assembly, _ = receive(frame(0x01, b"x" * 100) + frame(0x00) * 10, None, LIMITS)
    assert isinstance(assembly, Assembly)
    assert not gc.is_tracked(assembly)
    assert sys.getsizeof(assembly) + sys.getsizeof(assembly.frames) < len(assembly.frames) + 150
