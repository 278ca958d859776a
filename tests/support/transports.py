"""Listening to a room over each transport, in the same way, so that the same tests apply to all.

Owns: WebSocket, long-poll and server-sent events behind one class each with one method; and the client's part: it
resumes from its cursor, and notes that it was told of missed messages.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio

from tests.support.peers import Address, Answer, Chatter, Peer, RefusedError, chatter, connect, request

TRANSPORTS = ("websocket", "poll", "events")
#: Events that have an offset in their room.
RECORDS = ("message", "edit", "delete", "reaction")


class JoinRefusedError(Exception):
    """The server refuses a join, or ends the membership; the argument is the code of the `error`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Subscriber(Protocol):
    cursor: str
    told_of_loss: bool

    async def batch(self) -> list[Any]:
        """The next messages; none if something else came."""


class WebSocketSubscriber:
    def __init__(self, friend: Chatter, joined: Any) -> None:
        if joined["type"] == "error":
            raise JoinRefusedError(joined["code"])
        self._friend = friend
        self._missed = joined["messages"]
        self.cursor = joined["cursor"]
        self.told_of_loss = not joined["recovered"]

    async def batch(self) -> list[Any]:
        if self._missed:
            missed, self._missed = self._missed, []
            return list(missed)
        message = await self._friend.next(*RECORDS, "gap", "error")
        if message["type"] == "error":
            if "room" in message:
                raise JoinRefusedError(message["code"])
            return []  # muted
        if message["type"] == "gap":
            self.told_of_loss = True
            self.cursor = message["until"]
            return []
        if message["type"] == "message":
            del message["type"]  # as in pages
        self.cursor = message["cursor"]
        return [message]


class PollSubscriber:
    def __init__(self, peer: Peer, room: str, after: str | None, headers: Mapping[str, str] | None) -> None:
        self._peer = peer
        self._headers = headers
        self._room = room
        self.cursor = after or "0"
        self.told_of_loss = False

    async def batch(self) -> list[Any]:
        path = f"/rooms/{self._room}/messages?after={self.cursor}&wait=20&limit=7"
        answer = await self._peer.request("GET", path, headers=self._headers)
        if answer.status != 200:
            raise RefusedError(answer)
        page = answer.json
        self.cursor = page["cursor"]
        self.told_of_loss |= not page["recovered"]
        return list(page["messages"])


class EventsSubscriber:
    def __init__(self, peer: Peer, head: Answer, after: str | None) -> None:
        if head.status != 200:
            raise RefusedError(head)
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        self._peer = peer
        self.cursor = after or ""
        self.told_of_loss = False
        self.fields: list[tuple[str, str]] = []

    async def batch(self) -> list[Any]:
        block = (await self._peer.until(b"\n\n")).decode()
        event: dict[str, str] = {}
        for line in block.strip().split("\n"):
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
            self.fields.append((name, event[name]))
        if "id" not in event:
            return []  # retry:, or a heartbeat
        self.cursor = event["id"]
        if event["event"] == "gap":
            self.told_of_loss = True
            return []
        assert event["event"] in RECORDS
        message = json.loads(event["data"])
        assert message["cursor"] == self.cursor
        return [message]


@asynccontextmanager
async def subscribe(
    transport: str, address: Address, room: str, after: str | None = None, *, receive_buffer: int = 0,
    pause: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint, headers: Mapping[str, str] | None = None,
    source: str = "",
) -> AsyncIterator[Subscriber]:  # fmt: skip
    """Listen from a cursor on, or from the beginning; `pause` is awaited before each read."""
    start = after or "0"
    if transport == "websocket":
        async with chatter(address, receive_buffer=receive_buffer, headers=headers, source=source) as friend:
            friend.peer.pause = pause
            yield WebSocketSubscriber(friend, await friend.ask("join", room=room, after=start))
        return
    async with connect(address, receive_buffer=receive_buffer, source=source) as peer:
        peer.pause = pause
        if transport == "poll":
            yield PollSubscriber(peer, room, after, headers)
        else:
            await peer.send(request("GET", f"/rooms/{room}/events?after={start}", headers=headers))
            yield EventsSubscriber(peer, await peer.head(), after)


async def collect(subscriber: Subscriber, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += await subscriber.batch()
    return found
