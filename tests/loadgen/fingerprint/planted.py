"""A server with known limits, for the probes to find: one trio task a connection, in the test's own nursery.

It reads requests with h11 and frames by hand, so that loadgen's own reading of them is checked by somebody else's.
Every limit is off unless planted.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

import h11
import trio
from wsproto.utilities import generate_accept_token

from loadgen import target
from loadgen.target import Target

NEVER: Final = float("inf")


@dataclass(kw_only=True)
class Plant:
    """The limits; seconds, bytes or numbers."""

    head_total: float = NEVER
    head_idle: float = NEVER  # armed anew by each read
    body_total: float = NEVER
    body_idle: float = NEVER
    keepalive: float = NEVER
    poll_max: float = NEVER
    linger: float = 0.0
    send_stall: float = NEVER  # for 512 bytes of an answer to be taken
    max_head: float = NEVER
    max_fields: float = NEVER
    max_body: float = NEVER
    max_overhead: float = NEVER
    per_address: float = NEVER
    ping_every: float = NEVER
    pong_within: float = NEVER
    frame_total: float = NEVER
    message_total: float = NEVER
    close_within: float = 0.0
    max_message: float = NEVER
    max_fragments: float = NEVER
    websocket: bool = True
    answer_bytes: int = 2000
    posts: bool = True  # else 405, before the body
    one_at_a_time: bool = False
    resets: bool = False  # every connection, at once
    says: bytes = b""  # to every connection, and closes
    dies_after: float = NEVER
    tls: ssl.SSLContext | None = None
    tls_total: float = NEVER


class LateError(Exception):
    """A deadline has struck."""


class GoneError(Exception):
    """The peer has."""


@dataclass(eq=False)
class Server:
    plant: Plant
    listener: trio.SocketListener
    held: dict[str, int] = field(default_factory=dict)
    requests: int = 0

    @property
    def target(self) -> Target:
        scheme = "https" if self.plant.tls else "http"
        return target.find(f"{scheme}://127.0.0.1:{self.listener.socket.getsockname()[1]}")

    async def serve(self) -> None:
        with trio.move_on_after(self.plant.dies_after), self.listener.socket:
            async with trio.open_nursery() as nursery:
                while True:
                    stream = await self.listener.accept()
                    if self.plant.one_at_a_time:
                        await self._attend(stream)
                    else:
                        nursery.start_soon(self._attend, stream)

    async def _attend(self, stream: trio.SocketStream) -> None:
        address = stream.socket.getpeername()[0]
        self.held[address] = self.held.get(address, 0) + 1
        try:
            await self._admit(stream, address)
        except (LateError, GoneError, trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            self.held[address] -= 1
            stream.socket.close()

    async def _admit(self, stream: trio.SocketStream, address: str) -> None:
        if self.plant.resets:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif self.plant.says:
            await stream.send_all(self.plant.says)
        elif self.held[address] > self.plant.per_address:
            await stream.send_all(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            await self._converse(stream)

    async def _converse(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        if self.plant.tls is None:
            await Conversation(self, stream, stream).run()
            return
        secure = trio.SSLStream(stream, self.plant.tls, server_side=True, https_compatible=True)
        with trio.move_on_after(self.plant.tls_total) as handshake:
            await secure.do_handshake()
        if not handshake.cancelled_caught:
            await Conversation(self, secure, stream).run()


class Conversation:
    """One connection."""

    def __init__(self, server: Server, stream: trio.abc.Stream, sock: trio.SocketStream) -> None:
        self.server = server
        self.plant = server.plant
        self.stream = stream
        self.socket = sock.socket
        self.data = b""
        self.h11 = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        first = True
        try:
            while await self._request(first=first):
                first = False
        except h11.RemoteProtocolError:
            await self._answer(400, close=True)
            await self._linger()

    async def receive(self, until: float, idle: float = NEVER) -> bytes:
        data: bytes | bytearray = b""
        with trio.move_on_at(min(until, trio.current_time() + idle)) as scope:
            data = await self.stream.receive_some(65536)
        if scope.cancelled_caught:
            raise LateError
        if not data:
            raise GoneError
        return bytes(data)

    async def _linger(self) -> None:
        self.socket.shutdown(trio.socket.SHUT_WR)
        until = trio.current_time() + self.plant.linger
        while True:
            await self.receive(until)

    # HTTP

    async def _request(self, *, first: bool) -> bool:
        request = await self._head(first=first)
        self.server.requests += 1
        path = urlsplit(request.target.decode())
        fields = dict(request.headers)
        if path.path == "/ws" and self.plant.websocket and b"upgrade" in fields:
            await Frames(self, fields[b"sec-websocket-key"]).run()
            return False
        if request.method == b"POST":
            return await self._post(fields)
        if path.path == "/poll":
            await trio.sleep(min(float(parse_qs(path.query)["wait"][0]), self.plant.poll_max))
        await self._answer(200 if path.path in {"/", "/poll"} else 404)
        return True

    async def _head(self, *, first: bool) -> h11.Request:
        begun = trio.current_time()
        until, idle = begun + self.plant.head_total, self.plant.head_idle
        if not first and not self.data:
            self.data = await self.receive(begun + self.plant.keepalive)
            until = trio.current_time() + self.plant.head_total
        while b"\r\n\r\n" not in self.data:
            try:
                self.data += await self.receive(until, idle)
            except LateError:
                if self.data:
                    await self._answer(408, close=True)
                raise
        size = self.data.index(b"\r\n\r\n") + 4
        head, self.data = self.data[:size], self.data[size:]
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
        self.h11.receive_data(head)
        if size > self.plant.max_head or head.count(b"\r\n") - 2 > self.plant.max_fields:
            await self._answer(431, close=True)
            raise GoneError
        request = self.h11.next_event()
        assert isinstance(request, h11.Request)
        return request

    async def _post(self, fields: dict[bytes, bytes]) -> bool:
        if not self.plant.posts:
            await self._answer(405, close=True)
            return False
        if int(fields.get(b"content-length", b"0")) > self.plant.max_body:
            await self._answer(413, close=True)
            return False
        if self.h11.they_are_waiting_for_100_continue:
            await self.stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        until = trio.current_time() + self.plant.body_total
        body, wire = 0, len(self.data)
        if self.data:
            self.h11.receive_data(self.data)
        while not isinstance(event := self.h11.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body += len(event.data)
            elif event is h11.NEED_DATA:
                if wire - body > self.plant.max_overhead and b"transfer-encoding" in fields:
                    await self._answer(400, close=True)
                    return False
                try:
                    data = await self.receive(until, self.plant.body_idle)
                except LateError:
                    await self._answer(408, close=True)
                    raise
                wire += len(data)
                self.h11.receive_data(data)
        self.data = self.h11.trailing_data[0]
        await self._answer(201)
        return True

    async def _answer(self, status: int, *, close: bool = False) -> None:
        body = b"x" * self.plant.answer_bytes if status == 200 else b""
        fields = [("Content-Length", str(len(body))), *([("Connection", "close")] if close else [])]
        head = self.h11.send(h11.Response(status_code=status, headers=fields))
        end = (self.h11.send(h11.Data(data=body)) or b"") + (self.h11.send(h11.EndOfMessage()) or b"")
        assert head is not None
        await self._send(head + end)

    async def _send(self, data: bytes) -> None:
        for at in range(0, len(data), 512):
            with trio.move_on_after(self.plant.send_stall) as scope:
                await self.stream.send_all(data[at : at + 512])
            if scope.cancelled_caught:
                raise LateError


class Frames:
    """A WebSocket: pings, deadlines and limits; what is said is thrown away."""

    def __init__(self, conversation: Conversation, key: bytes) -> None:
        self.conversation = conversation
        self.plant = conversation.plant
        self.key = key
        self.data = bytearray()  # messages of 32 MiB come in 500 pieces
        self.fragments = 0
        self.message_begun = NEVER
        self.frame_begun = NEVER
        self.heard = trio.current_time()
        self.pinged = NEVER

    async def run(self) -> None:
        accept = generate_accept_token(self.key)
        await self.conversation.stream.send_all(
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept
            + b"\r\n\r\n"
        )
        while True:
            if not await self._turn():
                return

    async def _turn(self) -> bool:
        plant = self.plant
        ping_at = self.heard + plant.ping_every if self.pinged == NEVER else NEVER
        cut_at = min(
            self.pinged + plant.pong_within,
            self.frame_begun + plant.frame_total,
            self.message_begun + plant.message_total,
        )
        try:
            self.data += await self.conversation.receive(min(ping_at, cut_at))
        except LateError:
            if trio.current_time() >= cut_at:
                return await self._close(1008)
            self.pinged = trio.current_time()
            await self._send(0x9, b"")
            return True
        self.heard, self.pinged = trio.current_time(), NEVER
        while (found := _split(self.data)) is not None:
            first, payload, end = found
            del self.data[:end]
            self.frame_begun = NEVER
            if not await self._frame(first, payload):
                return False
        announced = _announced(self.data)
        if announced > plant.max_message:
            return await self._close(1009)
        if self.data and self.frame_begun == NEVER:
            self.frame_begun = trio.current_time()
        return True

    async def _frame(self, first: int, payload: bytes) -> bool:
        opcode, final = first & 0x0F, first >= 0x80
        if opcode == 0x8:
            await self._send(0x8, payload)
            return False
        if opcode == 0x9:
            await self._send(0xA, payload)
        elif opcode in {0x0, 0x1, 0x2}:
            self.fragments += 1
            self.message_begun = min(self.message_begun, trio.current_time())
            if self.fragments > self.plant.max_fragments or len(payload) > self.plant.max_message:
                return await self._close(1009)
            if final:
                self.fragments, self.message_begun = 0, NEVER
        elif opcode != 0xA:
            return await self._close(1002)
        return True

    async def _send(self, opcode: int, payload: bytes) -> None:
        await self.conversation.stream.send_all(bytes((0x80 | opcode, len(payload))) + payload)

    async def _close(self, code: int) -> bool:
        await self._send(0x8, code.to_bytes(2) + b"planted")
        until = trio.current_time() + self.plant.close_within
        while True:
            await self.conversation.receive(until)


def _announced(data: bytearray) -> int:
    if len(data) < 10:
        return 0
    short = data[1] & 0x7F
    return short if short < 126 else int.from_bytes(data[2 : 4 if short == 126 else 10])


def _split(data: bytearray) -> tuple[int, bytes, int] | None:
    """The first whole frame and where it ends. Masks are zero, as loadgen's are."""
    if len(data) < 6:
        return None
    short = data[1] & 0x7F
    start = {126: 4, 127: 10}.get(short, 2)
    size = short if short < 126 else int.from_bytes(data[2:start])
    end = start + 4 + size
    return (data[0], bytes(data[start + 4 : end]), end) if len(data) >= end else None


@asynccontextmanager
async def planted(plant: Plant | None = None) -> AsyncIterator[Server]:
    """Serve while the block runs."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    server = Server(plant or Plant(), listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        yield server
        nursery.cancel_scope.cancel()
