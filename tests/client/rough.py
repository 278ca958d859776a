"""A chat server for tests of the client that answers correctly, in every form that the standards allow, or breaks off.

Owns: the bytes on the wire of all three transports, and what a drawn plan does to them. It answers as `fake.Log` does.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
import trio.testing
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage
from wsproto.utilities import generate_accept_token

from chatserver.client import http1, websocket
from chatserver.client.stream import WatchedStream
from tests.client.fake import ME, ZED, Log
from tests.support.peers import raw_frame

TEXT, CONTINUATION, BINARY, CLOSE, PING, PONG = 1, 0, 2, 8, 9, 10

#: Values of `Retry-After`; the client may believe them or not, but has to return.
TIMES = ["", "0", "1", "-5", "Fri, 27 Nov 2026 00:00:00 GMT", "1e9", "9" * 9, "9" * 400]
#: The same in JSON.
DELAYS = [None, 0, 0.01, 1, -5, 1e9, 1e300]

DEEP = "[" * 50_000 + "]" * 50_000
#: Answers and frames that are not of a chat server.
FOREIGN = [b"<html>Sign in to the network</html>", b"\xff\xfe", b'{"user":{"id":"\xff"}}', DEEP.encode(), b"NaN", b""]


class BrokenOffError(Exception):
    """The plan ends this connection."""


class Plan:
    """Decisions that were drawn; when they are used up, the server does the plain thing."""

    def __init__(self, decisions: Iterable[int]) -> None:
        self._left = iter(decisions)

    def pick(self, count: int) -> int:
        """A number below `count`; 0 is the plain thing."""
        return next(self._left, 0) % count


class RoughServer(Log):
    """See the module. `pushed` wakes what waits for records."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.opened = 0  # connections
        self._news = trio.Event()
        self._writing: dict[trio.abc.Stream, trio.Lock] = {}
        self._open: set[trio.CancelScope] = set()

    def say(self, text: str, user: dict[str, str] = ZED) -> None:
        self.append(text, user)
        self.wake()

    def wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def begin_anew(self, epoch: str) -> None:
        """Restart with an empty log."""
        self.epoch, self.log, self.keys = epoch, [], {}
        for scope in self._open:
            scope.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In place of the network."""
        with pytest.MonkeyPatch.context() as patch:
            async with trio.open_nursery() as nursery:

                async def dial(*_: object, **__: object) -> WatchedStream:
                    await trio.lowlevel.checkpoint()
                    ours, theirs = trio.testing.memory_stream_pair()
                    nursery.start_soon(self._serve, theirs)
                    return WatchedStream(ours)

                patch.setattr(http1, "dial", dial)
                patch.setattr(websocket, "dial", dial)
                yield
                nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        self.opened += 1
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                await self._requests(stream)
            except* (BrokenOffError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        self._open.discard(scope)
        await trio.aclose_forcefully(stream)

    # -- bytes --------------------------------------------------------------------------------------------------------

    async def _put(self, stream: trio.abc.Stream, data: bytes) -> None:
        """Send bytes whole, each for itself, with a pause, or only some of them."""
        async with self._writing.setdefault(stream, trio.Lock()):
            await self._put_in_turn(stream, data)

    async def _put_in_turn(self, stream: trio.abc.Stream, data: bytes) -> None:
        kind, at = self.plan.pick(6), self.plan.pick(1 << 16) % (len(data) + 1)
        match kind:
            case 1 if len(data) < 5000:
                for number in range(len(data)):
                    await stream.send_all(data[number : number + 1])
                    await trio.testing.wait_all_tasks_blocked()
            case 2:
                await stream.send_all(data[:at])
                await trio.sleep(self.plan.pick(60))
                await stream.send_all(data[at:])
            case 3:
                await stream.send_all(data[:at])
                raise BrokenOffError
            case _:
                await stream.send_all(data)

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _requests(self, stream: trio.abc.Stream) -> None:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                if not (more := await stream.receive_some()):
                    return
                received += more
            head, _, received = received.partition(b"\r\n\r\n")
            line, *lines = head.decode().split("\r\n")
            fields = {name.lower(): value for name, value in (field.split(": ", 1) for field in lines)}
            while len(received) < int(fields.get("content-length", 0)):
                if not (more := await stream.receive_some()):
                    return
                received += more
            body, received = received, b""
            method, path, _ = line.split(" ")
            if await self._trouble(stream, path):
                return
            url = urlsplit(path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if url.path == "/ws":
                await self._websocket(stream, fields["sec-websocket-key"])
                return
            if url.path.endswith("/events"):
                await self._events(stream, query["after"])
                return
            answer = await self._answer(method, url.path, query, json.loads(body) if body else {})
            if not await self._send(stream, "200 OK", json.dumps(self._extended(answer)).encode(), early=self._early()):
                return

    async def _trouble(self, stream: trio.abc.Stream, path: str) -> bool:
        """Answer with what is no answer, for now; returns whether it did."""
        match self.plan.pick(8):
            case 1:
                status = ["503 X", "429 X", "502 Bad Gateway", "408 Request Timeout"][self.plan.pick(4)]
                asked = TIMES[self.plan.pick(len(TIMES))]
                body = [b'{"error":{"code":"unavailable","message":"later"}}', *FOREIGN][self.plan.pick(3)]
                early = "" if path == "/ws" else self._early()  # wsproto takes the first answer for the last
                await self._send(stream, status, body, f"Retry-After: {asked}\r\n" if asked else "", early)
                return True
            case 2:
                return True  # close
            case 3:
                await trio.sleep(self.plan.pick(100))
        return False

    def _early(self) -> str:
        """An answer before the answer."""
        hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        return ["", "HTTP/1.1 100 Continue\r\n\r\n", hints][self.plan.pick(3)]

    async def _send(self, stream: trio.abc.Stream, status: str, body: bytes, fields: str = "", early: str = "") -> bool:
        """Send an answer in one of the forms of RFC 9112; returns whether the connection is kept."""
        head = f"{early}HTTP/1.1 {status}\r\n{fields}X-folded: a\r\n b\r\nSET-COOKIE: guest=g{self.opened}; Path=/\r\n"
        length, chunks = f"Content-Length: {len(body)}\r\n\r\n", b""
        for start in range(0, len(body), step := max(1, len(body) // 3)):
            part = body[start : start + step]
            chunks += b'%X;ext="a b"\r\n%s\r\n' % (len(part), part)
        kind = self.plan.pick(6)
        match kind:
            case 1:
                wire = (head + "TRANSFER-encoding: Chunked\r\n\r\n").encode() + chunks + b"0\r\nX-T: 1\r\n\r\n"
            case 2:
                wire = (head + "Connection: close\r\n\r\n").encode() + body
            case 3:
                wire = (head + "connection: Close\r\n" + length).encode() + body
            case 4:
                wire = (head.replace("HTTP/1.1 2", "HTTP/1.0 2") + "\r\n").encode() + body
            case _:
                wire = (head + length).encode() + body
        if kind == 5:  # an answer too many, as HAProxy's 408 to a kept connection
            wire += b"HTTP/1.1 408 Late\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        await self._put(stream, wire)
        return kind in (0, 1)

    def _extended(self, answer: dict[str, Any]) -> dict[str, Any]:
        """With fields that no client knows yet."""
        return answer | [{}, {"later": {"x": [1, None]}}][self.plan.pick(2)]

    async def _answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        if path == "/session":
            return {"user": ME, "token": "t"}
        if path == "/poll":
            cursor = query["room"].split(":", 1)[1]
            with trio.move_on_after(float(query["wait"])):
                while cursor == f"{self.epoch}-{len(self.log)}":
                    await self._news.wait()
            return {"rooms": {"lobby": self._plain({"type": "history", "id": 0, "after": cursor}, limit=3)}}
        if method == "POST":
            ack = self._plain({"type": "publish", "id": 0, **body}, limit=0)
            self.wake()
            return ack
        asked = {"type": "history", "id": 0, **{name: query[name] for name in ("after",) if name in query}}
        return self._plain(asked, limit=int(query["limit"]))

    def _plain(self, request: dict[str, Any], *, limit: int) -> dict[str, Any]:
        """Without the fields of a frame."""
        return {name: value for name, value in self.answer(request, limit=limit).items() if name not in ("type", "id")}

    async def _events(self, stream: trio.abc.Stream, cursor: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        chunked = self.plan.pick(2) == 0
        await self._put(stream, head + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n"))

        async def put(frame: dict[str, Any] | None = None) -> None:
            end = ["\n", "\r\n"][self.plan.pick(2)]
            again = [2000, 0, 10**12][self.plan.pick(3)]
            data = [] if frame is None else [f"data: {json.dumps(frame)}"]
            event = end.join([": a comment", f"retry: {again}", *data, "", ""]).encode()
            await self._put(stream, b"%X\r\n%s\r\n" % (len(event), event) if chunked else event)

        await put()
        await self._follow(cursor, put)

    # -- WebSocket ----------------------------------------------------------------------------------------------------

    async def _websocket(self, stream: trio.abc.Stream, key: str) -> None:
        accept = generate_accept_token(key.encode()).decode()
        head = "HTTP/1.1 101 X\r\nUPGRADE: WebSocket\r\nconnection: UPGRADE\r\n"
        await self._put(stream, f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        await self._frame(stream, {"type": "hello", "user": ME, "ping": 25})
        parser = Connection(ConnectionType.SERVER)
        async with trio.open_nursery() as nursery:
            while data := await stream.receive_some():
                parser.receive_data(bytes(data))
                for event in parser.events():
                    await self._command(stream, event, nursery)
            nursery.cancel_scope.cancel()

    async def _command(self, stream: trio.abc.Stream, event: Event, nursery: trio.Nursery) -> None:
        if isinstance(event, CloseConnection):
            raise BrokenOffError
        if not isinstance(event, TextMessage):
            return  # a pong
        request = json.loads(event.data)
        if self.plan.pick(6) == 1:
            refusal = {"code": ["unavailable", "rate_limited", "new_code"][self.plan.pick(2)], "message": ""}
            delay = DELAYS[self.plan.pick(len(DELAYS))]
            more = {} if delay is None else {"retry_after": delay}
            await self._frame(stream, {"type": "error", "id": request["id"], **refusal, **more})
            return
        answer = self.answer(request, limit=50 if request["type"] == "join" else 3)
        if request["type"] == "publish":
            self.wake()
        await self._frame(stream, self._extended(answer | {"members": 1}))
        if request["type"] == "join":
            nursery.start_soon(self._follow, answer["cursor"], partial(self._frame, stream))

    async def _frame(self, stream: trio.abc.Stream, frame: dict[str, Any]) -> None:
        """Send one message: whole, in fragments with a ping between, or after something else."""
        text = json.dumps(frame).encode()
        match self.plan.pick(9):
            case 1:
                cut = self.plan.pick(1000) % (len(text) + 1)
                first, between = encoded(TEXT, text[:cut], fin=False), encoded(PING, b"x" * 125)
                last = encoded(CONTINUATION, b"", fin=False) + encoded(CONTINUATION, text[cut:])
                await self._put(stream, first + between + last)
            case 2:
                await self._put(stream, encoded(PONG, b"unasked") + encoded(PING, b"") + encoded(TEXT, text))
            case 3:
                await self._put(stream, encoded(TEXT, b'{"type":"later","room":"lobby"}') + encoded(TEXT, text))
            case 4:
                code = [1000, 1001, 1008, 1011, 1012, 1013, 4000][self.plan.pick(7)]
                await self._put(stream, encoded(CLOSE, code.to_bytes(2, "big") + b"why"))
                raise BrokenOffError
            case 5:
                await self._put(stream, encoded(TEXT, FOREIGN[self.plan.pick(len(FOREIGN))]))
                await trio.sleep(1)
                raise BrokenOffError
            case 6:
                await self._put(stream, [b"\xff\xff", encoded(BINARY, b"x"), encoded(3, b"")][self.plan.pick(3)])
                await trio.sleep(1)
                raise BrokenOffError
            case 7:
                delay = DELAYS[self.plan.pick(len(DELAYS))] or 0
                await self._put(stream, encoded(TEXT, json.dumps({"type": "goaway", "retry_after": delay}).encode()))
                raise BrokenOffError
            case _:
                await self._put(stream, encoded(TEXT, text))

    async def _follow(self, cursor: str, put: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Push records as they come; some twice, some only as a gap."""
        epoch, _, number = cursor.partition("-")
        last = int(number) if epoch == self.epoch else 0
        while True:
            while last < len(self.log):
                record = {"type": "message"} | self.log[last]
                match self.plan.pick(5):
                    case 1:
                        await put(record)
                    case 2:
                        record = self.log[min(last + self.plan.pick(4), len(self.log) - 1)]
                        record = {"type": "gap", "until": record["cursor"]} | record
                    case 3 if last:
                        await put({"type": "message"} | self.log[last - 1])
                last = record["offset"]
                await put(record)
            await self._news.wait()


def encoded(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A frame of a server."""
    return raw_frame(opcode | 0x80 * fin, payload, mask=b"")
