"""A scripted chat server on trio-websocket for tests of the client, with faults on demand.

Owns: one room's log, kept across "restarts"; faults that a test switches on. It shares no code with the
real server, so that client and server cannot agree on a mistake.
"""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from tests.support.answering import answering
from tests.support.ports import steady_port

ME, ZED = {"id": "u_me", "name": "Me"}, {"id": "u_z", "name": "Zed"}

NOT_NOW = "no\x1bc"  # the end of it resets a terminal

CHANGES = {"edit": "edit", "delete": "delete", "react": "reaction"}  # requests, and the records they become


def message(offset: int, text: str = "", *, epoch: str = "e1", user: dict[str, str] = ME) -> dict[str, Any]:
    place = {"room": "lobby", "offset": offset, "cursor": f"{epoch}-{offset}"}
    return {**place, "user": user, "text": text, "time": "2026-11-20T12:00:00.123Z"}


@dataclass(eq=False)
class Log:
    """The room `lobby`, and an honest answer to each request about it."""

    epoch: str = "e1"
    log: list[dict[str, Any]] = field(default_factory=list)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    reactions: set[tuple[int, str]] = field(default_factory=lambda: {(1, "👍")})  # of the only user

    def append(self, text: str, user: dict[str, str] = ME) -> dict[str, Any]:
        self.log.append(message(len(self.log) + 1, text, epoch=self.epoch, user=user))
        return self.log[-1]

    def answer(self, request: dict[str, Any], *, limit: int) -> dict[str, Any]:
        if request["type"] == "publish":
            if request["key"] not in self.keys:
                more: dict[str, Any] = {name: request[name] for name in ("reply_to", "mentions") if name in request}
                self.keys[request["key"]] = self.append(request["text"])
                self.keys[request["key"]].update(more)
            return {**self.keys[request["key"]], "type": "ack", "id": request["id"]}
        if request["type"] == "react":
            reaction = (request["offset"], request["emoji"])
            if (reaction in self.reactions) == request["on"]:  # no change: the room's last offset
                return {**self.log[-1], "type": "ack", "id": request["id"]}
            self.reactions ^= {reaction}
        if request["type"] in CHANGES:
            place = self.append("")
            change: dict[str, Any] = {name: request[name] for name in ("text", "emoji", "on") if name in request}
            place.update(change, type=CHANGES[request["type"]], target=request["offset"], count=1)
            return {**place, "type": "ack", "id": request["id"]}
        latest = f"{self.epoch}-{max(0, len(self.log) - 50)}"
        epoch, _, offset = request.get("after", latest).partition("-")
        recovered = epoch == self.epoch
        after = int(offset) if recovered else 0
        page = self.log[after : after + limit]
        kind = "joined" if request["type"] == "join" else "history"
        cursor = page[-1]["cursor"] if page else f"{self.epoch}-{after}"
        place = {"type": kind, "id": request["id"], "room": "lobby", "cursor": cursor}
        return {**place, "recovered": recovered, "messages": page}


