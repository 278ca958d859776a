"""The server's side of RFC 6455 by hand, for the peers without a library. Not a peer itself.

It reads what well-behaved clients send (masked, unfragmented) and checks nothing.
"""

import base64
import hashlib
from typing import Final, NamedTuple

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA


class Frame(NamedTuple):
    opcode: int
    payload: bytes


def accept_upgrade(key: str) -> bytes:
    """The 101 for a `Sec-WebSocket-Key`."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(digest)
    )


def frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8) + payload


def unmask(mask: bytes, payload: bytes) -> bytes:
    """Undo the client's mask, as one XOR of large integers."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the complete frames at the beginning, and the rest."""
    frames, begin = [], 0
    while len(data) >= begin + 6:
        size, at = data[begin + 1] & 0x7F, begin + 2
        if size >= 126:
            at += 2 if size == 126 else 8
            size = int.from_bytes(data[begin + 2 : at])
        end = at + 4 + size
        if len(data) < end:
            break
        frames.append(Frame(data[begin] & 0x0F, unmask(data[at : at + 4], data[at + 4 : end])))
        begin = end
    return frames, data[begin:]
