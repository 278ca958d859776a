"""Text that is UTF-8, and text that is not (family 6; RFC 6455 sections 5.6 and 8.1).

Owns: the sequences, which are those of Markus Kuhn's UTF-8 decoder test, as in Autobahn. Python's own decoder decides
whether one is valid.
"""

from collections.abc import Iterator
from typing import Final

from loadgen.cases.case import BAD_TEXT, Case, cut, echo, fails, fragments, holds, text
from loadgen.net.wire import TEXT

_SECTION: Final = "8.1"
_WORD: Final = "κόσμε".encode()
_GREETING: Final = "Hello-µ@ßöäüàá-UTF-8!!".encode()
_BEYOND: Final = b"\xf4\x90\x80\x80"  # above U+10FFFF: wrong from its second byte on
_AFTER: Final = b"edited"

_LONE_CONTINUATION: Final = bytes(range(0x80, 0xC0))
_STARTS: Final = ((0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE))
_CUT_SHORT: Final = "c0 e080 f08080 f8808080 fc80808080 df efbf f7bfbf fbbfbfbf fdbfbfbfbf"

#: Groups 6.7 and up: the title, and the bytes of each case.
_SEQUENCES: Final = (
    ("first of its length", "00 c280 e0a080 f0908080"),
    ("first of a length that is too long", "f888808080 fc8480808080"),
    ("last of its length", "7f dfbf efbfbf f48fbfbf"),
    ("last of a length that is too long", "f7bfbfbf fbbfbfbfbf fdbfbfbfbfbf"),
    ("beside a boundary", "ed9fbf ee8080 efbfbd f48fbfbf f4908080"),
    ("continuation of nothing", f"80 bf 80bf 80bf80 80bf80bf 80bf80bf80 80bf80bf80bf {_LONE_CONTINUATION.hex()}"),
    ("start without continuation", " ".join(bytes(range(*each)).hex("\x20").replace(" ", "20") for each in _STARTS)),
    ("last byte missing", _CUT_SHORT),
    ("many that are cut short", _CUT_SHORT.replace(" ", "")),
    ("byte that never occurs", "fe ff fefeffff"),
    ("overlong solidus", "c0af e080af f08080af f8808080af fc80808080af"),
    ("longest overlong form", "c1bf e09fbf f08fbfbf f887bfbfbf fc83bfbfbfbf"),
    ("overlong zero", "c080 e08080 f0808080 f880808080 fc8080808080"),
    ("surrogate", "eda080 edadbf edae80 edafbf edb080 edbe80 edbfbf"),
    (
        "pair of surrogates",
        "eda080edb080 eda080edbfbf edadbfedb080 edadbfedbfbf edae80edb080 edae80edbfbf edafbfedb080 edafbfedbfbf",
    ),
    ("noncharacter", " ".join(chr(plane << 16 | 0xFFFE | low).encode().hex() for plane in range(17) for low in (0, 1))),
    ("special", " ".join(chr(point).encode().hex() for point in range(0xFFF9, 0x10000))),
)


def is_valid(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _judged(id_: str, title: str, payload: bytes) -> Case:
    if is_valid(payload):
        return holds(id_, title, _SECTION, [text(payload)], echo(payload))
    return fails(id_, f"{title}, not UTF-8", _SECTION, [text(payload)], codes=[BAD_TEXT])


def utf8() -> Iterator[Case]:
    """Family 6."""
    middle = (b"", b"middle frame payload", b"")
    broken = _WORD + b"\xed\xa0\x80" + _AFTER
    yield holds("6.1.1", "empty text", "5.6", [text(b"")], echo(b""))
    yield holds("6.1.2", "three empty fragments", "5.4", fragments(TEXT, b"", b"", b""), echo(b""))
    yield holds("6.1.3", "fragment between two empty ones", "5.4", fragments(TEXT, *middle), echo(middle[1]))
    yield holds("6.2.1", "valid text", _SECTION, [text(_GREETING)], echo(_GREETING))
    for number, (title, payload, size) in enumerate(
        (
            ("valid text cut within a character", _GREETING, 7),
            ("valid text, a byte a fragment", _GREETING, 1),
            ("valid Greek, a byte a fragment", _WORD, 1),
        ),
        2,
    ):
        sends = fragments(TEXT, *cut(payload, size))
        yield holds(f"6.2.{number}", title, _SECTION, sends, echo(payload))
    yield fails("6.3.1", "surrogate within a text", _SECTION, [text(broken)], codes=[BAD_TEXT])
    sends = fragments(TEXT, *cut(broken, 1))
    yield fails("6.3.2", "surrogate within a text, a byte a fragment", _SECTION, sends, codes=[BAD_TEXT])
    yield from _fail_fast()
    for number in range(1, len(_WORD) + 1):
        yield _judged(f"6.6.{number}", f"first {number} bytes of Greek", _WORD[:number])
    for group, (title, sequences) in enumerate(_SEQUENCES, 7):
        for number, sequence in enumerate(sequences.split(), 1):
            yield _judged(f"6.{group}.{number}", title, bytes.fromhex(sequence))


def _fail_fast() -> Iterator[Case]:
    """Text that is invalid before it is complete: a server may notice at once, and must at the end."""
    late = (_WORD, _BEYOND, _AFTER), (_WORD + _BEYOND[:1], _BEYOND[1:2], _BEYOND[2:] + _AFTER)
    for number, parts in enumerate(late, 1):
        three, whole = fragments(TEXT, *parts), text(b"".join(parts))
        title = "second fragment is not UTF-8, third is late"
        yield fails(f"6.4.{number}", title, _SECTION, three[:2], codes=[BAD_TEXT], then=three[2:])
        begun = len(whole) - len(parts[2])
        title = "middle of a frame is not UTF-8, its end is late"
        yield fails(f"6.4.{number + 2}", title, _SECTION, [whole[:begun]], codes=[BAD_TEXT], then=[whole[begun:]])
