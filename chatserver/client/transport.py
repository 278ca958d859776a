"""The interface of a transport: an open conversation that takes requests and returns frames from the server.

Owns: the interface. May not: know a protocol. websocket.py and http_transport.py implement it.
"""

from typing import Literal, Protocol

from chatserver.client import wire
from chatserver.client.requests import Request

TransportName = Literal["ws", "poll", "sse"]


class Conversation(Protocol):
    """An open conversation. Both methods raise EndedError, perhaps in a group, when it has ended."""

    async def send(self, request: Request) -> None:
        """Send a request; `receive` returns its answer."""

    async def receive(self) -> wire.Frame | wire.Record | None:
        """Wait for the next frame or record from the server."""
