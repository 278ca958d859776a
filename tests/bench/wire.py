"""The bytes that the bench's clients send, and the little they need to read.

Owns: messages of ours, and reading frames without a library, whose cost would be in a client. May not: own a socket.
"""

import json

from tests.support.peers import MASK, request, say

EMPTY_PONG = b"\x8a\x80" + MASK
PING = 0x89
EMPTY_PING = b"\x89\x00"


def post_message(room: str, text: str) -> bytes:
    """A publish over HTTP."""
    headers = {"Content-Type": "application/json"}
    return request("POST", f"/rooms/{room}/messages", json.dumps({"text": text}).encode(), headers=headers)


def join(room: str) -> bytes:
    """A `join` message."""
    return say(type="join", id=1, room=room)


def publish(room: str, text: str) -> bytes:
    """A `publish` message."""
    return say(type="publish", id=2, room=room, text=text)


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
