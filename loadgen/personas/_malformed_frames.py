"""Frames that RFC 6455 forbids: the catalogue behind `malformed-frames`. No persona itself.

Owns: the bytes, sent right after a good handshake. Each case has one thing wrong; the section that forbids it stands
beside it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from loadgen.frames import BINARY, CLOSE, FIN, MORE, PING, PONG, RSV1, RSV2, RSV3, TEXT, frame

#: Codes that may not stand in a close frame (section 7.4): reserved, for local use only, or not assigned.
_BAD_CODES: Final = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)


def _text(payload: bytes) -> bytes:
    return frame(FIN | TEXT, payload)


def _in_two(first: bytes, second: bytes) -> bytes:
    return frame(TEXT, first) + frame(FIN | MORE, second)


def _close(code: int, reason: bytes = b"") -> bytes:
    return frame(FIN | CLOSE, code.to_bytes(2) + reason)


CASES: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "unmasked": frame(FIN | TEXT, b"hello", mask=None),  # 5.1
        "unmasked ping": frame(FIN | PING, mask=None),
        "reserved bit 1": frame(FIN | RSV1 | TEXT, b"hello"),  # 5.2
        "reserved bit 2": frame(FIN | RSV2 | TEXT, b"hello"),
        "reserved bit 3": frame(FIN | RSV3 | TEXT, b"hello"),
        "reserved bit on a ping": frame(FIN | RSV1 | PING),
        "opcode 3": frame(FIN | 0x3, b"hello"),
        "opcode 7": frame(FIN | 0x7),
        "opcode 11": frame(FIN | 0xB),
        "opcode 15": frame(FIN | 0xF, b"hello"),
        "long length for a short frame": bytes((FIN | TEXT, 0x80 | 126)) + (5).to_bytes(2) + bytes(4) + b"hello",
        "longest length for a short frame": bytes((FIN | TEXT, 0x80 | 127)) + (5).to_bytes(8) + bytes(4) + b"hello",
        "length with its highest bit": bytes((FIN | TEXT, 0x80 | 127)) + (1 << 63).to_bytes(8) + bytes(4),
        "ping of 126 bytes": frame(FIN | PING, b"x" * 126),  # 5.5
        "pong of 5,000 bytes": frame(FIN | PONG, b"x" * 5000),
        "close of 126 bytes": _close(1000, b"x" * 124),
        "ping in fragments": frame(PING, b"he") + frame(FIN | MORE, b"llo"),
        "close in fragments": frame(CLOSE, b"\x03\xe8"),
        "continuation of nothing": frame(FIN | MORE, b"hello"),  # 5.4
        "text within a fragmented text": frame(TEXT, b"he") + _text(b"llo"),
        "binary within a fragmented text": frame(TEXT, b"he") + frame(FIN | BINARY, b"llo"),
        "continuation after the last": _in_two(b"he", b"llo") + frame(FIN | MORE, b"!"),
        "text that is not UTF-8": _text(b"\xff\xfe"),  # 8.1
        "overlong UTF-8": _text(b"\xc0\xaf"),
        "surrogate in UTF-8": _text(b"\xed\xa0\x80"),
        "UTF-8 beyond Unicode": _text(b"\xf4\x90\x80\x80"),
        "UTF-8 cut off at the end": _text(b"caf\xc3"),
        "UTF-8 broken across fragments": _in_two(b"\xe2\x82", b"\x28"),
        "UTF-8 cut off at the last fragment": _in_two(b"caf", b"\xc3"),
        "close of one byte": frame(FIN | CLOSE, b"\x03"),  # 5.5.1
        "close with a reason that is not UTF-8": _close(1000, b"\xff"),
        "text after a close": _close(1000) + _text(b"hello"),
    }
    | {f"close with code {code}": _close(code) for code in _BAD_CODES}
)
