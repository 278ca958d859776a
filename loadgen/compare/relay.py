"""The publisher for a server that only relays: it does not speak chat.v1, but forwards posted text to its clients.

The `joined` and `message` that its clients expect are posted by us. Owns: these texts, and a publisher that posts them
on one connection. It posts no message before all members have connected, because a later one would get that message
instead of `joined`.
"""

import itertools
from contextlib import suppress
from typing import Final

import msgspec
import trio

from loadgen import wire
from loadgen.compare.process import HOST, DiedError, Server
from loadgen.procfs import Process
from loadgen.timers import now

JOINED: Final = msgspec.json.encode({"type": "joined", "id": -1, "room": "lobby"})

#: As large as the other servers' messages.
_MESSAGE: Final = msgspec.json.encode(
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

_GREET_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05
_ANSWER_BYTES: Final = 4096


class Relay:
    """A server that only relays, before its first member."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = path
        self._process = Process(server.pid)
        self._empty = self._descriptors()

    async def greet(self) -> None:
        """Post `joined`, which a client gets when it connects; call it again after any other message."""
        answer = b""
        with trio.move_on_after(_GREET_SECONDS), suppress(OSError, trio.BrokenResourceError):
            async with await self._dial() as stream:
                await stream.send_all(self._post(JOINED))
                answer = await stream.receive_some(_ANSWER_BYTES)
        status = wire.final_status(bytes(answer))
        if status is None or status >= 400:
            raise DiedError(f"POST {self._path} was answered {status or 'nothing'}{self._server.last_words}")

    async def publish(self, *, members: int, rate: float) -> None:
        """Post `rate` messages a second once all members are connected, until cancelled or disconnected.

        The measurement gives the reason of a disconnect.
        """
        while (connected := self._descriptors()) < self._empty + members:
            self._empty = min(self._empty, connected)  # earlier connections may only now be closed
            await trio.sleep(_LOOK_SECONDS)
        with suppress(OSError, trio.BrokenResourceError):
            async with await self._dial() as stream:
                await self._post_at(rate, stream)

    async def _post_at(self, rate: float, stream: trio.SocketStream) -> None:
        """Send one request after the other until one fails; after a late one the next follows at once."""
        begun = now()
        for number in itertools.count():
            await trio.sleep(max(begun + number / rate - now(), 0))
            await stream.send_all(self._post(_MESSAGE))
            await stream.receive_some(_ANSWER_BYTES)

    def _post(self, body: bytes) -> bytes:
        fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        return wire.request("POST", self._path, HOST, *fields) + body

    async def _dial(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(HOST, self._server.port)

    def _descriptors(self) -> int:
        return self._process.descriptors() or 0