@dataclass(eq=False)
class FakeServer(Log):
    """Faults are counters or lists that are used up; requests are recorded for the test."""

    port: int = field(default_factory=steady_port)
    connections: set[WebSocketConnection] = field(default_factory=set)
    members: set[WebSocketConnection] = field(default_factory=set)
    # what the client did
    joins: list[dict[str, Any]] = field(default_factory=list)
    typed: int = 0
    unheard: int = 0
    cookies: list[str | None] = field(default_factory=list)
    signed_in: list[bytes] = field(default_factory=list)  # the field `Authorization` of each upgrade that had one
    tokens: list[str] = field(default_factory=list)
    wrote: list[tuple[str, str]] = field(default_factory=list)  # as type and room
    asked: list[tuple[str, str]] = field(default_factory=list)  # to leave a room, or for its members
    posted: int = 0  # in plain HTTP, whatever the answer
    # faults
    acks_to_lose: int = 0
    refusals: list[int] = field(default_factory=list)
    refuses_after: trio.Event | None = None  # the first refusal waits for it
    retry_after: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    deaf: bool = False  # requests get no answer
    elsewhere: tuple[int, bytes] | None = (404, b'{"error": {"code": "not_found", "message": "there is nothing here"}}')

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, at the same port each time; leaving the block is a crash."""
        async with answering(self._accept, self.port):
            yield
        self.connections.clear()
        self.members.clear()

    async def say(self, text: str, user: dict[str, str] = ZED, **more: Any) -> None:
        """Publish as another user."""
        said = self.append(text, user)
        said.update(more)
        await self._push(said)

    async def tell(self, **frame: Any) -> None:
        """Send a frame to every connection."""
        for connection in set(self.connections):
            await connection.send_message(json.dumps(frame))

    async def close_all(self, code: int, reason: str = "") -> None:
        """Close every connection with a close frame."""
        for connection in set(self.connections):
            await connection.aclose(code, reason)

    async def _accept(self, stream: trio.SocketStream) -> None:
        """Speak WebSocket, at every path."""
        with suppress(OSError, trio.BrokenResourceError):
            if await stream.socket.recv(7, socket.MSG_PEEK) == b"GET /ws":
                async with trio.open_nursery() as nursery:
                    await self._handle(await wrap_server_stream(nursery, stream))
            elif request := await stream.receive_some():
                self.posted += not request.startswith(b"GET")
                if self.elsewhere is None:  # no answer
                    await trio.sleep_forever()
                status, body = self.elsewhere
                if not status:  # the answer is lost
                    return
                await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    async def _handle(self, request: WebSocketRequest) -> None:
        cookie = dict(request.headers).get(b"cookie")
        self.cookies.append(cookie.decode() if cookie else None)
        self.signed_in += [value for name, value in request.headers if name == b"authorization"]
        with suppress(ConnectionClosed):  # the client may leave at any time
            if self.refusals:
                if self.refuses_after is not None:
                    await self.refuses_after.wait()
                extra = [(b"Retry-After", self.retry_after.encode())] if self.retry_after else []
                body = json.dumps({"error": {"code": "x", "message": NOT_NOW}}).encode()
                await request.reject(self.refusals.pop(0), extra_headers=extra, body=body)
                return
            cookies = [(b"Set-Cookie", b"guest=g1; Path=/; HttpOnly; SameSite=Lax")]
            connection = await request.accept(extra_headers=cookies)
            self.connections.add(connection)
            try:
                await connection.send_message(json.dumps({"type": "hello", "user": ME, "ping": 25}))
                while True:
                    await self._serve(connection, json.loads(await connection.get_message()))
            finally:
                self.connections.discard(connection)
                self.members.discard(connection)

    async def _serve(self, connection: WebSocketConnection, frame: dict[str, Any]) -> None:
        if self.errors and frame["type"] in ("join", "publish", "auth"):
            await connection.send_message(json.dumps({"type": "error", "id": frame["id"], **self.errors.pop(0)}))
            return
        if self.deaf:
            self.unheard += 1
            return
        if frame["type"] == "typing":
            self.typed += 1
            return
        if frame["type"] == "auth":
            self.tokens.append(frame["token"])
            told = {"type": "authenticated", "id": frame["id"], "user": ME, "expires": "2026-11-20T12:00:00.000Z"}
            await connection.send_message(json.dumps(told))
            return
        if frame["type"] in ("leave", "members"):
            self.asked.append((frame["type"], frame["room"]))
            members = {"type": "members", "members": [ME, ZED], "count": 3}
            who = members if frame["type"] == "members" else {"type": "left"}
            await connection.send_message(json.dumps({"id": frame["id"], "room": frame["room"], **who}))
            return
        if frame["type"] == "join":
            self.joins.append(frame)
            self.members.add(connection)
        if frame["type"] in ("publish", *CHANGES):
            self.wrote.append((frame["type"], frame["room"]))
        known = len(self.log)
        answer = self.answer(frame, limit=2 if frame["type"] == "history" else 50)  # few, so that more requests follow
        for fresh in self.log[known:]:
            await self._push(fresh)
        if frame["type"] == "publish" and self.acks_to_lose:
            self.acks_to_lose -= 1
            await connection.aclose(1011)
        else:
            await connection.send_message(json.dumps({**answer, "members": len(self.members)}))

    async def _push(self, fresh: dict[str, Any]) -> None:
        for connection in set(self.members):
            with suppress(ConnectionClosed):  # its own handler finds that out
                await connection.send_message(json.dumps({"type": "message"} | fresh))
