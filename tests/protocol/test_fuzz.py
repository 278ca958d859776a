"""Invariant: no bytes make a parser raise anything but the errors of its own family, however they are cut."""

from contextlib import suppress
from functools import partial

from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.protocol.bodies import decode_publish
from chatserver.protocol.body import ChunkedBody, LengthBody, body_reader
from chatserver.protocol.client_messages import decode
from chatserver.protocol.errors import FrameError, HttpError, MessageError
from chatserver.protocol.head import HeadLimits
from chatserver.protocol.response import cookie, query_fields
from chatserver.protocol.upgrade import accept_upgrade
from chatserver.protocol.websocket import Close, FrameLimits, Violation
from tests.fuzz.grammar import spoil
from tests.protocol.feed import body_runner, cuts, frame_runner, head_runner, pieces, take_frames
from tests.protocol.samples import GET, POST, UPGRADE
from tests.support.examples import examples
from tests.support.limits import BODY_LIMITS
from tests.support.peers import raw_frame as frame

#: More examples for bytes of peers: a planted mutation of frames takes seventy to be found.
many = examples(100)


def mutated(sample: bytes) -> st.SearchStrategy[bytes]:
    """A valid sample with a few bytes replaced, removed or added, which reaches more code than random bytes."""
    notable = [b"\r\n", b"%ff", b"HTTP/1.1", b"chunked", *(bytes((byte,)) for byte in b"\r\n\0 \t:,%\xff?#")]
    added = st.one_of(st.binary(max_size=3), st.sampled_from(notable))
    return st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 3), added), max_size=5).map(partial(spoil, sample))


heads = st.one_of(st.binary(max_size=300), mutated(GET), mutated(POST), mutated(UPGRADE))


@many
@given(heads, cuts(400))
def test_a_head_means_the_same_however_it_is_cut(wire: bytes, at: list[int]) -> None:
    """A head means the same cut or whole; the next step may refuse it but must not crash."""
    small = HeadLimits(max_bytes=350, max_fields=8, max_target=200)
    assert head_runner(small)([wire]) == head_runner(small)(pieces(wire, at))
    head, _ = head_runner()([wire])
    if head is None or isinstance(head, tuple):
        return
    with suppress(HttpError):
        query_fields(head.query)
    with suppress(HttpError):
        body_reader(head, BODY_LIMITS)
    with suppress(HttpError):
        assert accept_upgrade(head).startswith(b"HTTP/1.1 101 ")
    cookie(head.headers.get("cookie", ""), "a")


chunked_bodies = st.one_of(
    st.binary(max_size=200), mutated(b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n")
)


@many
@given(chunked_bodies, cuts(200))
def test_a_chunked_body_means_the_same_however_it_is_cut(wire: bytes, at: list[int]) -> None:
    runner = body_runner(lambda: ChunkedBody(BODY_LIMITS))
    assert runner([wire]) == runner(pieces(wire, at))


@many
@given(st.integers(0, 300), st.binary(max_size=400), cuts(400))
def test_a_body_with_a_length_means_the_same_however_it_is_cut(length: int, wire: bytes, at: list[int]) -> None:
    runner = body_runner(lambda: LengthBody(length))
    expected = ((len(wire) >= length, wire[:length]), wire[length:])
    assert runner([wire]) == runner(pieces(wire, at)) == expected


starts = st.sampled_from((0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0x83))
payloads = st.one_of(st.binary(max_size=140), st.text(max_size=40).map(str.encode), st.just(b"\x03\xe8"))
some_frames = st.lists(st.builds(frame, starts, payloads, mask=st.binary(min_size=4, max_size=4)), max_size=8)
streams = st.one_of(st.binary(max_size=300), some_frames.map(b"".join), some_frames.map(b"".join).flatmap(mutated))


@many
@given(streams, cuts(600), st.booleans())
@example(b"\x01\x80\0\0\0\0" * 3, [], False)
def test_any_bytes_give_frames_or_one_frame_error(wire: bytes, at: list[int], binary: bool) -> None:
    limits = FrameLimits(max_message_bytes=300, max_fragments=3, binary=binary)
    assert frame_runner(limits)([wire]) == frame_runner(limits)(pieces(wire, at))
    events, rest, _ = take_frames(wire, None, limits)
    assert not any(isinstance(event, Close | Violation) for event in events[:-1]), "nothing follows the end"
    assert all(isinstance(event.error, FrameError) for event in events if isinstance(event, Violation))
    assert len(rest) < 14 + 300


PUBLISH = b'{"type":"publish","id":3,"room":"lobby","text":"hi","key":"k"}'


@many
@given(
    st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "replace")), mutated(PUBLISH)),
    st.sampled_from(("application/json", "text/plain", "application/x-www-form-urlencoded", None, "x", "")),
)
def test_any_bytes_give_a_message_or_a_message_error(data: bytes, content_type: str | None) -> None:
    """Objects that are valid JSON: test_duplicates.py."""
    for take in (decode, lambda body: decode_publish("lobby", body, content_type)):
        with suppress(MessageError):
            take(data)
    with suppress(MessageError):
        decode(data.decode("utf-8", "surrogateescape"))


def test_every_depth_of_nesting() -> None:
    """Depths around the interpreter's recursion limit, with and without the search for duplicates."""
    for depth in (10, 100, 900, 1100, 5000, 8000):
        nested = "[" * depth + "]" * depth
        for data in (
            f'{{"type":"ping","x":{nested}}}',
            f'{{"type":"ping","\\u0041":{nested}}}',
            nested,
            f'{{"id":{nested}}}',
        ):
            with suppress(MessageError):
                decode(data)
