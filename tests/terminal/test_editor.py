import re
from pathlib import Path

from rich.cells import cell_len

import chatserver
import loadgen
from chatserver.terminal.editor import LONGEST_LINE, REMEMBERED_LINES, Editor

LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"


def typed(*chunks: bytes) -> tuple[str, str]:
    """Press these keys. Returns the text before and after the cursor."""
    editor = Editor()
    for chunk in chunks:
        editor.feed(chunk)
    return editor.before, editor.after


def test_keys_edit_the_line_whole_or_a_byte_at_a_time() -> None:
    for keys, before, after in [
        ("hello", "hello", ""),
        ("helo" + LEFT + "l", "hell", "o"),
        ("hello\x7f\x08", "hel", ""),
        ("\x7f", "", ""),
        ("ello\x01h", "h", "ello"),
        ("ab" + "\x1b[H" + "x" + "\x1b[F" + "y", "xaby", ""),
        ("ab" + "\x1bOD" + "x", "ax", "b"),
        ("ab\x02\x02\x06", "a", "b"),
        ("abc" + LEFT * 9 + RIGHT + "\x1b[3~", "a", "c"),
        ("abc" + LEFT + "\x04", "ab", ""),
        ("one two three\x17", "one two ", ""),
        ("one two  \x17", "one ", ""),
        ("one\x17", "", ""),
        ("one two  \x1bbx", "one x", "two  "),
        ("one two\x01\x1b[1;5Cx\x1bfy\x1bf", "onex twoy", ""),
        ("hello" + LEFT * 2 + "\x0b", "hel", ""),
        ("hello" + LEFT * 2 + "\x15", "", "lo"),
        ("a\x1b[99;5xb", "ab", ""),  # an unknown sequence
        ("ab\x1b" + LEFT + "c\x1b\x1bO\x1b" + LEFT + "d", "ad", "cb"),  # Escape, or Alt in PuTTY
        ("a\x07\x00b", "ab", ""),
        ("grüße 日本 👩\u200d🚀", "grüße 日本 👩\u200d🚀", ""),
        ("e\u0301👩\u200d🚀👍🏽" + LEFT * 2 + "x", "e\u0301x", "👩\u200d🚀👍🏽"),
        ("e\u0301❤\ufe0f" + LEFT * 2 + RIGHT, "e\u0301", "❤\ufe0f"),
        ("ae\u0301👩\u200d🚀\x7f\x7f", "a", ""),
        ("👩\u200d🚀a\x01\x04", "", "a"),
        ("a\x1b[200~\tb\x1b[201~", "a\tb", ""),
        ("a\x1b[200~b\r\x04\x15\x1b[Ad\x1b[201~e", "ab\nde", ""),  # keys in a paste are text
        ("\x1b[200~a\x1b[\x1b\x1b[201~\x05b", "ab", ""),  # a paste that ends with escapes
        ("x" * (LONGEST_LINE + 1), "x" * LONGEST_LINE, ""),
        ("x" * LONGEST_LINE + "\x01y", "", "x" * LONGEST_LINE),
        ("the first line" + UP + DOWN, "the first line", ""),
    ]:
        assert typed(keys.encode()) == (before, after)
        assert typed(*(bytes([byte]) for byte in keys.encode())) == (before, after)  # a byte at a time


def test_bytes_that_are_no_text_are_ignored() -> None:
    assert typed(b"a\xff\xfeb") == ("a\ufffd\ufffdb", "")


def test_enter_takes_the_line_and_control_d_leaves_on_an_empty_one() -> None:
    editor = Editor()
    assert editor.feed(b"one\rtwo\nthr\x04") == ["one", "two"]
    assert editor.before == "thr"
    assert editor.feed(b"\x15\x04") == [None]


