import re
import unicodedata
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol.errors import MessageError
from chatserver.protocol.validation import (
    MAX_COMBINING,
    MAX_ISOLATES,
    MAX_KEY_CHARS,
    MAX_MENTIONS,
    MAX_NAME_CHARS,
    MAX_TEXT_BYTES,
    MAX_USER_ID_CHARS,
    OFFSET_LIMIT,
    Cursor,
    check_emoji,
    check_key,
    check_mentions,
    check_name,
    check_offset,
    check_room,
    check_text,
    check_user_id,
    parse_cursor,
)
from chatserver.reasons import ErrorCode
from tests.support.errors import error_of

ZALGO = "Z" + "\u0301" * 10_000


def refused(check: Callable[[Any], object], value: object, why: str = "") -> ErrorCode:
    """The code of the error for a value."""
    error: MessageError = error_of(MessageError, check, value)
    assert re.search(why, error.message), (value, error.message)
    return error.code


def test_rooms() -> None:
    for room in ("a", "0", "lobby", "a.b_c-d", "9" * 64):
        assert check_room(room) == room
    for room in (
        "",
        "A",
        ".a",
        "-a",
        "_a",
        "a b",
        "a/b",
        "..",
        "a\n",
        "a\0",
        "ü",
        "a" * 65,
        "a\u202eb",
        "a\u0301",
        "٣",
    ):
        assert refused(check_room, room, "^room: ") is ErrorCode.BAD_ROOM
    assert refused(check_room, ZALGO, "^room: ") is ErrorCode.BAD_ROOM


