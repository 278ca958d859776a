"""Frames that no honest client sends, and the last word of a server to a client that did not read.

Owns: the bytes for which `wire.frame` has no argument: reserved bits, fragments, lengths that are lies, any mask.
"""

from typing import Final

from wsproto.frame_protocol import XorMaskerSimple

from loadgen.wire import CLOSE, FIN, NO_MASKING, PING, PONG, TEXT, frame_head

__all__ = ["CLOSE", "FIN", "NO_MASKING", "PING", "PONG", "TEXT", "close_code", "frame"]

RSV1: Final = 0x40
RSV2: Final = 0x20
RSV3: Final = 0x10
MORE: Final = 0x00  # a continuation frame's opcode
BINARY: Final = 0x2

#: A server's close frame: two bytes of head, two of code, at most 123 of reason (RFC 6455 section 5.5).
LAST_WORD_BYTES: Final = 127

_MASKED: Final = 0x80


def frame(first: int, payload: bytes = b"", *, announced: int | None = None, mask: bytes | None = NO_MASKING) -> bytes:
    """Encode a frame with this first byte; `announced` is a length other than the payload's, no mask is illegal."""
    length = len(payload) if announced is None else announced
    head = frame_head(first, 0 if mask is None else _MASKED, length)
    if mask is None or mask == NO_MASKING:
        return head + (mask or b"") + payload
    return head + mask + XorMaskerSimple(mask).process(bytearray(payload))


def close_code(tail: bytes) -> int | None:
    """Find the code of a close frame with which the bytes end, or `None`.

    A close frame is the last thing that a server sends. So a client that is sent millions of pongs need not read them
    all to know why it was thrown out: it keeps the last few bytes and looks there when the connection ends.
    """
    for start in range(max(len(tail) - LAST_WORD_BYTES, 0), len(tail) - 1):
        if tail[start] == FIN | CLOSE and tail[start + 1] == len(tail) - start - 2:
            return int.from_bytes(tail[start + 2 : start + 4]) if tail[start + 1] >= 2 else 1005
    return None
