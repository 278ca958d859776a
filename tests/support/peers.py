"""Clients of raw bytes, which can be as malformed, slow and silent as a test needs.

Owns: bytes over a real socket, and reading answers strictly. Written without `chatserver`, so that the two cannot
share a mistake; wsproto's client checks the server's frames.

    async with connect(address) as peer:
        await peer.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await peer.response()
"""

import contextlib
import json
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, TypeAlias

import trio
import wsproto.events as ws
from wsproto.connection import Connection, ConnectionType

from tests.support.certificates import NAMES, trusting_any

#: Seconds until a test gives up on something that must happen: generous, since a slow machine is no fault.
PATIENCE = 30.0
#: Seconds between an answer's Date and its reading, at most: an answer kept for later would be older.
OLDEST = 120.0

#: The body of a request; of a mapping the JSON is sent.
Body: TypeAlias = bytes | Mapping[str, Any]

MASK = b"\x01\x02\x03\x04"
WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
WEBSOCKET_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # what RFC 6455 section 1.3 says that key gives


@dataclass(frozen=True)
class Address:
    """The address of a server, with a TLS context if it speaks TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str) -> "Address":
        scheme, _, authority = url.partition("://")
        host, _, port = authority.rpartition(":")
        return cls(host.strip("[]"), int(port), trusting_any() if scheme == "https" else None)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of an error answer, after a check of its form."""
        assert self.headers["content-type"] == "application/json"
        error = self.json["error"]
        assert error["message"]
        return str(error["code"])


class EndOfStreamError(Exception):
    """The server closed or reset the connection; the argument is the data from before."""


class RefusedError(Exception):
    """An unexpected status; the argument is the answer's head."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


class Peer:
    """One TCP connection."""

    def __init__(self, stream: trio.SocketStream, tls: "trio.SSLStream[trio.SocketStream] | None" = None) -> None:
        self.transport = stream
        self.stream: trio.abc.Stream = stream if tls is None else tls
        self.buffer = b""
        self.sends = 0  # under TLS each is a record, if it is short
        self.pause: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint  # before each read, for a slow reader

    async def send(self, data: bytes) -> None:
        self.sends += 1
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def drip(self, data: bytes, *, size: int = 1, pause: float) -> None:
        """Send a few bytes at a time until all are sent or the server closes."""
        with contextlib.suppress(trio.BrokenResourceError):  # closed by the server, as such a test expects
            for at in range(0, len(data), size):
                await self.send(data[at : at + size])
                await trio.sleep(pause)

    async def end(self) -> None:
        """Send FIN."""
        await self.transport.send_eof()

    def reset(self) -> None:
        """Close with RST."""
        self.transport.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.transport.socket.close()

    async def more(self, most: int = 65_536) -> None:
        """Wait for bytes. Raises EndOfStreamError."""
        await self.pause()
        with trio.fail_after(PATIENCE):
            try:
                data = await self.stream.receive_some(most)
            except trio.BrokenResourceError:
                data = b""
        if not data:
            raise EndOfStreamError(self.buffer)
        self.buffer += data

    async def until(self, mark: bytes) -> bytes:
        """Read up to and including a mark."""
        while mark not in self.buffer:
            await self.more()
        taken, _, self.buffer = self.buffer.partition(mark)
        return taken + mark

    async def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self.more()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    async def rest(self) -> bytes:
        """Read until the server closes."""
        try:
            while True:
                await self.more()
        except EndOfStreamError:
            taken, self.buffer = self.buffer, b""
            return taken

    async def head(self) -> Answer:
        """Read the head of an answer."""
        lines = (await self.until(b"\r\n\r\n")).decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(": ")
            assert colon, line
            another = name == "Vary" and value != headers.get("vary")  # a list (RFC 9110 section 5.3)
            assert name.lower() not in headers or another, f"{name} twice"
            headers[name.lower()] = value
        if 200 <= int(status) < 500:  # RFC 9110 section 6.6.1
            age = time.time() - parsedate_to_datetime(headers["date"]).timestamp()
            assert -1 < age < OLDEST, headers
        return Answer(int(status), headers, b"")

    async def response(self, *, head_only: bool = False) -> Answer:
        """Read a whole answer."""
        head = await self.head()
        size = 0 if head_only or head.status in (204, 304) else int(head.headers["content-length"])
        return Answer(head.status, head.headers, await self.take(size))

    async def request(
        self, method: str, path: str, body: Body = b"", *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read the answer."""
        await self.send(request(method, path, body, headers=headers))
        return await self.response(head_only=method == "HEAD")


