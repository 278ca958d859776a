"""Rings: bounded by count and bytes, one bytes object for all at one cursor, no holes, and fully charged."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chatserver.chat import ring as ring_module
from chatserver.chat.ring import CACHED_CHUNKS, ENTRY_BYTES, Ring, RingSize
from chatserver.log.interface import Kind, MessageState, Record
from chatserver.meters import ByteBudget
from tests.support.scripted import LineEncoder, LineEncoding

FRAMES, EVENTS = LineEncoding(), LineEncoding(tells_presence=False)


def records(first: int, last: int, *, text: str = "hi") -> list[Record]:
    return [Record("lobby", offset, 0, "u_1", "Ann", text) for offset in range(first, last + 1)]


def ring(*, max_count: int = 100, max_bytes: int = 10_000, last: int = 0, budget: ByteBudget | None = None) -> Ring:
    budget = ByteBudget(1 << 30) if budget is None else budget
    return Ring("lobby", RingSize(LineEncoder(), max_count, max_bytes, budget), last=last)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(1, 4)), min_size=5, max_size=30),
    st.integers(1, 8),
    st.integers(1, 60),
)
def test_against_a_list(news: list[tuple[int, int, int]], max_count: int, max_bytes: int) -> None:
    """The newest message stays whatever the bounds; a message that is not the next offset clears the ring."""
    it = ring(max_count=max_count, max_bytes=max_bytes)
    model: list[Record] = []
    last = written = 0
    for skipped, size, count in news:
        fresh = records(last + skipped + 1, last + skipped + count, text="x" * size)
        last = fresh[-1].offset
        written += size * count
        it.add(fresh)
        model = [*([] if skipped else model), *fresh]
        while len(model) > max_count or (sum(len(kept.text) for kept in model) > max_bytes and len(model) > 1):
            del model[0]
        assert (it.first, it.last, it.written) == (model[0].offset, last, written)
        assert it.holds_after(it.first - 1)
        assert not it.holds_after(it.first - 2)
        assert it.after(it.first - 1, 1000) == [kept.text.encode() for kept in model]
        for cursor in range(it.first - 1, it.last):
            chunk, reached = it.chunk(FRAMES, cursor)
            assert chunk == b"".join(it.pieces(FRAMES, cursor, reached))
            assert reached == it.last


def test_the_texts_of_edits_go_with_their_messages() -> None:
    """Also when most of the edits that were here have been dropped."""
    budget = ByteBudget(1 << 30)
    it = ring(max_count=4, budget=budget)
    for offset in range(2, 40):
        it.add([replace(records(offset, offset)[0], kind=Kind.EDIT, target=offset - 1, text=f"edit {offset}")])
    assert len(it._edits) <= 2 * 4 + 1, "those that have left the ring are dropped now and then"
    assert b"edit 38" in it.chunk(FRAMES, 35)[0]
    it.forget_texts(38)
    assert it.after(35, 9) == [b"", b"", b"", b"edit 39"], "edit 38 was of message 37"
    assert budget.used == it.kept == 2 * (len("edit 39") + 4 * ENTRY_BYTES)
    assert it.chunk(FRAMES, 35)[0] == b"M lobby 36 \nM lobby 37 \nM lobby 38 \nM lobby 39 edit 39\n"
    assert it._edits == [(39, 38)], "none is emptied twice"
    it.cut(0)
    assert not it._edits, "a ring that is cut, when all rings together are too large, kept up to 2,048"


def test_only_edits_lose_their_texts_with_older_messages() -> None:
    it = ring()
    it.add([*records(1, 2), replace(records(3, 3)[0], kind=Kind.EDIT, target=1), replace(records(4, 4)[0], target=1)])
    it.forget_texts(2)
    assert it.after(0, 9) == [b"hi", b"hi", b"", b"hi"]


def test_all_at_one_cursor_get_one_object_until_there_is_news() -> None:
    it = ring()
    it.add(records(1, 20))
    first, reached = it.chunk(FRAMES, 5)
    it.chunk(FRAMES, 6)
    assert it.chunk(FRAMES, 5)[0] is first
    assert reached == 20
    assert it.chunk(FRAMES, 19)[0] is it.pieces(FRAMES, 19, 20)[0], "the frame itself"
    it.add(records(21, 21))
    assert it.chunk(FRAMES, 5)[1] == 21


def test_a_chunk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "CHUNK_BYTES", 40)
    it, big = ring(), ring()
    it.add(records(1, 9))
    chunk, reached = it.chunk(FRAMES, 0)
    assert (len(chunk), reached) == (39, 3)
    big.add(records(1, 2, text="x" * 100))
    assert big.chunk(FRAMES, 0)[1] == 1, "one message always fits"


def test_slow_readers_all_over_the_ring_do_not_fill_memory() -> None:
    many = 3 * CACHED_CHUNKS
    it = ring(max_count=many, max_bytes=1_000_000)
    it.add(records(1, many, text="x" * 100))
    for cursor in range(many):
        it.chunk(FRAMES, cursor)
        it.chunk(EVENTS, cursor)
        assert len(it._chunks) <= CACHED_CHUNKS


def test_a_late_encoding_has_everything() -> None:
    it = ring()
    it.add(records(1, 5))
    it.chunk(FRAMES, 0)
    it.add(records(6, 9))
    assert it.chunk(EVENTS, 3) == it.chunk(FRAMES, 3)
    it.cut(0)
    it.add(records(10, 10))
    assert it.chunk(EVENTS, 9) == it.chunk(FRAMES, 9) == (b"M lobby 10 hi\n", 10)


def test_a_changed_message_is_changed_for_later_members() -> None:
    """As it comes, or before records of others."""
    altered = (Record("lobby", 2, 0, "u_1", "Ann", ""), Record("lobby", 9, 0, "u_1", "Ann", "not here"))
    deletion = Record("lobby", 4, 0, "u_1", "Ann", "deleted 2", Kind.DELETE, 2, alters=altered)
    for is_early in (False, True):
        it = ring()
        it.add(records(1, 3, text="secret"))
        for cursor in (0, 1, 2):
            it.chunk(FRAMES, cursor)
        kept = it.kept
        if is_early:
            it.alter([deletion])
            assert it.kept < kept
            assert it.chunk(FRAMES, 0)[0] == b"M lobby 1 secret\nM lobby 2 \nM lobby 3 secret\n"
        it.add([deletion], as_committed=True)
        assert it.after(0, 9) == [b"secret", b"", b"secret", b"deleted 2"]
        assert it.chunk(FRAMES, 1)[0] == b"M lobby 2 \nM lobby 3 secret\nM lobby 4 deleted 2\n"
        assert it.chunk(EVENTS, 1) == it.chunk(FRAMES, 1)
        it.cut(0)
        it.add([replace(deletion, offset=5)])
        assert it.after(4, 9) == [b"deleted 2"], "messages that have left the ring are changed in the log"


def test_a_replaced_edit_has_no_text_for_later_members() -> None:
    budget = ByteBudget(1 << 30)
    it = ring(budget=budget)
    it.add([*records(1, 1), Record("lobby", 2, 0, "u_1", "Ann", "password", Kind.EDIT, 1)])
    assert it.chunk(FRAMES, 1)[0] == b"M lobby 2 password\n"
    it.add([Record("lobby", 3, 0, "u_1", "Ann", "better", Kind.EDIT, 1, empties=2)])
    assert it.chunk(FRAMES, 1)[0] == b"M lobby 2 \nM lobby 3 better\n"
    assert budget.used == it.kept
    it.cut(0)
    it.add([Record("lobby", 4, 0, "u_1", "Ann", "best", Kind.EDIT, 1, empties=3)])
    assert it.after(3, 9) == [b"best"], "edits that have left the ring have no text in the log"


def test_a_message_changed_often_in_a_group_is_encoded_once() -> None:
    """A message of 8 KiB to which a hundred people react in one group."""
    encoder = LineEncoder()
    it = Ring("lobby", RingSize(encoder, 200, 100_000, ByteBudget(1 << 30)))
    it.add(records(1, 1, text="before"))
    altered = [replace(record, text=f"after {number}") for number, record in enumerate(records(1, 1) * 100, start=1)]
    it.add([replace(record, alters=(each,)) for record, each in zip(records(2, 101), altered, strict=True)])
    assert it.after(0, 1) == [b"after 100"]
    assert encoder.encoded == 1 + 100 + 1


def test_the_text_of_a_message_is_not_encoded_again_for_a_reaction() -> None:
    """Otherwise 64 reactions in one group, each to another text of 8 KiB, are one step of 5 ms."""
    encoder = LineEncoder()
    it = Ring("lobby", RingSize(encoder, 200, 100_000, ByteBudget(1 << 30)))
    it.add([Record("lobby", 1, 0, "u_1", "Ann", "gone")])
    it.cut(0)
    said = [replace(record, text=f"text-{record.offset}") for record in records(2, 65)]
    it.add(said)
    reactions = [
        replace(
            record, kind=Kind.REACTION, alters=(replace(message, state=MessageState(reactions=(("\U0001f44d", 1),))),)
        )
        for record, message in zip(records(66, 129), said, strict=True)
    ]
    it.add(reactions, as_committed=True)
    assert (encoder.encoded, encoder.restatements) == (1 + 64 + 64, 64)


def test_a_deleted_text_is_removed_although_only_a_reaction_is_known_yet() -> None:
    """Another process reacts and then deletes; the message of the reaction is read after both."""
    deleted = Record("lobby", 1, 0, "u_1", "Ann", "", state=MessageState(deleted=True))
    reaction = Record("lobby", 2, 0, "u_1", "Ann", "reaction", Kind.REACTION, 1, alters=(deleted,))
    for take in (Ring.add, Ring.alter):
        it = ring()
        it.add(records(1, 1, text="secret"))
        take(it, [reaction])
        assert it.after(0, 1) == [b""]


# -- what is charged --------------------------------------------------------------------------------------------------


def test_encodings_in_use_are_copies_and_joined_chunks_count_until_the_next_message() -> None:
    budget = ByteBudget(1 << 30)
    it = ring(budget=budget)
    it.add(records(1, 10))
    copy = 10 * (2 + ENTRY_BYTES)
    assert budget.used == copy
    it.chunk(FRAMES, 9)
    assert budget.used == 2 * copy, "for every message, even if no member needs the older ones"
    it.chunk(EVENTS, 9)
    assert budget.used == 3 * copy
    chunk, _ = it.chunk(FRAMES, 0)
    assert budget.used >= 3 * copy + len(chunk)
    it.add(records(11, 11))
    assert budget.used == 3 * 11 * (2 + ENTRY_BYTES)
    it.chunk(FRAMES, 0)
    it.cut(3 * 11 * (2 + ENTRY_BYTES))
    assert it.first == 1, "the chunks go first"


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["add", "alter", "frames", "events", "cut"]), st.integers(0, 30)),
        min_size=8,
        max_size=40,
    )
)
def test_the_budget_is_the_sum_of_the_rings(acts: list[tuple[int, str, int]]) -> None:
    budget = ByteBudget(1 << 30)
    three = [ring(max_count=20, max_bytes=2_000, budget=budget) for _ in range(3)]
    for index, act, number in acts:
        it = three[index]
        altered = tuple(records(it.last - number % 3, it.last, text="y" * (number // 2)))
        if act == "add":
            fresh = records(it.last + 1 + number % 2, it.last + 1 + number % 5, text="x" * number)
            it.add([replace(record, alters=altered) for record in fresh])
        elif act == "alter":
            it.alter([replace(record, alters=altered) for record in records(it.last + 1, it.last + 1)])
        elif act == "cut":
            it.cut(number * 50)
            assert it.kept <= number * 50
        else:
            it.chunk(FRAMES if act == "frames" else EVENTS, max(it.first - 1, it.last - number))
        assert it.first + len(it._json) == it.last + 1
        assert budget.used == sum(each.kept for each in three)
    for it in three:
        it.released()
    assert budget.used == 0


def test_the_charge_matches_the_allocated_memory() -> None:
    """With both encodings in use, the charge is 0.9 to 1.3 times the allocated memory."""
    gc.collect()
    tracemalloc.start()
    try:
        budget = ByteBudget(1 << 30)
        it = ring(max_count=2_000, max_bytes=1 << 20, budget=budget)
        for offset in range(1, 1_001):
            it.add(records(offset, offset, text=f"{offset:0200}"))
            it.chunk(FRAMES, offset - 1)
            it.chunk(EVENTS, offset - 1)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.9 < budget.used / size < 1.3, (budget.used, size)
