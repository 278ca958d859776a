"""The cases of `loadgen conform`, by family; RFC 6455 has a section for each.

Owns: the declarations. The sequences of UTF-8 are those of Markus Kuhn's decoder test, as in Autobahn, and Python's own
decoder decides whether one is valid. A server need not accept the long messages, but it must echo those that it
accepts; their bytes are made when a case is played.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from loadgen.cases.case import (
    BAD_TEXT,
    HELLO,
    NORMAL,
    PROTOCOL_ERROR,
    TOO_BIG,
    Case,
    End,
    Opening,
    Script,
    close,
    closes,
    cut,
    echo,
    fails,
    fragments,
    frame,
    holds,
    ping,
    pong,
    scripted,
    text,
)
from loadgen.net.wire import BINARY, CLOSE, FIN, MORE, NO_MASKING, PING, PONG, RSV1, RSV2, RSV3, TEXT

_BYTES: Final = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"

#: On both sides of each boundary between the forms of a length.
_LENGTHS: Final = (0, 125, 126, 127, 128, 65_535, 65_536)


def _ways(sends: list[bytes]) -> tuple[tuple[str, list[bytes]], ...]:
    whole = b"".join(sends)
    return ("frame by frame", sends), ("at once", [whole]), ("byte by byte", cut(whole, 1))


def framing() -> Iterator[Case]:
    """Family 1: messages of every length, and frames with a wrong head."""
    for group, (opcode, name) in enumerate(((TEXT, "text"), (BINARY, "binary")), 1):
        for number, length in enumerate(_LENGTHS, 1):
            payload = b"*" * length
            title = f"{name} of {length:,} bytes"
            yield holds(f"1.{group}.{number}", title, "5.6", [frame(FIN | opcode, payload)], echo(payload, opcode))
        title, pieces = f"{name} of {len(payload):,} bytes in pieces of 997", cut(frame(FIN | opcode, payload), 997)
        yield holds(f"1.{group}.8", title, "5.6", pieces, echo(payload, opcode))
    short = bytes((FIN | TEXT, 0x80 | 126)) + (5).to_bytes(2) + NO_MASKING + b"hello"
    longer = bytes((FIN | TEXT, 0x80 | 127)) + (5).to_bytes(8) + NO_MASKING + b"hello"
    highest = bytes((FIN | BINARY, 0x80 | 127)) + (1 << 63).to_bytes(8) + NO_MASKING
    yield fails("1.3.1", "text that is not masked", "5.1", [frame(FIN | TEXT, HELLO, mask=None)])
    yield fails("1.3.2", "ping that is not masked", "5.1", [frame(FIN | PING, HELLO, mask=None)])
    yield holds("1.3.3", "text with a mask of zeros", "5.3", [frame(FIN | TEXT, HELLO, mask=NO_MASKING)], echo(HELLO))
    yield fails("1.4.1", "length of 5 in 16 bits", "5.2", [short], lenient=True)
    yield fails("1.4.2", "length of 5 in 64 bits", "5.2", [longer], lenient=True)
    yield fails("1.4.3", "length with its highest bit", "5.2", [highest], codes=[PROTOCOL_ERROR, TOO_BIG])


def pings() -> Iterator[Case]:
    most = b"\xfe" * 125
    for number, (name, payload) in enumerate(
        (("empty ping", b""), ("ping with text", HELLO), ("ping with bytes", _BYTES), ("ping of 125 bytes", most)), 1
    ):
        yield holds(f"2.{number}", name, "5.5.3", [ping(payload)], pong(payload))
    yield fails("2.5", "ping of 126 bytes", "5.5", [ping(most + b"\xfe")])
    yield holds("2.6", "ping of 125 bytes, byte by byte", "5.5.3", cut(ping(most), 1), pong(most))
    yield holds("2.7", "unasked pong, empty", "5.5.3", [frame(FIN | PONG)])
    yield holds("2.8", "unasked pong", "5.5.3", [frame(FIN | PONG, HELLO)])
    sends = [frame(FIN | PONG, b"unsolicited"), ping(HELLO)]
    yield holds("2.9", "unasked pong, then a ping", "5.5.3", sends, pong(HELLO))
    names = [b"payload-%d" % number for number in range(10)]
    many = [ping(each) for each in names]
    yield holds("2.10", "ten pings", "5.5.3", many, *map(pong, names))
    yield holds("2.11", "ten pings, byte by byte", "5.5.3", cut(b"".join(many), 1), *map(pong, names))


def reserved() -> Iterator[Case]:
    """Families 3 and 4: reserved bits and opcodes."""
    after = [text(HELLO), frame(FIN | RSV2 | TEXT, HELLO), ping(b"")]
    yield fails("3.1", "text with reserved bit 3", "5.2", [frame(FIN | RSV3 | TEXT, HELLO)])
    for number, (way, sends) in enumerate(_ways(after), 2):
        yield fails(f"3.{number}", f"text, text with reserved bit 2, ping, {way}", "5.2", sends, echo(HELLO))
    yield fails("3.5", "binary with reserved bits 1 and 3", "5.2", [frame(FIN | RSV1 | RSV3 | BINARY, _BYTES)])
    yield fails("3.6", "ping with reserved bits 1 and 2", "5.2", [frame(FIN | RSV1 | RSV2 | PING, HELLO)])
    yield fails("3.7", "close with all reserved bits", "5.2", [frame(FIN | RSV1 | RSV2 | RSV3 | CLOSE)])
    yield fails("3.8", "text with reserved bit 1", "5.2", [frame(FIN | RSV1 | TEXT, HELLO)])
    for group, first in ((1, 0x3), (2, 0xB)):
        for number in range(1, 6):
            opcode, payload = first + number - 1, b"" if number % 2 else HELLO
            title = f"opcode {opcode}" + (" with a payload" if payload else "")
            before, heard = ([text(HELLO)], [echo(HELLO)]) if number > 2 else ([], [])
            sends = [*before, frame(FIN | opcode, payload), ping(b"")]
            yield fails(f"4.{group}.{number}", title + (" after a text" if before else ""), "5.2", sends, *heard)


def fragmented() -> Iterator[Case]:
    halves = (b"fragment1", b"fragment2")
    whole = echo(b"".join(halves))
    first, last = fragments(TEXT, *halves)
    yield fails("5.1", "ping in two fragments", "5.5", fragments(PING, *halves))
    yield fails("5.2", "pong in two fragments", "5.5", fragments(PONG, *halves))
    for number, (way, sends) in enumerate(_ways([first, last]), 3):
        yield holds(f"5.{number}", f"text in two fragments, {way}", "5.4", sends, whole)
    for number, (way, sends) in enumerate(_ways([first, ping(b"between"), last]), 6):
        yield holds(f"5.{number}", f"ping between two fragments, {way}", "5.4", sends, pong(b"between"), whole)
    for number, (bits, name) in enumerate(((FIN, "last"), (0, "first")), 0):
        for at, (way, sends) in enumerate(_ways([frame(bits | MORE, HELLO), text(HELLO)]), 9 + 3 * number):
            yield fails(f"5.{at}", f"{name} fragment of nothing, then a text, {way}", "5.4", sends)
    nothing = frame(MORE, b"fragment3")
    yield fails("5.15", "fragment of nothing after a whole message", "5.4", [first, last, nothing, text(HELLO)], whole)
    for number, bits, name in ((16, 0, "first"), (17, FIN, "last")):
        sends = [frame(bits | MORE, HELLO), first, last] * 2
        yield fails(f"5.{number}", f"{name} fragment of nothing, then a fragmented text, twice", "5.4", sends)
    yield fails("5.18", "two fragments that both say text", "5.4", [first, frame(FIN | TEXT, halves[1])])
    five = [b"fragment%d" % number for number in range(1, 6)]
    parts = fragments(TEXT, *five)
    sends = [*parts[:2], ping(b"pongme 1"), *parts[2:4], ping(b"pongme 2"), parts[4]]
    hears = (pong(b"pongme 1"), pong(b"pongme 2"), echo(b"".join(five)))
    for number, (way, chunks) in enumerate(_ways(sends)):
        title = f"text in five fragments, two pings between, {way}"
        yield holds(f"5.{19 + number}", title, "5.4", chunks, *hears)
    yield fails("5.22", "binary inside a fragmented text", "5.4", [first, frame(FIN | BINARY, _BYTES), last])
    yield fails("5.23", "close in two fragments", "5.5", [frame(CLOSE, b"\x03"), frame(FIN | MORE, b"\xe8")])


_KIB: Final = 1024
_MIB: Final = 1024 * _KIB


def limits() -> Iterator[Case]:
    for odd, (opcode, name) in enumerate(((TEXT, "text"), (BINARY, "binary"))):
        for number, size in enumerate((64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 8 * _MIB, 16 * _MIB), 1):
            yield _case(f"9.{1 + odd}.{number}", f"{name} of {_worded(size)}", opcode, size)
        for number, part in enumerate((64 * 4**power for power in range(9)), 1):
            title = f"{name} of 4 MiB in fragments of {_worded(part)}"
            yield _case(f"9.{3 + odd}.{number}", title, opcode, 4 * _MIB, part=part)
        for number, piece in enumerate((64, 128, 256, 512, _KIB, 2 * _KIB), 1):
            title = f"{name} of 1 MiB in pieces of {_worded(piece)}"
            yield _case(f"9.{5 + odd}.{number}", title, opcode, _MIB, piece=piece)
        for number, size in enumerate((0, 16, 64, 256, _KIB, 4 * _KIB), 1):
            title = f"1,000 messages of {_worded(size)}, {name}"
            yield _case(f"9.{7 + odd}.{number}", title, opcode, size, times=1000)
    yield _case("10.1.1", "text of 64 KiB in fragments of 1,300 B", TEXT, 64 * _KIB, part=1300)


def _case(id_: str, title: str, opcode: int, size: int, *, part: int = 0, piece: int = 0, times: int = 1) -> Case:
    script = partial(_script, opcode, size, part, piece, times)
    return Case(id=id_, title=title, section="5.4", script=script, heavy=size * times >= _MIB)


def _script(opcode: int, size: int, part: int, piece: int, times: int) -> Script:
    payload = b"*" * size
    sent = b"".join(fragments(opcode, *cut(payload, part)) if part else [frame(FIN | opcode, payload)])
    sends = cut(sent, piece) if piece else [sent] * times
    return Script(sends=sends, hears=[echo(payload, opcode)] * times)


def _worded(size: int) -> str:
    return f"{size // _MIB} MiB" if size >= _MIB else f"{size // _KIB} KiB" if size >= _KIB else f"{size} B"


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


_VERSION: Final = "Sec-WebSocket-Version"
_EXTENSIONS: Final = "Sec-WebSocket-Extensions"
_DEFLATE: Final = "permessage-deflate"
_UNKNOWN: Final = "conform.example"
_CLIENT_ERRORS: Final = frozenset(range(400, 500))

#: For requests that need not be upgrades: any answer but 101 is right.
_ANY: Final = frozenset(range(200, 600))


def opening() -> Iterator[Case]:
    yield _opens("0.1", "the usual request", "4.2.2")
    yield _opens("0.2", "byte by byte", "4.2.1", bytewise=True)
    yield _opens("0.3", "names in other letters", "4.2.1", ("Upgrade: websocket", "upgrade: WebSocket"))
    yield _opens("0.4", "one connection option of two", "4.2.1", (": Upgrade", ": keep-alive, Upgrade"))
    yield _opens("0.5", "unknown field", "4.2.1", fields=("X-Conform: 1",))
    yield _opens("0.6", "unknown subprotocol", "4.2.2", fields=(f"Sec-WebSocket-Protocol: {_UNKNOWN}",),
                 subprotocol=_UNKNOWN)  # fmt: skip
    yield _refused("0.7", "no upgrade field", ("Upgrade: websocket\r\n", ""), codes=_ANY)
    yield _refused("0.8", "no connection option", ("Connection: Upgrade\r\n", ""), codes=_ANY)
    yield _refused("0.9", "upgrade to something else", ("Upgrade: websocket", "Upgrade: conform"), codes=_ANY)
    yield _refused("0.10", "POST", ("GET ", "POST "), ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"))
    yield _refused("0.11", "HTTP/1.0", ("HTTP/1.1", "HTTP/1.0"), codes=_ANY)
    yield _refused("0.12", "no key", ("Sec-WebSocket-Key", "X-Conform"))
    yield _refused("0.13", "key that is not of 16 bytes", ("-Key: ", "-Key: AAAA"), lenient=True)
    yield _refused("0.14", "two keys", (_VERSION, f"Sec-WebSocket-Key: AAAA\r\n{_VERSION}"), lenient=True)
    yield _refused("0.15", "no version", (f"{_VERSION}: 13\r\n", ""))
    yield _refused("0.16", "version 99", (": 13", ": 99"), section="4.4", field=_VERSION.lower())
    yield _refused("0.17", "no host", ("Host: ", "X-Conform: "))
    yield _opens("12.1", "no extension that was not offered", "9.1")
    yield _opens("12.2", "no unknown extension", "9.1", fields=(f"{_EXTENSIONS}: x-conform",))
    # no message follows, because it would have to be compressed
    agreed = Opening(fields=(f"{_EXTENSIONS}: {_DEFLATE}",), extension=_DEFLATE)
    yield scripted("12.3", "extension that was offered, as it was offered", "RFC 7692 7.1", Script(opening=agreed))


def _opens(id_: str, title: str, section: str, *changes: tuple[str, str], fields: tuple[str, ...] = (),
           bytewise: bool = False, subprotocol: str = "") -> Case:  # fmt: skip
    opening = Opening(changes=changes, bytewise=bytewise, fields=fields, subprotocol=subprotocol)
    return scripted(id_, title, section, Script(sends=[text(HELLO)], hears=[echo(HELLO)], opening=opening))


def _refused(
    id_: str,
    title: str,
    *changes: tuple[str, str],
    section: str = "4.2.1",
    codes: frozenset[int] = _CLIENT_ERRORS,
    field: str = "",
    lenient: bool = False,
) -> Case:
    script = Script(end=End.REFUSED, codes=codes, opening=Opening(changes=changes), field=field, lenient=lenient)
    return scripted(id_, title, section, script)


_LONG: Final = b"BAsd7&jh23" * (256 * 1024 // 10)
_MOST_REASON: Final = 123

_GOOD: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_BAD: Final = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999)


def closing() -> Iterator[Case]:
    first, last = fragments(TEXT, b"fragment1", b"fragment2")
    normal = close(NORMAL)
    yield closes("7.1.1", "text, then close", "5.5.1", [text(HELLO)], echo(HELLO), then=[normal])
    yield closes("7.1.2", "two close frames", "5.5.1", [normal, normal])
    yield closes("7.1.3", "ping after close", "5.5.1", [normal, ping(b"")])
    yield closes("7.1.4", "text after close", "5.5.1", [normal, text(HELLO)])
    yield closes("7.1.5", "close within a fragmented text", "5.5.1", [first, normal, last], lenient=True)
    sends = [text(_LONG), text(HELLO), normal, ping(b"")]
    yield closes("7.1.6", "texts of 256 KiB and 13 bytes, close, ping", "7.1.1", sends, *map(echo, (_LONG, HELLO)))
    yield closes("7.3.1", "close without a code", "5.5.1", [close()], codes=[1005, NORMAL])
    yield fails("7.3.2", "close of one byte", "5.5.1", [frame(FIN | CLOSE, b"a")])
    yield closes("7.3.3", "close with a code", "5.5.1", [normal])
    yield closes("7.3.4", "close with a reason", "5.5.1", [close(NORMAL, HELLO)])
    yield closes("7.3.5", "close with the longest reason", "5.5", [close(NORMAL, b"*" * _MOST_REASON)])
    yield fails("7.3.6", "close of 126 bytes", "5.5", [close(NORMAL, b"*" * (_MOST_REASON + 1))])
    bad = [close(NORMAL, "κόσμε".encode() + b"\xed\xa0\x80edited")]
    yield fails("7.5.1", "close with a reason that is not UTF-8", "8.1", bad, codes=[BAD_TEXT])
    for number, code in enumerate(_GOOD, 1):
        yield closes(f"7.7.{number}", f"close with {code}", "7.4", [close(code)], codes=[code])
    for number, code in enumerate(_BAD, 1):
        yield fails(f"7.9.{number}", f"close with {code}, which may not be sent", "7.4", [close(code)])