def test_valid_texts_are_accepted() -> None:
    for text in (
        "a",
        "  a  ",
        "a\n\tb",
        "x" * MAX_TEXT_BYTES,
        "ü" * (MAX_TEXT_BYTES // 2),
        "👩\u200d👩\u200d👧\ufe0f 🏴\U000e0067\U000e0062\U000e007f",
        "שָׁל֥וֹם",
        "می\u200cخواهم",  # noqa: RUF001 (Persian, with a joiner)
        "a \u2067שלום\u2069 b",  # noqa: RUF001
        "e" + "\u0301" * MAX_COMBINING,
        "\U0001f600" * 9 + "\U0001d165" * MAX_COMBINING + "\U0001f600" + "\u0301" * MAX_COMBINING,
        "\u2068" * MAX_ISOLATES + "a" + "\u2069" * MAX_ISOLATES,
        "ก็" * 100,
        '"\\</script>',
    ):
        assert check_text(text) == check_text(text.replace("\n", "\r\n")) == text


def test_bad_texts_are_refused_with_the_reason() -> None:
    for text, why in (
        ("", "blank"),
        (" \n\t", "blank"),
        ("\u3000\u2003", "blank"),
        *((invisible, "blank") for invisible in ("\u200b", "\u2800\u3164", "\u2066\u2069 \u200d", "\ufe0f\U000e0041")),
        ("x" * (MAX_TEXT_BYTES + 1), "8,193 characters, limit 8,192 bytes of UTF-8"),
        (ZALGO, "10,001 characters, limit 8,192 bytes of UTF-8"),
        ("ü" * (MAX_TEXT_BYTES // 2) + "x", "8,193 bytes of UTF-8, limit 8,192"),
        ("a\0b", r"control character U\+0000"),
        ("a\x1b[2Jb", r"U\+001B"),
        ("a\rb", r"U\+000D"),
        ("a\x7f", r"U\+007F"),
        ("a\x9bb", r"control character U\+009B"),
        ("a\u202eb", r"override U\+202E"),
        ("a\u202ab\u202c", r"override U\+202A"),
        ("a\u2066b", "balance"),
        ("a\u2069\u2066b", "balance"),
        ("\u2068" * 2000 + "\u2069" * MAX_ISOLATES, "balance"),
        ("\u2068\u2069" * (MAX_ISOLATES + 1), "129 bidirectional isolates, limit 128"),
        ("\ud83d", "surrogate"),
        (ZALGO[:4000], "more than 8 combining marks"),
        ("e" + "\u0301" * (MAX_COMBINING + 1), "more than 8 combining marks"),
        ("\U0001f600" * 9 + "\u0301" * 5 + "\U0001d165" * 4, "more than 8 combining marks"),
    ):
        assert refused(check_text, text, f"^text: .*{why}") is ErrorCode.BAD_FIELD


def test_valid_names_are_accepted_in_nfc() -> None:
    for name, kept in (
        ("Ann", "Ann"),
        ("  Ann   Example ", "Ann Example"),
        ("A\u030ake", "\u00c5ke"),
        ("\u05d3\u05b8\u05bc\u05d5\u05b4\u05d3", None),
        ("\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", None),
        ("\U0001f469\u200d\U0001f4bb", None),
        ("王" * MAX_NAME_CHARS, None),
        ("<b>", None),
    ):
        assert check_name(name) == (kept or unicodedata.normalize("NFC", name))


def test_bad_names_are_refused_with_the_reason() -> None:
    for name, why in (
        ("", "0 characters"),
        ("   ", "0 characters"),
        ("a" * (MAX_NAME_CHARS + 1), "41 characters"),
        (ZALGO, "10,001 characters, limit 40"),
        ("Z" + "\u0301" * 20, "combining marks"),
        ("a\nb", "U\\+000A"),
        ("a\0", "U\\+0000"),
        ("\x1b[31mAnn", "U\\+001B"),
        ("a\u202eb", "U\\+202E"),
        ("a\u2067b", "U\\+2067"),
        ("a\u2028b", "U\\+2028"),
        ("Ann\u200b", "U\\+200B"),
        ("\ud800", "U\\+D800"),
        ("\u200d", "blank"),
        ("\u3164 \u2800", "blank"),
        ("\u0301\u0301", "blank"),
    ):
        assert refused(check_name, name, f"^name: .*{why}") is ErrorCode.BAD_FIELD


WOMAN, HEART, JOINER = "\U0001f469", "\u2764", "\u200d"


def test_the_most_that_is_allowed_and_one_more() -> None:
    limits: tuple[tuple[Callable[[Any], object], object, list[object]], ...] = (
        (check_name, "a" + " " * (4 * MAX_NAME_CHARS - 1), ["a" + " " * (4 * MAX_NAME_CHARS)]),
        (check_user_id, "u" * MAX_USER_ID_CHARS, ["u" * (MAX_USER_ID_CHARS + 1), "", "a\nb", " a", "a ", "g_a"]),
        (check_user_id, "u" + "\u0301" * MAX_COMBINING, ["u" + "\u0301" * (MAX_COMBINING + 1)]),  # it may be shown
        (check_key, "x" * MAX_KEY_CHARS, ["x" * (MAX_KEY_CHARS + 1), "", "a\nb", "a\0", "a\u202e", "\ud800"]),
        (check_key, "ключ", []),
        (check_offset, 1, [0, -1]),
        (check_offset, OFFSET_LIMIT - 1, [OFFSET_LIMIT]),
        (check_emoji, JOINER.join([WOMAN] * 5), [JOINER.join([HEART] * 6), WOMAN * 2, "a", ""]),  # 32 and 33 bytes
        (check_mentions, tuple(map(str, range(MAX_MENTIONS))), [tuple(map(str, range(MAX_MENTIONS + 1)))]),
        (check_mentions, ("u" * MAX_USER_ID_CHARS,), [("u" * (MAX_USER_ID_CHARS + 1),), ("",), ("a", "b\n")]),
        (check_mentions, ("u", "v"), []),
    )
    for check, most, more in limits:
        assert check(most) == (most.strip() if isinstance(most, str) else most)
        for value in more:
            assert refused(check, value) is ErrorCode.BAD_FIELD


def test_an_emoji_has_one_form_with_and_without_its_variation_selector() -> None:
    """Keyboards differ in it, and so ❤ and ❤️ were two reactions that look the same."""
    for qualified, others in (
        ("❤\ufe0f", ["❤"]),
        ("👍", ["👍\ufe0f"]),
        ("👍🏽", []),
        ("☝🏽", []),
        ("1\ufe0f\u20e3", ["1\u20e3"]),
        ("〽\ufe0f", ["〽"]),
        ("🏳\ufe0f\u200d🌈", ["🏳\u200d🌈", "🏳\u200d🌈\ufe0f"]),
        ("🤷🏽\u200d♀\ufe0f", ["🤷🏽\u200d♀"]),
        ("🏴\U000e0067\U000e0062\U000e007f", []),
        ("🇩🇪", []),
        ("\U0001fadc", ["\U0001fadc\ufe0f"]),  # of Unicode 16
    ):
        for form in (qualified, *others):
            assert check_emoji(form) == qualified


@given(st.one_of(st.text(), st.text(alphabet="a\u0301\u202e\u2066\u2069\r\n\x00\ud800 ")))
def test_only_validation_errors_are_raised(value: str) -> None:
    for check in (check_room, check_text, check_key, check_name):
        with suppress(MessageError):
            accepted = check(value)
            assert accepted is not None
            accepted.encode("utf-8")
            assert check(accepted) == accepted, "an accepted value is accepted again"


MARKS_AND_OTHERS = st.text(alphabet="e\u0301\u0483\ufe0f\U0001d165\U0001f600\U000e0101\u0e47ก ", max_size=40)


@given(st.one_of(st.text(max_size=40), MARKS_AND_OTHERS))
def test_marks_are_counted_as_one_by_one(text: str) -> None:
    """The regular expression that precedes the count must not miss a run."""
    longest = run = 0
    for character in text:
        run = run + 1 if unicodedata.category(character)[0] == "M" else 0
        longest = max(longest, run)
    refused = ""
    try:
        check_text(text)
    except MessageError as error:
        refused = error.message
    if not refused or "combining" in refused:
        assert bool(refused) == (longest > MAX_COMBINING)


@given(st.text(alphabet="a\u2066\u2067\u2068\u2069", min_size=1, max_size=12))
def test_isolates_balance_or_are_refused(text: str) -> None:
    kept = text.replace("a", "").translate({0x2067: 0x2066, 0x2068: 0x2066})
    while "\u2066\u2069" in kept:
        kept = kept.replace("\u2066\u2069", "")
    with suppress(MessageError) if kept else nullcontext():
        check_text(f"a{text}")
        assert not kept


def test_valid_cursors_are_parsed() -> None:
    for value, expected in (
        ("k3f9-41", ("k3f9", 41)),
        ("K3F9-0", ("K3F9", 0)),
        ("41", (None, 41)),
        (0, (None, 0)),
        (OFFSET_LIMIT - 1, (None, OFFSET_LIMIT - 1)),
        (f"{'Az9x' * 8}-{OFFSET_LIMIT - 1}", ("Az9x" * 8, OFFSET_LIMIT - 1)),
    ):
        assert parse_cursor(value) == Cursor(*expected)


def test_bad_cursors_are_refused() -> None:
    for value in (
        *("", "-", "k3f9", "k3f9-", "-41", "k3f9--1", "k-3-1", "k 1", "1.5", "1e3", "k-1\n", "k-\u0661", "é-1"),
        *("k_x-1", "x" * 33 + "-1", "1" * 17, f"k-{OFFSET_LIMIT}", OFFSET_LIMIT, -1, "\0", "\ud800"),
    ):
        assert refused(parse_cursor, value) is ErrorCode.BAD_CURSOR
    with pytest.raises(MessageError) as caught:
        parse_cursor(10**5000)  # too long to print
    assert caught.value.code is ErrorCode.BAD_CURSOR
