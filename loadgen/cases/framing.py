"""Frames: lengths, pings, reserved bits and opcodes, fragments (families 1 to 5), long and many messages (9 and 10).

Owns: the declarations; each names its section of the RFC. A server need not accept the long messages, but it must echo
those that it accepts; their bytes are made when a case is played.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from loadgen.cases.case import (
    HELLO,
    PROTOCOL_ERROR,
    TOO_BIG,
    Case,
    Script,
    cut,
    echo,
    fails,
    fragments,
    frame,
    holds,
    ping,
    pong,
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
    """Family 2."""
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
    """Family 5."""
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
    """Families 9 and 10."""
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
