"""A stage for personas: an `Engine` with one cohort, played against a server that the test holds itself.

    async with meeting("slow-head") as (play, stream):
        assert (await stream.receive_some()).startswith(b"GET / ")
        await until(lambda: play.cohort.ended)

No processes, no report, no victims. A persona's pace is a constant of its module: shorten it with `monkeypatch`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import h11
import trio
import wsproto
from wsproto import events

from loadgen.clients.client import Client
from loadgen.clients.cohort import Cohort, Place
from loadgen.clients.engine import Engine
from loadgen.net import target
from loadgen.net.target import Endpoint
from loadgen.net.wire import WireError
from loadgen.personas import registry

#: How long a test waits for anything: far longer than it ever takes on a machine that is busy with something else.
PATIENCE = 20.0

DEADLINE_ANSWER = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Play:
    """What is on stage."""

    engine: Engine
    cohort: Cohort
    clients: list[Client]

    @property
    def client(self) -> Client:
        """The only one."""
        [client] = self.clients
        return client


@asynccontextmanager
async def playing(
    url: str, persona: str | type[Client], *, clients: int = 1, connect_rate: float = 0.0, **place: Any
) -> AsyncIterator[Play]:
    """Play so many clients of a persona (a name, or a class of the test's own); `place` is passed to `Place`."""
    engine = Engine(target.find(url), connect_rate=connect_rate)
    paths = {name: place.pop(name) for name in ("path", "websocket_path", "is_chat", "page_type") if name in place}
    if paths:
        place["endpoint"] = Endpoint(**paths)
    where = Place(**{"host": "x", "rooms": ("lobby",), "poll_wait_seconds": 25.0, "random": Random(1), **place})
    group = registry()[persona] if isinstance(persona, str) else persona
    cohort = Cohort(persona=group.name, group="", kind=group, engine=engine, place=where, wanted=clients)
    members = cohort.make(clients)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        engine.open(members)
        yield Play(engine, cohort, members)
        nursery.cancel_scope.cancel()


class Server:
    """A listening socket; what it says is up to the test."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._streams: list[trio.SocketStream] = []
        self.port: int = listener.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        with trio.fail_after(PATIENCE):
            self._streams.append(await self._listener.accept())
        return self._streams[-1]

    async def websocket(self) -> WebSocket:
        """The next connection, as a WebSocket whose handshake is done."""
        socket = WebSocket(await self.accept())
        await socket.accept()
        return socket

    async def stop(self) -> None:
        """Listen no more, as a server that has died."""
        await self._listener.aclose()

    def close(self) -> None:
        """Close every connection that the test left open."""
        for stream in self._streams:
            stream.socket.close()


@asynccontextmanager
async def listening(*, backlog: int = 16) -> AsyncIterator[Server]:
    """A server that accepts when the test says so."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=backlog)
    server = Server(listener)
    async with listener:
        try:
            yield server
        finally:
            server.close()


@asynccontextmanager
async def answering(serve: Callable[[trio.SocketStream], Awaitable[object]], port: int = 0) -> AsyncIterator[int]:
    """A server that does this with each of its connections; its port."""
    async with trio.open_nursery() as nursery:
        start = partial(trio.serve_tcp, serve, port, host="127.0.0.1", backlog=1024)
        [listener] = await nursery.start(start)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Probe(Client):
    """A client that is no persona: it says something, is held at once, and keeps what it hears."""

    __slots__ = ()

    name = "probe"
    honest = True
    first: bytes = b"hello"
    received: bytes = b""

    def opening(self) -> bytes:
        return type(self).first

    def on_connected(self) -> None:
        self.hold()

    def on_data(self, data: bytes) -> None:
        type(self).received += data
        if data == b"garbage":
            raise WireError("garbage")


@asynccontextmanager
async def meeting(persona: str | type[Client], **place: Any) -> AsyncIterator[tuple[Play, trio.SocketStream]]:
    """One client of a persona, and its first connection."""
    async with listening() as server, playing(server.url, persona, **place) as play:
        yield play, await server.accept()


@asynccontextmanager
async def established(persona: type[Client] = Probe) -> AsyncIterator[tuple[Server, trio.SocketStream, Play]]:
    """A server, its end of a connection, and the client that is held there."""
    async with listening() as server, playing(server.url, persona) as play:
        stream = await server.accept()
        await until(lambda: play.cohort.held == 1)
        yield server, stream, play


@asynccontextmanager
async def talking(persona: str, **place: Any) -> AsyncIterator[tuple[Play, WebSocket]]:
    """The same by WebSocket, after the handshake."""
    async with meeting(persona, **place) as (play, stream):
        socket = WebSocket(stream)
        await socket.accept()
        yield play, socket


async def read_until(stream: trio.abc.ReceiveStream, enough: Callable[[bytes], object], data: bytes = b"") -> bytes:
    """Read on after `data` until it is enough, and return all of it."""
    with trio.fail_after(PATIENCE):
        while not enough(data):
            more = await stream.receive_some()
            assert more, f"the client closed after {data[-200:]!r}"
            data += more
    return data


async def until(ready: Callable[[], object]) -> None:
    """Wait for something to become true."""
    with trio.fail_after(PATIENCE):
        while not ready():  # noqa: ASYNC110  what is waited for has no event
            await trio.sleep(0.005)


async def unread(stream: trio.SocketStream) -> None:
    """Wait for bytes and leave them in the kernel, so that a close of this end sends RST."""
    with trio.fail_after(PATIENCE):
        await stream.socket.recv(1, trio.socket.MSG_PEEK)


def reset(stream: trio.SocketStream) -> None:
    """Hang up with RST, at once."""
    stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()


async def request_of(stream: trio.SocketStream) -> h11.Request:
    """The next request, which has no body."""
    return parsed(await read_until(stream, lambda got: got.endswith(b"\r\n\r\n")))[0]


async def answer(stream: trio.abc.SendStream, status: int, body: bytes = b"", *fields: bytes) -> None:
    """Answer a request."""
    head = b"".join(b"%s\r\n" % field for field in (b"Content-Length: %d" % len(body), *fields))
    await stream.send_all(b"HTTP/1.1 %d X\r\n%s\r\n%s" % (status, head, body))


def parsed(data: bytes) -> tuple[h11.Request, h11.Connection]:
    """A request as h11 reads it, and the connection for what follows."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    request = parser.next_event()
    assert isinstance(request, h11.Request), data
    return request, parser


class WebSocket:
    """The server's end of a WebSocket, by wsproto."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self.data = b""  # everything received

    async def accept(self) -> events.Request:
        """Finish the handshake."""
        request = await self.receive()
        assert isinstance(request, events.Request)
        await self.send(events.AcceptConnection())
        return request

    async def receive(self) -> events.Event:
        """The next event."""
        while True:
            for event in self._protocol.events():
                return event
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some()
            self.data += data
            self._protocol.receive_data(bytes(data) or None)

    async def text(self) -> str:
        """The next message, whole."""
        text = ""
        while True:
            event = await self.receive()
            assert isinstance(event, events.TextMessage), event
            text += event.data
            if event.message_finished:
                return text

    async def hear(self) -> dict[str, object]:
        """The next message, from JSON."""
        message: dict[str, object] = json.loads(await self.text())
        return message

    async def say(self, **message: object) -> None:
        """Send a message as JSON."""
        await self.send(events.TextMessage(json.dumps(message)))

    def received(self) -> list[events.Event]:
        """The events of what was received and that `receive` has not returned."""
        return list(self._protocol.events())

    async def send(self, event: events.Event) -> None:
        """Say something."""
        await self.stream.send_all(self._protocol.send(event))
