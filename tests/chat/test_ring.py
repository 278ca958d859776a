"""Rings: bounded by count and bytes, one bytes object for all at one cursor, no holes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat import ring as ring_module
from chatserver.chat.ring import CHUNKS_KEPT, ENTRY_BYTES, Ring, RingSize
from chatserver.log.interface import Record
from chatserver.meters import ByteBudget
from tests.support.scripted import LineEncoder, LineEncoding

FRAMES, EVENTS = LineEncoding(), LineEncoding(tells_presence=False)


def records(first: int, last: int, *, text: str = "hi") -> list[Record]:
    return [Record("lobby", offset, 0, "u_1", "Ann", text) for offset in range(first, last + 1)]


def ring(*, max_count: int = 100, max_bytes: int = 10_000, last: int = 0) -> Ring:
    return Ring("lobby", RingSize(LineEncoder(), max_count, max_bytes, ByteBudget(1 << 30)), last=last)


def test_empty() -> None:
    it = ring(last=7)
    assert (it.first, it.last) == (8, 7)
    assert it.holds_after(7)
    assert not it.holds_after(6)
    assert it.after(7, 10) == []


def test_bounded_by_count() -> None:
    it = ring(max_count=5)
    it.add(records(1, 12))
    assert (it.first, it.last) == (8, 12)
    assert len(it._json) == 5


def test_bounded_by_bytes() -> None:
    it = ring(max_bytes=100)
    it.add(records(1, 12, text="x" * 30))
    assert (it.first, it.last) == (10, 12)
    assert (len(it._json), it._bytes, it.kept) == (3, 90, 90 + 3 * ENTRY_BYTES)


def test_the_newest_stays_however_big_it_is() -> None:
    it = ring(max_bytes=100)
    it.add(records(1, 3, text="x" * 30))
    it.add(records(4, 4, text="x" * 500))
    assert (it.first, it.last) == (4, 4)


def test_news_that_is_not_the_next_begins_anew() -> None:
    it = ring()
    it.add(records(1, 5))
    it.add(records(9, 10))
    assert (it.first, it.last) == (9, 10)
    assert it.holds_after(8)
    assert not it.holds_after(5)
    assert (len(it._json), it._bytes, it.kept) == (2, 4, 4 + 2 * ENTRY_BYTES)
    assert it.chunk(FRAMES, 8) == (b"M lobby 9 hi\nM lobby 10 hi\n", 10)


def test_all_at_one_cursor_get_one_object() -> None:
    it = ring()
    it.add(records(1, 20))
    first, _ = it.chunk(FRAMES, 5)
    again, reached = it.chunk(FRAMES, 5)
    assert first is again
    assert reached == 20


def test_a_member_that_lacks_one_message_gets_the_frame_itself() -> None:
    it = ring()
    it.add(records(1, 20))
    assert it.chunk(FRAMES, 19)[0] is it.pieces(FRAMES, 19, 20)[0]


def test_each_message_is_encoded_once_for_each_encoding() -> None:
    encoder = LineEncoder()
    it = Ring("lobby", RingSize(encoder, 100, 10_000, ByteBudget(1 << 30)))
    it.add(records(1, 10))
    for cursor in range(10):
        it.chunk(encoder.frames, cursor)
    assert (encoder.encoded, encoder.pushed) == (10, 10)
    it.chunk(encoder.events, 0)
    assert (encoder.encoded, encoder.pushed) == (10, 20)


def test_news_ends_the_chunks() -> None:
    it = ring()
    it.add(records(1, 3))
    assert it.chunk(FRAMES, 1)[1] == 3
    it.add(records(4, 4))
    assert it.chunk(FRAMES, 1)[1] == 4


def test_a_chunk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "CHUNK_BYTES", 40)
    it = ring()
    it.add(records(1, 9))
    chunk, reached = it.chunk(FRAMES, 0)
    assert (len(chunk), reached) == (39, 3)
    big = ring()
    big.add(records(1, 2, text="x" * 100))
    assert big.chunk(FRAMES, 0)[1] == 1, "one message always fits"


def test_slow_readers_all_over_the_ring_do_not_fill_memory() -> None:
    it = ring(max_count=1000, max_bytes=1_000_000)
    it.add(records(1, 1000, text="x" * 100))
    for cursor in range(1000):
        it.chunk(FRAMES, cursor)
        it.chunk(EVENTS, cursor)
    assert all(len(chunks) <= CHUNKS_KEPT for chunks in it._chunks.values())


def test_written_counts_what_was_ever_added() -> None:
    it = ring(max_count=2)
    it.add(records(1, 10))
    assert it.written == 20


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(1, 4)), max_size=30),
    st.integers(1, 8),
    st.integers(1, 60),
)
def test_against_a_list(news: list[tuple[int, int, int]], max_count: int, max_bytes: int) -> None:
    it = ring(max_count=max_count, max_bytes=max_bytes)
    model: list[Record] = []
    last = 0
    for skipped, size, count in news:
        fresh = records(last + skipped + 1, last + skipped + count, text="x" * size)
        last = fresh[-1].offset
        it.add(fresh)
        model = [*([] if skipped else model), *fresh]
        while len(model) > max_count or (sum(len(kept.text) for kept in model) > max_bytes and len(model) > 1):
            del model[0]
        assert it.last == last
        assert it.first == model[0].offset
        assert it.after(it.first - 1, 1000) == [kept.text.encode() for kept in model]
        assert len(it._json) == len(model)
        assert it._bytes == sum(len(kept.text) for kept in model)
        for cursor in range(it.first - 1, it.last):
            chunk, reached = it.chunk(FRAMES, cursor)
            assert chunk == b"".join(it.pieces(FRAMES, cursor, reached))
            assert reached == it.last


def test_nothing_is_encoded_that_nobody_hears() -> None:
    encoder = LineEncoder()
    it = Ring("lobby", RingSize(encoder, 100, 10_000, ByteBudget(1 << 30)))
    it.add(records(1, 10))
    assert (encoder.encoded, encoder.pushed) == (10, 0)


def test_an_encoding_that_comes_late_has_everything() -> None:
    it = ring()
    it.add(records(1, 5))
    it.chunk(FRAMES, 0)
    it.add(records(6, 9))
    assert it.chunk(EVENTS, 3) == it.chunk(FRAMES, 3)
    it.cut(0)
    it.add(records(10, 10))
    assert it.chunk(EVENTS, 9) == it.chunk(FRAMES, 9) == (b"M lobby 10 hi\n", 10)
