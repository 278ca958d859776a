"""A client of chat.v1 for peers, on independent libraries: trio-websocket and http.client."""

import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import trio
import trio_websocket

from loadgen.compare.catalogue import Peer
from loadgen.compare.comparison import DEFAULT_PEERS_DIR
from loadgen.compare.process import Server, running
from loadgen.compare.relay import greet

#: Longer than anything on the loopback takes, even on a busy machine.
PATIENCE = 30.0

HOST = "127.0.0.1"

_PEERS_DIR = Path(DEFAULT_PEERS_DIR).expanduser()


@asynccontextmanager
async def serving(peer: Peer, *, ping_seconds: float = 20.0) -> AsyncIterator[Server]:
    """Run a peer, or skip the test where it is not installed."""
    home = _PEERS_DIR / peer.name
    if not peer.kit.is_ready(home):
        pytest.skip(f"{peer.name} is not installed here; loadgen compare --peers {peer.name} does it")

    def command(work: Path, port: int) -> list[str]:
        return peer.kit.command(home, work, port, ping_seconds)

    async with running(command) as server:
        if peer.relay:
            await greet(server, peer.relay)
        yield server


class Member:
    """A WebSocket that speaks chat.v1."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket

    async def say(self, **message: object) -> None:
        await self._socket.send_message(json.dumps(message))

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next message of this type; of others only those are passed over that a server may always send."""
        while True:
            with trio.fail_after(PATIENCE):
                heard: dict[str, Any] = json.loads(await self._socket.get_message())
            if heard["type"] != "presence":
                assert heard["type"] == kind, heard
                return heard

    async def join(self, room: str) -> Self:
        await self.say(type="join", id="j", room=room)
        joined = await self.hear("joined")
        assert (joined["id"], joined["room"]) == ("j", room)
        return self


@asynccontextmanager
async def member(server: Server) -> AsyncIterator[Member]:
    with trio.fail_after(PATIENCE) as limit:
        async with trio_websocket.open_websocket(HOST, server.port, "/ws", use_ssl=False) as socket:
            limit.deadline = float("inf")
            found = Member(socket)
            hello = await found.hear("hello")
            assert hello["protocol"] == "chat.v1"
            yield found


async def ask(server: Server, method: str, path: str, body: bytes = b"", kind: str = "text/plain") -> tuple[int, bytes]:
    """One request on a connection of its own."""
    return await trio.to_thread.run_sync(partial(_ask, server.port, method, path, body, kind), abandon_on_cancel=True)


def _ask(port: int, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request(method, path, body=body or None, headers={"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