def test_earlier_lines_can_be_recalled() -> None:
    editor = Editor()
    editor.feed(b"one\ntwo\ntwo\n\n")
    seen = []
    for key in (UP, UP, UP, DOWN, DOWN, DOWN):
        editor.feed(key.encode())
        seen.append(editor.before)
    assert seen == ["two", "one", "one", "two", "", ""]
    editor.feed(b"".join(b"%d\n" % number for number in range(REMEMBERED_LINES)) + UP.encode() * REMEMBERED_LINES)
    assert editor.before == "0"
    editor.feed(UP.encode())
    assert editor.before == "0"


def test_an_unfinished_line_is_kept_while_earlier_ones_are_shown() -> None:
    assert typed(b"one\nhalf" + LEFT.encode(), UP.encode() * 2, DOWN.encode() * 2) == ("half", "")
    assert typed(b"one\nhalf" + UP.encode(), b"\r" + DOWN.encode()) == ("", "")


def test_a_line_is_taken_back() -> None:
    editor = Editor()
    editor.feed(b"one\ntwo" + LEFT.encode())
    assert editor.clear()
    assert not editor.clear()
    assert (editor.before, editor.after) == ("", "")


def test_a_paste_that_was_broken_off_ends_with_the_line() -> None:
    """With Ctrl-C the kernel drops what is not read yet, so also the end of a paste: Enter only broke lines then."""
    editor = Editor()
    editor.feed(b"\x1b[200~one\x1b[20")
    assert editor.clear()
    assert editor.feed(b"two\r") == ["two"]


def test_a_long_line_is_shown_at_its_end() -> None:
    editor = Editor()
    editor.feed(b"x" * LONGEST_LINE + b"end")
    assert editor.view(5) == ("xxxx", "")


def test_the_view_fits_and_shows_the_cursor() -> None:
    for width in range(1, 12):
        editor = Editor()
        editor.feed("ab日本語cd".encode())
        for _ in range(8):
            before, after = editor.view(width)
            assert cell_len(before + after) <= width
            assert cell_len(before) < width
            assert editor.before.endswith(before)
            assert editor.after.startswith(after)
            hidden = editor.after[len(after) :]
            assert not hidden or cell_len(before + after + hidden[0]) > width, "there is no room for more"
            editor.feed(LEFT.encode())


def test_an_emoji_of_several_characters_has_room_for_each() -> None:
    """Many terminals show its parts side by side: a longer line is wrapped there, and each key left a copy of it."""
    for emoji in ("👩\u200d🚀", "👍🏽", "🇩🇪", "❤\ufe0f\u200d🔥"):  # each with four columns
        editor = Editor()
        editor.feed((emoji * 10).encode())
        assert editor.view(13) == (emoji * 3, ""), emoji


def test_tab_offers_each_completion_and_then_the_typed_text() -> None:
    editor = Editor()
    editor.complete = lambda before: ("say ", ["ann ", "bob "]) if before == "say " else (before, ())
    editor.feed(b"say ")
    shown = []
    for key in (b"\t", b"\t", b"\t", b"\t", b"\x1b[Z"):
        editor.feed(key)
        shown.append(editor.before)
    assert shown == ["say ann ", "say bob ", "say ", "say ann ", "say "]
    editor.feed(b"\tx\t")
    assert editor.before == "say ann x"
    editor.feed(b"\x15say \t")
    editor.complete = lambda _: ("say ", ["cy "])
    editor.feed(b"\x15say \t")
    assert editor.before == "say cy ", "the people are asked for again"


def test_the_terminal_reports_its_focus() -> None:
    editor = Editor()
    assert [(editor.feed(keys), editor.focused)[1] for keys in (b"a", b"\x1b[O", b"b", b"\x1b[I")] == [
        True, False, False, True,
    ]  # fmt: skip
    assert editor.before == "ab"


def test_no_pattern_has_a_possessive_group() -> None:
    """CPython before 3.11.5, as Debian 12's, matches them wrongly: an arrow key was typed into the line."""
    sources = [each for package in (chatserver, loadgen) for each in Path(package.__path__[0]).rglob("*.py")]
    assert [str(each) for each in sources if re.search(r"\)[*+?}]\+(?!,)|\(\?>", each.read_text())] == []
