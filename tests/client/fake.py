"""A scripted chat server on trio-websocket, for the client: honest until a test says otherwise.

Owns: one room's log, kept across "restarts"; faults that a test switches on. It shares no code with the
real server, so that client and server cannot agree on a mistake.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
import trio_websocket


@dataclass
class FakeServer:
    """Faults are counters or lists that are used up; what happened is recorded for the test to look at."""

    port: int = 0
    epoch: str = "e1"
    log: list[dict[str, Any]] = field(default_factory=list)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    connections: set[trio_websocket.WebSocketConnection] = field(default_factory=set)
    members: set[trio_websocket.WebSocketConnection] = field(default_factory=set)
    # what the client did
    joins: list[dict[str, Any]] = field(default_factory=list)
    cookies: list[str | None] = field(default_factory=list)
    publishes: int = 0
    # faults
    acks_to_lose: int = 0
    pushes_to_lose: int = 0
    refusals: list[int] = field(default_factory=list)
    retry_after: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, at the same port each time; leaving the block is a crash."""
        async with trio.open_nursery() as nursery:
            serve = partial(trio_websocket.serve_websocket, self._handle, "127.0.0.1", self.port, ssl_context=None)
            server = await nursery.start(serve)
            self.port = server.port
            yield
            nursery.cancel_scope.cancel()
        self.connections.clear()
        self.members.clear()

    async def say(self, text: str) -> None:
        """Publish as somebody else."""
        await self._append(text, {"id": "u_z", "name": "Zed"})

    async def tell(self, **frame: Any) -> None:
        """Send a frame to every connection."""
        for connection in set(self.connections):
            await connection.send_message(json.dumps(frame))

    async def close_all(self, code: int, reason: str = "") -> None:
        """Close every connection in good order."""
        for connection in set(self.connections):
            await connection.aclose(code, reason)

    def gap(self, after: int, until: int) -> dict[str, Any]:
        return {
            "type": "gap",
            "room": "lobby",
            "after": f"{self.epoch}-{after}",
            "until": f"{self.epoch}-{until}",
        }

    async def _handle(self, request: trio_websocket.WebSocketRequest) -> None:
        headers = dict(request.headers)
        cookie = headers.get(b"cookie")
        self.cookies.append(cookie.decode() if cookie else None)
        if self.refusals:
            extra = [(b"Retry-After", self.retry_after.encode())] if self.retry_after else []
            body = json.dumps({"error": {"code": "x", "message": "not now"}}).encode()
            await request.reject(self.refusals.pop(0), extra_headers=extra, body=body)
            return
        connection = await request.accept(extra_headers=[(b"Set-Cookie", b"guest=g1; Path=/; HttpOnly; SameSite=Lax")])
        self.connections.add(connection)
        try:
            user = {"id": "u_me", "name": "Me"}
            await connection.send_message(json.dumps({"type": "hello", "user": user, "ping": 25}))
            while True:
                await self._answer(connection, json.loads(await connection.get_message()))
        except trio_websocket.ConnectionClosed:
            pass
        finally:
            self.connections.discard(connection)
            self.members.discard(connection)

    async def _answer(self, connection: trio_websocket.WebSocketConnection, frame: dict[str, Any]) -> None:
        if self.errors and frame["type"] == "publish":
            answer = {"type": "error", "id": frame["id"], **self.errors.pop(0)}
        elif frame["type"] == "join":
            self.joins.append(frame)
            self.members.add(connection)
            answer = {"type": "joined", "members": len(self.members), **self._page(frame, limit=50)}
        elif frame["type"] == "history":
            answer = {"type": "history", **self._page(frame, limit=2)}  # few, so that it is asked again
        else:
            self.publishes += 1
            message = self.keys.get(frame["key"])
            if message is None:
                message = await self._append(frame["text"], {"id": "u_me", "name": "Me"})
                self.keys[frame["key"]] = message
            if self.acks_to_lose:
                self.acks_to_lose -= 1
                await connection.aclose(1011)
                return
            answer = {"type": "ack", "id": frame["id"], **message}
        await connection.send_message(json.dumps(answer))

    def _page(self, frame: dict[str, Any], *, limit: int) -> dict[str, Any]:
        epoch, _, offset = (frame.get("after") or f"{self.epoch}-{max(0, len(self.log) - 50)}").partition("-")
        recovered = epoch == self.epoch
        after = int(offset) if recovered else 0
        page = self.log[after : after + limit]
        cursor = page[-1]["cursor"] if page else f"{self.epoch}-{after}"
        return {
            "id": frame["id"],
            "room": "lobby",
            "cursor": cursor,
            "recovered": recovered,
            "messages": page,
        }

    async def _append(self, text: str, user: dict[str, str]) -> dict[str, Any]:
        offset = len(self.log) + 1
        message = {
            "room": "lobby",
            "offset": offset,
            "cursor": f"{self.epoch}-{offset}",
            "user": user,
            "text": text,
            "time": "2026-11-20T12:00:00.123Z",
        }
        self.log.append(message)
        if self.pushes_to_lose:
            self.pushes_to_lose -= 1
            return message
        for connection in set(self.members):
            await connection.send_message(json.dumps({"type": "message", **message}))
        return message
