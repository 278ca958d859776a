"""The bytes that the bench's clients send, and the little they need to read.

Owns: requests and frames, written out by hand so that no library's cost is in a client. May not: own a socket.
"""

import json
import struct

from tests.bench.gauges import Address

#: RFC 6455's own example; nobody checks that it is random.
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_MASK = b"\x37\xfa\x21\x3d"
EMPTY_PONG = b"\x8a\x80" + _MASK
PING = 0x89
EMPTY_PING = b"\x89\x00"


def upgrade(address: Address, path: str = "/ws") -> bytes:
    """A WebSocket handshake."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def get(address: Address, target: str) -> bytes:
    """A GET, as short as they come."""
    return f"GET {target} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode()


def post_message(address: Address, room: str, text: str) -> bytes:
    """A publish over HTTP."""
    body = json.dumps({"text": text}).encode()
    head = (
        f"POST /rooms/{room}/messages HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def text_frame(payload: bytes) -> bytes:
    """A client's text frame, masked as it must be."""
    length = len(payload)
    head = bytes((0x81, 0x80 | length)) if length < 126 else b"\x81\xfe" + struct.pack("!H", length)
    mask = (_MASK * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(length, "big")
    return head + _MASK + masked


def join(room: str) -> bytes:
    """A `join` message."""
    return text_frame(json.dumps({"type": "join", "id": 1, "room": room}).encode())


def publish(room: str, text: str) -> bytes:
    """A `publish` message."""
    return text_frame(json.dumps({"type": "publish", "id": 2, "room": room, "text": text}).encode())


def frames(buffer: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames of a server in a buffer, as (first byte, payload), and the rest."""
    found = []
    at = 0
    while len(buffer) - at >= 2:
        length, header = buffer[at + 1], 2
        if length == 126:
            if len(buffer) - at < 4:
                break
            length, header = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
        elif length == 127:
            if len(buffer) - at < 10:
                break
            length, header = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
        end = at + header + length
        if end > len(buffer):
            break
        found.append((buffer[at], buffer[at + header : end]))
        at = end
    return found, buffer[at:]
