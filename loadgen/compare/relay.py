"""What is posted to a server that only relays: it does not speak chat.v1, but forwards posted text to its clients.

The `joined` and `message` that its clients expect are posted by us: `joined` before the first client connects, messages
by the persona `request` when all are connected, because a later client would get a message instead of `joined`. Owns:
these texts.
"""

from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio

from loadgen.compare.process import HOST, DiedError, Running
from loadgen.net import wire
from loadgen.net.target import Endpoint

_FIELD: Final = "Content-Type: application/json"

JOINED: Final = msgspec.json.encode({"type": "joined", "id": -1, "room": "lobby"})

#: As large as the other servers' messages.
MESSAGE: Final = msgspec.json.encode(
    {
        "type": "message",
        "room": "compare",
        "offset": 1,
        "cursor": "peer-1",
        "time": "2026-11-20T12:00:00.123Z",
        "user": {"id": "g_000000000000000", "name": "Guest"},
        "text": "lg01234567 1234 the quick brown fox jumps over the lazy dog",
    }
)


async def greet(server: Running, path: str) -> None:
    """Post `joined`, which a client gets when it connects; call it again after any other message."""
    answer, request = b"", wire.request("POST", path, HOST, _FIELD, f"Content-Length: {len(JOINED)}")
    with trio.move_on_after(5.0), suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(HOST, urlsplit(server.url).port or 80) as stream:
            await stream.send_all(request + JOINED)
            answer = bytes(await stream.receive_some(4096))
    status = wire.final_status(answer)
    if status is None or status >= 400:
        raise DiedError(f"POST {path} was answered {status or 'nothing'}{server.last_output}")


def publishing(path: str) -> Endpoint:
    """The request of the persona `request`: publish a message to all clients."""
    return Endpoint(method="POST", asked=path, fields=(_FIELD,), body=MESSAGE)
