import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol.cursors import OFFSET_LIMIT, format_cursor, parse_cursor
from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("k3f9-41", ("k3f9", 41)),
        ("K3F9-0", ("K3F9", 0)),
        ("7-7", ("7", 7)),
        ("41", (None, 41)),
        (41, (None, 41)),
        (0, (None, 0)),
        (OFFSET_LIMIT - 1, (None, OFFSET_LIMIT - 1)),
        (f"e-{OFFSET_LIMIT - 1}", ("e", OFFSET_LIMIT - 1)),
    ],
)
def test_cursors(value: str | int, expected: tuple[str | None, int]) -> None:
    assert parse_cursor(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", "-", "k3f9", "k3f9-", "-41", "k3f9--1", "k-3-1", "k 1", "1.5", "1e3", "k-1\n", "k-\u0661", "é-1"),
        *("k_x-1", "x" * 33 + "-1", "1" * 17, f"k-{OFFSET_LIMIT}", OFFSET_LIMIT, -1, "\0", "\ud800"),
    ],
)
def test_bad_cursors(value: str | int) -> None:
    with pytest.raises(MessageError) as caught:
        parse_cursor(value)
    assert caught.value.code is ErrorCode.BAD_CURSOR


def test_a_number_too_long_to_print() -> None:
    with pytest.raises(MessageError, match="number out of range"):
        parse_cursor(10**5000)


@given(st.from_regex(r"[0-9A-Za-z]{1,32}", fullmatch=True), st.integers(0, OFFSET_LIMIT - 1))
def test_round_trip(epoch: str, offset: int) -> None:
    assert parse_cursor(format_cursor(epoch, offset)) == (epoch, offset)
