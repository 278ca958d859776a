"""The close handshake (family 7; RFC 6455 sections 5.5.1 and 7)."""

from collections.abc import Iterator
from typing import Final

from loadgen.conform.case import BAD_TEXT, NORMAL, Case, close, closes, echo, fails, fragments, frame, ping, text
from loadgen.frames import CLOSE, FIN, TEXT

_HELLO: Final = b"Hello, world!"
_LONG: Final = b"BAsd7&jh23" * (256 * 1024 // 10)
_NO_CODE: Final = 1005
_MOST_REASON: Final = 123

_GOOD: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_BAD: Final = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999)


def closing() -> Iterator[Case]:
    """Family 7."""
    first, last = fragments(TEXT, b"fragment1", b"fragment2")
    normal = close(NORMAL)
    yield closes("7.1.1", "text, then close", "5.5.1", [text(_HELLO)], echo(_HELLO), then=[normal])
    yield closes("7.1.2", "two close frames", "5.5.1", [normal, normal])
    yield closes("7.1.3", "ping after close", "5.5.1", [normal, ping(b"")])
    yield closes("7.1.4", "text after close", "5.5.1", [normal, text(_HELLO)])
    yield closes("7.1.5", "close within a fragmented text", "5.5.1", [first, normal, last], lenient=True)
    sends = [text(_LONG), text(_HELLO), normal, ping(b"")]
    yield closes("7.1.6", "texts of 256 KiB and 13 bytes, close, ping", "7.1.1", sends, *map(echo, (_LONG, _HELLO)))
    yield closes("7.3.1", "close without a code", "5.5.1", [close()], codes=[_NO_CODE, NORMAL])
    yield fails("7.3.2", "close of one byte", "5.5.1", [frame(FIN | CLOSE, b"a")])
    yield closes("7.3.3", "close with a code", "5.5.1", [normal])
    yield closes("7.3.4", "close with a reason", "5.5.1", [close(NORMAL, _HELLO)])
    yield closes("7.3.5", "close with the longest reason", "5.5", [close(NORMAL, b"*" * _MOST_REASON)])
    yield fails("7.3.6", "close of 126 bytes", "5.5", [close(NORMAL, b"*" * (_MOST_REASON + 1))])
    bad = [close(NORMAL, "κόσμε".encode() + b"\xed\xa0\x80edited")]
    yield fails("7.5.1", "close with a reason that is not UTF-8", "8.1", bad, codes=[BAD_TEXT])
    for number, code in enumerate(_GOOD, 1):
        yield closes(f"7.7.{number}", f"close with {code}", "7.4", [close(code)], codes=[code])
    for number, code in enumerate(_BAD, 1):
        yield fails(f"7.9.{number}", f"close with {code}, which may not be sent", "7.4", [close(code)])
