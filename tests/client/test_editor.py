import pytest

from chatserver.client.editor import Editor


def typed(*chunks: bytes | str) -> tuple[str, int]:
    """Return the text and the cursor after these keys."""
    editor = Editor()
    for chunk in chunks:
        editor.feed(chunk.encode() if isinstance(chunk, str) else chunk)
    return editor.before + editor.after, len(editor.before)


LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"


@pytest.mark.parametrize(
    ("keys", "text", "position"),
    [
        ("hello", "hello", 5),
        ("helo" + LEFT + "l", "hello", 4),
        ("hello\x7f\x7f", "hel", 3),
        ("\x7f", "", 0),
        ("ello\x01h", "hello", 1),
        ("ab" + "\x1b[H" + "x" + "\x1b[F" + "y", "xaby", 4),
        ("ab" + "\x1bOD" + "x", "axb", 2),
        ("abc" + LEFT * 9 + RIGHT + "\x1b[3~", "ac", 1),
        ("abc" + LEFT + "\x04", "ab", 2),
        ("one two three\x17", "one two ", 8),
        ("one two  \x17", "one ", 4),
        ("one\x17", "", 0),
        ("hello" + LEFT * 2 + "\x0b", "hel", 3),
        ("hello" + LEFT * 2 + "\x15", "lo", 0),
        ("a\x1b[99;5xb", "ab", 2),  # a sequence without a meaning here
        ("a\x07\x00b", "ab", 2),
        ("grüße 日本 👩‍🚀", "grüße 日本 👩🚀", 11),  # the joiner is no printable character
    ],
)
def test_keys(keys: str, text: str, position: int) -> None:
    assert typed(keys) == (text, position)
    assert typed(*(bytes([byte]) for byte in keys.encode())) == (text, position)  # a byte at a time


def test_enter_takes_the_line_and_begins_anew() -> None:
    editor = Editor()
    assert editor.feed(b"one\rtwo\nthr") == ["one", "two"]
    assert editor.before == "thr"


def test_control_d_leaves_only_on_an_empty_line() -> None:
    editor = Editor()
    assert editor.feed(b"a\x04") == []
    assert editor.feed(b"\x7f\x04") == [None]


def test_earlier_lines() -> None:
    editor = Editor()
    editor.feed(b"one\ntwo\ntwo\n")
    seen = []
    for key in (UP, UP, UP, DOWN, DOWN):
        editor.feed(key.encode())
        seen.append(editor.before)
    assert seen == ["two", "one", "one", "two", ""]


@pytest.mark.parametrize("width", range(1, 12))
def test_the_view_fits_and_shows_the_cursor(width: int) -> None:
    editor = Editor()
    editor.feed("ab日本語cd".encode())
    for _ in range(8):
        before, after = editor.view(width)
        cells = sum(2 if char in "日本語" else 1 for char in before + after)
        assert cells <= width
        assert editor.before.endswith(before)
        assert editor.after.startswith(after)
        assert not after or cells + 2 > width or after == editor.after
        editor.feed(LEFT.encode())


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert typed(b"a\xff\xfeb")[0] == "a\ufffd\ufffdb"
