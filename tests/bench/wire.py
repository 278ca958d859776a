"""The bytes that the clients of a bench send, and a reader of frames that costs less than a library.

May not: own a socket.
"""

from tests.support.peers import MASK, request, say

EMPTY_PONG = b"\x8a\x80" + MASK
PING = 0x89
EMPTY_PING = b"\x89\x00"
#: The text of messages: about 120 bytes, as in a chat on an ordinary day.
TEXT = (
    "a message of about a hundred and twenty bytes, such as people write to each other in a room on an ordinary day, ok"
)


def post_message(room: str, text: str) -> bytes:
    return request("POST", f"/rooms/{room}/messages", {"text": text})


def join(room: str) -> bytes:
    return say(type="join", id=1, room=room)


def publish(room: str, text: str) -> bytes:
    return say(type="publish", id=2, room=room, text=text)


def frames(buffer: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames of a server in a buffer, as (first byte, payload), and the rest."""
    found = []
    at = 0
    while len(buffer) - at >= 2:
        length, header = buffer[at + 1], 2
        if length >= 126:
            header = 4 if length == 126 else 10
            if len(buffer) - at < header:
                break
            length = int.from_bytes(buffer[at + 2 : at + header], "big")
        end = at + header + length
        if end > len(buffer):
            break
        found.append((buffer[at], buffer[at + header : end]))
        at = end
    return found, buffer[at:]
