import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol.body import Body, BodyLimits, ChunkedBody, LengthBody, body_reader
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import parse_head
from chatserver.reasons import ErrorCode, Reason
from tests.protocol.feed import body_runner, feed
from tests.protocol.samples import GET, POST, request
from tests.support.limits import BODY_LIMITS, HEAD_LIMITS

LIMITS = BodyLimits(max_bytes=2000, overhead_ratio=4, overhead_grace=100)
BAD = (ErrorCode.BAD_REQUEST, Reason.BAD_REQUEST)
OVERHEAD = (ErrorCode.BAD_REQUEST, Reason.CHUNK_OVERHEAD)
TOO_LARGE = (ErrorCode.TOO_LARGE, Reason.BODY_TOO_LARGE)


def chunked() -> Body:
    return ChunkedBody(LIMITS)


def test_the_reader_follows_the_head() -> None:
    assert isinstance(body_reader(parse_head(POST, HEAD_LIMITS), BODY_LIMITS), LengthBody)
    head = parse_head(request(b"Transfer-Encoding: chunked"), HEAD_LIMITS)
    assert isinstance(body_reader(head, BODY_LIMITS), ChunkedBody)
    none = body_reader(parse_head(GET, HEAD_LIMITS), BODY_LIMITS)
    assert (none.complete, none.body, none.rest, none.received) == (True, b"", b"", 0)
    none.receive(GET)
    assert none.rest == GET
    most = BODY_LIMITS.max_bytes
    assert body_reader(parse_head(request(b"Content-Length: %d" % most), HEAD_LIMITS), BODY_LIMITS).lacking == most
    for length in (most + 1, 2**63 - 1):
        with pytest.raises(HttpError) as caught:
            body_reader(parse_head(request(b"Content-Length: %d" % length), HEAD_LIMITS), BODY_LIMITS)
        assert (caught.value.code, caught.value.reason) == TOO_LARGE


def test_chunks_are_joined() -> None:
    for wire, body in (
        (b"0\r\n\r\n", b""),
        (b"2\r\nab\r\n" * 64 + b"0\r\n\r\n", b"ab" * 64),  # a few small chunks are allowed
        (b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n", b"x" * 2000),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b"5;name=\tvalue\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", b"hello"),
        (b"8\r\na\r\nb\r\n\r\n\r\n0\r\n\r\n", b"a\r\nb\r\n\r\n"),
    ):
        assert feed(body_runner(chunked), wire, trailing=GET) == (True, body)


MALFORMED = [
    b"hello\r\n", b"-5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"\r\n5\r\nhello\r\n", b" 5\r\nhello\r\n",
    b"5\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n", b"5\r\nhello\r\n0\r\nA: \0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n", b"5;\0\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0;\x7f\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA: \x01\r\n\r\n", b"5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n0\r\nA: b\n\n", b"5\r\nhello\r\n0\r\nA: b\r\n\n", b"f" * 21 + b"\r\n",
]  # fmt: skip


def test_malformed_chunks_are_refused() -> None:
    for wire in MALFORMED:
        assert feed(body_runner(chunked), wire) == BAD


def test_chunks_with_too_much_overhead_are_refused() -> None:
    for wire in (
        b"".join(b"1;%b\r\nx\r\n" % (b"e" * 100) for _ in range(20)),
        b"1;" + b"e" * 5000,
        b"1\r\nx\r\n" * 200,
        b"0\r\n" + b"A: b\r\n" * 50,
        b"0" * 500,
        b"2\r\nab\r\n" * 65,
    ):
        assert feed(body_runner(chunked), wire) == OVERHEAD


def test_the_length_of_a_line_is_limited_whatever_came_before() -> None:
    """Earlier body bytes allow 8,000 bytes on the wire, but h11 must not keep a chunk's first line of that size."""
    for line in (b"1;" + b"e" * 101, b"0\r\n" + b"A: " + b"b" * 100):
        assert feed(body_runner(chunked), b"7d0\r\n" + b"x" * 2000 + b"\r\n" + line) == OVERHEAD


def test_the_limit_of_a_line_is_the_same_however_it_arrives() -> None:
    """h11 parses all trailers at once: 16 KiB of short ones in one read would take 4 ms."""
    for size in (100, 101, 102, 5000):
        before = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
        trailer = b"0\r\nA:" + b"b" * (size - 6) + b"\r\n\r\n"
        trailers = b"0\r\n" + b"A:b\r\n" * ((size - 10) // 5) + b"A:" + b"b" * (size % 5 + 4) + b"\r\n\r\n"
        extended = b"1;" + b"e" * (size - 4) + b"\r\nx\r\n0\r\n\r\n"
        for wire, body in ((trailer, 1000), (trailers, 1000), (extended, 1001)):
            outcome = feed(body_runner(chunked), before + wire, trailing=GET)
            assert outcome == ((True, b"x" * body) if size <= 101 else OVERHEAD)


def test_chunks_over_the_limit() -> None:
    """Refused as soon as the size is known, without waiting for the rest."""
    for wire in (
        b"7d1\r\n", b"7fffffffffffffff\r\n", b"ffffffffffffffffffff;ext\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n3d1\r\n",
        b"7d0\r\n" + b"x" * 2000 + b"\r\n1\r\nx\r\n0\r\n\r\n",
    ):  # fmt: skip
        assert feed(body_runner(chunked), wire) == TOO_LARGE


def test_exactly_the_overhead_that_a_body_may_have() -> None:
    """A body that ends in one read is judged at its end: 5 bytes of body allow 120 on the wire."""
    for more in (0, 1):
        wire = b"5;" + b"e" * (93 + more) + b"\r\nhello\r\n0;" + b"e" * 10 + b"\r\n\r\n"
        assert len(wire) == 120 + more
        assert feed(body_runner(chunked), wire) == (OVERHEAD if more else (True, b"hello"))


def test_how_much_of_a_body_is_kept_and_is_lacking() -> None:
    announced, in_chunks = LengthBody(10), chunked()
    announced.receive(b"hello")
    in_chunks.receive(b"5\r\nhello\r\n3;exten")
    assert (announced.kept, in_chunks.kept) == (5, 5 + len(b"3;exten"))
    assert (announced.lacking, in_chunks.lacking) == (5, 0), "chunks do not announce the total length"
    announced.receive(b"world, and more")
    assert announced.lacking == 0


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_bodies_by_h11_are_read(parts: list[bytes]) -> None:
    """Chunks that h11's client writes are read as the same body."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Transfer-Encoding", "chunked")]))
    wire = b"".join(bytes(client.send(h11.Data(data=part)) or b"") for part in parts)
    wire += bytes(client.send(h11.EndOfMessage()) or b"")
    body = b"".join(parts)
    reader = ChunkedBody(BODY_LIMITS)
    reader.receive(wire + b"next")
    assert (reader.complete, reader.body, reader.rest) == (True, body, b"next")
