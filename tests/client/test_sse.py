import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.client import sse
from chatserver.client.sse import EventStream
from chatserver.client.wire import ProtocolError

STREAM = (
    b"retry: 2000\n\n: a comment\nid: k-1\nevent: message\ndata: {\"a\":1}\n\n"
    b"data: two\r\ndata:lines\r\n\r\nevent: nothing\n\nretry: soon\n"
    b"retry: " + b"9" * 5000 + b"\ndata: \xf0\x9f\x91\x8d\n\ndata: not yet"
)  # fmt: skip
EVENTS = ['{"a":1}', "two\nlines", "👍"]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    stream = EventStream()
    found = [event for start, end in pairwise(places) for event in stream.feed(STREAM[start:end])]
    assert found == EVENTS
    assert stream.retry == 2.0


@pytest.mark.parametrize("filler", [b"x", b"x\ndata: ", b"\ndata:"])
def test_an_endless_event_is_refused(filler: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 4_000)
    stream = EventStream()
    assert list(stream.feed(b"data: " + filler * 100)) == []
    data = (b"data: " + filler * 1000) * 4
    with pytest.raises(ProtocolError):
        list(stream.feed(data))


def test_a_long_line_is_not_copied_with_each_piece_of_it() -> None:
    """200,000 single bytes took 8 s."""
    stream = EventStream()
    assert list(stream.feed(b"data: " + b"x" * 500_000)) == []
    tracemalloc.start()
    try:
        for _ in range(3):  # the first one may make room for more
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert list(stream.feed(b"x")) == []
        assert tracemalloc.get_traced_memory()[1] - before < 100_000
    finally:
        tracemalloc.stop()