def request(method: str, path: str, body: Body = b"", *, headers: Mapping[str, str] | None = None) -> bytes:
    """A request as bytes."""
    fields = {"Host": "localhost", **(headers or {})}
    if not isinstance(body, bytes):
        fields["Content-Type"], body = "application/json", json.dumps(body).encode()
    if body:
        fields.setdefault("Content-Length", str(len(body)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


@asynccontextmanager
async def connect(address: Address, *, receive_buffer: int = 0, source: str = "") -> AsyncIterator[Peer]:
    """Connect, perhaps from a source address and with a small receive buffer, as of a slow reader."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    connecting = trio.socket.socket(family, socket.SOCK_STREAM)
    if receive_buffer:
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        if source:
            await connecting.bind((source, 0))
        with trio.fail_after(PATIENCE):
            await connecting.connect((address.host, address.port))
    except BaseException:
        connecting.close()
        raise
    async with trio.SocketStream(connecting) as stream:
        if address.tls is None:
            yield Peer(stream)
            return
        # Not https_compatible: an end without the server's close_notify is an error then.
        tls = trio.SSLStream(stream, address.tls, server_hostname=NAMES[0])
        with trio.fail_after(PATIENCE):
            await tls.do_handshake()
        yield Peer(stream, tls)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(PATIENCE):
            await tls.aclose()


async def ask(
    address: Address, method: str, path: str, body: Body = b"", *, headers: Mapping[str, str] | None = None,
    source: str = "",
) -> Answer:  # fmt: skip
    """Send one request on a new connection."""
    async with connect(address, source=source) as peer:
        return await peer.request(method, path, body, headers={"Connection": "close", **(headers or {})})


async def publish(address: Address, room: str, text: str, **fields: Any) -> Any:
    """Publish as the guest of this address; the body of the 201."""
    answer = await ask(address, "POST", f"/rooms/{room}/messages", {"text": text, **fields})
    assert answer.status == 201, answer
    return answer.json


async def read_all(address: Address, room: str) -> list[Any]:
    """All messages of a room from which none was removed."""
    found: list[Any] = []
    path = f"/rooms/{room}/messages?limit=200&after="
    while page := (await ask(address, "GET", f"{path}{len(found)}")).json["messages"]:
        found += page
    return found


# -- WebSocket --------------------------------------------------------------------------------------------------------


def upgrade(path: str = "/ws", *, headers: Mapping[str, str] | None = None, without: Iterable[str] = ()) -> bytes:
    """The opening handshake; `headers` replace or add, `without` leaves out."""
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    fields |= {"Sec-WebSocket-Key": WEBSOCKET_KEY, **(headers or {})}
    for name in without:
        del fields[name]
    return request("GET", path, headers=fields)


def raw_frame(start: int, payload: bytes = b"", *, mask: bytes = MASK, length: int | None = None) -> bytes:
    """A frame with this first byte, valid or malformed; without a mask a server's. `length` replaces the true one."""
    size = len(payload) if length is None else length
    short, wide = (size, 0) if size < 126 else (126, 2) if size < 1 << 16 else (127, 8)
    header = bytes((start, (0x80 if mask else 0) | short)) + (size.to_bytes(wide, "big") if wide else b"")
    if not mask:
        return header + payload
    masks = (mask * (len(payload) // len(mask) + 1))[: len(payload)]
    return header + mask + (int.from_bytes(payload) ^ int.from_bytes(masks)).to_bytes(len(payload))


def frame(payload: bytes | str, *, opcode: int = 1, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame, valid or malformed."""
    data = payload.encode() if isinstance(payload, str) else payload
    return raw_frame((0x80 if fin else 0) | rsv << 4 | opcode, data, mask=MASK if masked else b"")


def say(**message: Any) -> bytes:
    """A chat.v1 message in a frame."""
    return frame(json.dumps(message))


class ClosedError(Exception):
    """The server's close frame came."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Chatter:
    """A chat.v1 client for one task. Pushed messages are kept until `next` asks for their type."""

    def __init__(self, peer: Peer, handshake: Answer = Answer(101, {}, b"")) -> None:
        self.peer = peer
        self.handshake = handshake
        self.hello: Any = None
        self.answers_pings = True
        self.pings = 0
        self._frames = Connection(ConnectionType.CLIENT, trailing_data=peer.buffer)
        self._heard: deque[Any] = deque()
        self._text = ""
        self._count = 0
        self._ending: ClosedError | None = None
        peer.buffer = b""

    async def say(self, **message: Any) -> None:
        await self.peer.send(say(**message))

    async def hear(self) -> Any:
        """The next message of any type."""
        return await self._first(lambda _: True)

    async def _receive(self) -> None:
        """Keep what comes next, one message at least. Raises ClosedError behind the last."""
        kept = len(self._heard)
        while True:
            for event in self._frames.events():
                await self._take(event)
            if len(self._heard) > kept:
                return
            if self._ending is not None:
                raise self._ending
            await self.peer.more()
            self._frames.receive_data(self.peer.buffer)
            self.peer.buffer = b""

    async def _take(self, event: ws.Event) -> None:
        if isinstance(event, ws.TextMessage):
            self._text += event.data
            if event.message_finished:
                self._heard.append(json.loads(self._text))
                self._text = ""
        elif isinstance(event, ws.Ping):
            self.pings += 1
            if self.answers_pings:
                await self.peer.send(frame(bytes(event.payload), opcode=10))
        elif isinstance(event, ws.CloseConnection):
            self._ending = ClosedError(int(event.code), event.reason or "")

    async def next(self, *kinds: str) -> Any:
        """The next message of one of these types; others are kept."""
        return await self._first(lambda message: message["type"] in kinds)

    async def ask(self, kind: str, **fields: Any) -> Any:
        """Send a message with a new id and wait for the answer with that id."""
        self._count += 1
        id_ = f"q{self._count}"
        await self.say(type=kind, id=id_, **fields)
        return await self._first(lambda message: message.get("id") == id_)

    async def _first(self, wanted: Callable[[Any], bool]) -> Any:
        seen = 0  # of those that are kept
        while True:
            for at, message in enumerate(islice(self._heard, seen, None), seen):
                if wanted(message):
                    del self._heard[at]
                    return message
            seen = len(self._heard)
            await self._receive()

    async def closed(self) -> ClosedError:
        """Wait for the close frame; drop all messages before it."""
        try:
            while True:
                await self.hear()
        except ClosedError as closed:
            return closed

    async def close(self, code: int = 1000) -> None:
        """Do the close handshake, and close the connection: the server would wait two seconds for that."""
        await self.peer.send(frame(code.to_bytes(2, "big"), opcode=8))
        await self.closed()
        await self.peer.transport.aclose()


async def open_websocket(peer: Peer, *, path: str = "/ws", headers: Mapping[str, str] | None = None) -> Chatter:
    """Upgrade a connection; on /ws also receive `hello`."""
    await peer.send(upgrade(path, headers=headers))
    handshake = await peer.head()
    if handshake.status != 101:
        raise RefusedError(handshake)
    assert handshake.headers["sec-websocket-accept"] == WEBSOCKET_ACCEPT
    chatter = Chatter(peer, handshake)
    if path == "/ws":
        chatter.hello = await chatter.next("hello")
    return chatter


@asynccontextmanager
async def chatter(
    address: Address, *, path: str = "/ws", headers: Mapping[str, str] | None = None, receive_buffer: int = 0,
    source: str = "",
) -> AsyncIterator[Chatter]:  # fmt: skip
    """A new WebSocket."""
    async with connect(address, receive_buffer=receive_buffer, source=source) as peer:
        yield await open_websocket(peer, path=path, headers=headers)
