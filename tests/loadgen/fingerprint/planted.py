"""A server with known limits, for the probes to find: one trio task a connection, in the test's own nursery.

It reads requests with h11 and frames with wsproto. Every limit is off unless planted.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h11
import trio
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed
from wsproto.utilities import generate_accept_token

from loadgen.net import target
from loadgen.net.target import Target
from tests.loadgen.fingerprint.plant import GRACE_SECONDS, LATE_SECONDS, NEVER, RESET, GoneError, LateError, Plant


@dataclass(eq=False)
class Server:
    plant: Plant
    listener: trio.SocketListener
    held: dict[str, int] = field(default_factory=dict)
    connections: int = 0

    @property
    def target(self) -> Target:
        scheme = "https" if self.plant.tls else "http"
        return target.find(f"{scheme}://127.0.0.1:{self.listener.socket.getsockname()[1]}")

    async def serve(self) -> None:
        places = trio.CapacityLimiter(self.plant.at_once)
        with trio.move_on_after(self.plant.dies_after), self.listener.socket:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._attend, await self.listener.accept(), places)

    async def _attend(self, stream: trio.SocketStream, places: trio.CapacityLimiter) -> None:
        address = stream.socket.getpeername()[0]
        self.held[address] = self.held.get(address, 0) + 1
        try:
            async with nullcontext() if self.plant.at_once == NEVER else places:  # one step less in the usual case
                await self._admit(stream, address)
        except (
            LateError,
            GoneError,
            OSError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            h11.RemoteProtocolError,
        ):
            pass
        finally:
            self.held[address] -= 1
            stream.socket.close()

    async def _admit(self, stream: trio.SocketStream, address: str) -> None:
        self.connections += 1
        if self.plant.resets or self.connections == self.plant.reset_connection:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
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
            while await self._request(first=first) and not (self.data and self.plant.one_by_one):
                first = False
        except h11.RemoteProtocolError:
            await self._answer(400, close=True)
            await self._linger()

    async def receive(self, until: float, idle: float = NEVER) -> bytes:
        data: bytes | bytearray = b""
        with trio.move_on_at(min(until, trio.current_time() + idle)) as scope:
            data = await self.stream.receive_some(self.plant.reads)
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
        begun = trio.current_time()
        request = await self._head(first=first)
        late = trio.current_time() - begun > LATE_SECONDS
        if late and self.plant.late_head < 0:
            return False
        if self.plant.busy or (late and self.plant.late_head):
            await self._answer(503 if self.plant.busy else self.plant.late_head, close=True)
            return False
        path = urlsplit(request.target.decode())
        fields = dict(request.headers)
        if self.plant.turns_away and f"{request.method.decode()} {path.path}".startswith(self.plant.turns_away):
            await self._answer(503, close=True)
            return False
        if fields.get(b"authorization", b"") != self.plant.token:
            await self._answer(401, close=True)
            return False
        if path.path == "/ws" and self.plant.websocket and b"upgrade" in fields:
            await Frames(self, fields[b"sec-websocket-key"]).run()
            return False
        if request.method == b"POST":
            return await self._post(fields)
        if path.path == "/poll":
            await trio.sleep(min(float(parse_qs(path.query)["wait"][0]), self.plant.poll_max))
        if sum(self.server.held.values()) > 10:
            await trio.sleep(self.plant.crowded)
        if path.path == "/endless":
            await self._send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
            while True:
                await self.stream.send_all(b"x" * 65_536)
        status = 200 if path.path in {"/", "/large", "/poll"} else 404
        await self._answer(status, large=path.path == "/large", close=self.plant.one_answer)
        return not self.plant.one_answer

    async def _head(self, *, first: bool) -> h11.Request:
        begun = trio.current_time()
        if not first and not self.data:
            self.data = await self.receive(begun + self.plant.keepalive)
            begun = trio.current_time()
        line = begun  # when the line that is not complete was begun
        while b"\r\n\r\n" not in self.data:
            try:
                new = await self.receive(self._head_until(begun, line), self.plant.head_idle)
                line = trio.current_time() if b"\n" in new else line
                self.data += new
                if len(self.data) > self.plant.max_begun and b"\r\n\r\n" not in self.data:
                    await self._answer(self.plant.begun_status, close=True)
                    raise GoneError
            except LateError:
                if self.data:
                    await self._answer(self.plant.timeout_status, close=True)
                raise
        size = self.data.index(b"\r\n\r\n") + 4
        if size >= self.plant.reset_head_once:
            self.plant.reset_head_once = NEVER
            self.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
            raise GoneError
        head, self.data = self.data[:size], self.data[size:]
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
        self.h11.receive_data(head)
        joined = Counter[bytes]()
        for each in head.splitlines():
            joined[each.partition(b":")[0]] += len(each)
        too_much = size > self.plant.max_head or head.count(b"\r\n") - 2 > self.plant.max_fields
        if too_much or max(joined.values()) > self.plant.max_joined:
            await self._answer(431, close=True)
            raise GoneError
        request = self.h11.next_event()
        assert isinstance(request, h11.Request)
        return request

    def _head_until(self, begun: float, line: float) -> float:
        plant = self.plant
        until = min(
            begun + plant.head_total, line + plant.head_line, _least_rate(begun, len(self.data), plant.head_rate)
        )
        return math.ceil(until / plant.sweep) * plant.sweep if plant.sweep else until

    async def _post(self, fields: dict[bytes, bytes]) -> bool:
        if not self.plant.posts:
            await self._answer(405, close=True)
            return False
        if self.plant.chunked and b"transfer-encoding" in fields:
            await self._answer(self.plant.chunked, close=True)
            return False
        if int(fields.get(b"content-length", b"0")) > self.plant.max_body:
            await self._answer(413, close=True)
            return False
        if self.h11.they_are_waiting_for_100_continue:
            await self.stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        begun = trio.current_time()
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
                    until = min(begun + self.plant.body_total, _least_rate(begun, wire, self.plant.body_rate))
                    data = await self.receive(until, self.plant.body_idle)
                except LateError:
                    await self._answer(self.plant.timeout_status, close=True)
                    raise
                wire += len(data)
                self.h11.receive_data(data)
        self.data = self.h11.trailing_data[0]
        await self._answer(self.plant.blank if body else 201)
        return True

    async def _answer(self, status: int, *, close: bool = False, large: bool = False) -> None:
        await trio.sleep(self.plant.takes)
        body = b"x" * (100_000 if large else 2000) if status == 200 else b""
        fields = [("Content-Length", str(len(body))), *([("Connection", "close")] if close else [])]
        head = self.h11.send(h11.Response(status_code=status, headers=fields))
        end = (self.h11.send(h11.Data(data=body)) or b"") + (self.h11.send(h11.EndOfMessage()) or b"")
        assert head is not None
        await self._send(head + end)

    async def _send(self, data: bytes) -> None:
        for at in range(0, len(data), 512):
            half = self.data and not self.data.endswith(b"\r\n\r\n")
            stall = self.plant.head_total if self.plant.half_heads and half else self.plant.send_stall
            with trio.move_on_after(stall) as scope:
                await self.stream.send_all(data[at : at + 512])
            if scope.cancelled_caught and not (self.plant.any_activity and await self._came()):
                raise LateError

    async def _came(self) -> bool:
        with trio.move_on_after(0.001):
            self.data += await self.receive(NEVER)
            return True
        return False


def _least_rate(begun: float, came: int, rate: float) -> float:
    """Until when so many bytes are enough."""
    return begun + max(GRACE_SECONDS, came / rate) if rate else NEVER


class Frames:
    """A WebSocket: pings, deadlines and limits; what is said is thrown away."""

    def __init__(self, conversation: Conversation, key: bytes) -> None:
        self.conversation = conversation
        self.plant = conversation.plant
        self.key = key
        self.protocol = FrameProtocol(client=False, extensions=[])
        self.fragments = 0
        self.size = 0  # of the message so far
        self.message_begun = NEVER
        self.frame_begun = NEVER
        self.heard = trio.current_time()
        self.pinged = NEVER
        self.refused_at = NEVER

    async def run(self) -> None:
        accept = generate_accept_token(self.key)
        await self.conversation.stream.send_all(
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept
            + b"\r\n\r\n\x81\x05he"
        )
        await self.conversation.stream.send_all(b"llo")
        if self.plant.pings_at_once:
            self.pinged = trio.current_time()
            await self._send(0x9, b"")
        while await self._turn():
            pass

    async def _turn(self) -> bool:
        plant = self.plant
        ping_at = self.heard + plant.ping_every if self.pinged == NEVER else NEVER
        cut_at = min(
            self.pinged + plant.pong_within,
            self.frame_begun + plant.frame_total,
            self.message_begun + plant.message_total,
            self.refused_at,
        )
        try:
            self.protocol.receive_bytes(await self.conversation.receive(min(ping_at, cut_at)))
        except LateError:
            if trio.current_time() >= cut_at:
                return await self._close(1008)
            if plant.close_first:
                return await self._close(1001)
            self.pinged = trio.current_time()
            await self._send(0x9, b"")
            return True
        self.heard, self.pinged = trio.current_time(), NEVER
        try:
            for frame in self.protocol.received_frames():
                if not await self._frame(frame):
                    return False
        except ParseFailed as error:
            if plant.reserved == "reset":
                self.conversation.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
            if plant.reserved == "nothing":
                await self.conversation.receive(NEVER)
            return plant.reserved == "close" and await self._close(error.code)
        return True

    async def _frame(self, frame: Frame) -> bool:
        """Take a frame, or the part of it that has come."""
        if frame.opcode is Opcode.CLOSE:
            await self._send(0x8, b"")
            return False
        if frame.opcode is Opcode.PING:
            await self._send(0xA, bytes(frame.payload))  # type: ignore[arg-type]
        if frame.opcode.iscontrol():
            return True
        now = trio.current_time()
        self.fragments += frame.frame_finished
        self.size += len(frame.payload)
        self.frame_begun = NEVER if frame.frame_finished else min(self.frame_begun, now)
        self.message_begun = min(self.message_begun, now)
        if self.size > self.plant.max_message and self.plant.refuses_late:
            self.refused_at = now + self.plant.refuses_late
        elif self.fragments > self.plant.max_fragments or self.size > self.plant.max_message:
            return await self._close(1009)
        if frame.message_finished:
            self.fragments, self.size, self.message_begun = 0, 0, NEVER
        return True

    async def _send(self, opcode: int, payload: bytes) -> None:
        await self.conversation.stream.send_all(bytes((0x80 | opcode, len(payload))) + payload)

    async def _close(self, code: int) -> bool:
        if self.plant.mute:
            return False
        await self._send(0x8, code.to_bytes(2) + b"planted")
        until = trio.current_time() + self.plant.close_within
        while True:
            await self.conversation.receive(until)


@asynccontextmanager
async def planted(plant: Plant | None = None) -> AsyncIterator[Server]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    if plant and plant.defers:
        listener.socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_DEFER_ACCEPT, 60)
    server = Server(plant or Plant(), listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        yield server
        nursery.cancel_scope.cancel()
