"""A WebSocket echo server that keeps to RFC 6455, except for what is planted: one trio task a connection.

It reads and writes frames by hand, so that it does not share a mistake with loadgen's own parsing.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio
from wsproto.utilities import generate_accept_token

from loadgen.net import target
from loadgen.net.target import Target

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_GOOD_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


@dataclass(kw_only=True)
class Plant:
    """What is wrong with the server; by default nothing."""

    overlooks: tuple[str, ...] = ()  # violations, by the names in `Echo`
    ignores_mask: bool = False  # takes the payload as it came
    no_pong: bool = False
    asks_first: bool = False  # sends a ping before an echo, and echoes when it is answered
    no_close: bool = False  # close frames are not answered
    fails_silently: bool = False  # without a close frame
    fails_with: int | None = None  # instead of the right code
    stays: bool = False  # TCP is left open after the close
    waits: bool = False  # for the answer to its close frame, before it ends TCP
    cuts_at: int = 1 << 25  # bytes of echoes; what is beyond is lost
    drops_every: int = 0  # so many echoes
    bytes_per_s: float = math.inf  # of echoes
    only_binary: bool = False  # echoes texts so as well
    says: str = ""  # this, in place of each echo
    most_bytes: int = 1 << 25  # longer messages are closed with 1009
    fields: tuple[str, ...] = ()  # more of the 101
    takes_any: tuple[str, ...] = ()  # fields of the handshake that are not looked at
    token: str = ""  # handshakes without it are answered 401
    status: int = 0  # answers every upgrade with this
    dies: bool = False  # after the first connection
    busy_until: int = 0  # answers no connection up to this one, except the first


class _ViolationError(Exception):
    def __init__(self, name: str, code: int = 1002) -> None:
        super().__init__(name)
        self.code = code


class _GoneError(Exception):
    """The connection is over."""


@dataclass(eq=False)
class Server:
    plant: Plant
    listener: trio.SocketListener
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0

    @property
    def target(self) -> Target:
        return target.find(f"http://127.0.0.1:{self.listener.socket.getsockname()[1]}")

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                stream = await self.listener.accept()
                self.connections += 1
                nursery.start_soon(self._attend, stream, self.connections)
                if self.plant.dies:
                    await self.listener.aclose()
                    return

    async def _attend(self, stream: trio.SocketStream, number: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with stream:
            try:
                while 1 < number <= self.plant.busy_until and await stream.receive_some():
                    pass
                await Echo(self.plant, stream).run()
            except (_GoneError, trio.BrokenResourceError):
                pass
            finally:
                self.at_once -= 1


@dataclass(eq=False)
class Echo:
    """One connection."""

    plant: Plant
    stream: trio.SocketStream
    data: bytearray = field(default_factory=bytearray)
    opcode: int = 0  # of the message that is unfinished
    parts: list[bytes] = field(default_factory=list)
    answered: bool = True  # our ping
    echoes: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def run(self) -> None:
        await self._open()
        try:
            while True:
                await self._frame()
        except _ViolationError as violation:
            if not self.plant.fails_silently:
                code = self.plant.fails_with or violation.code
                await self._send(0x80 | _CLOSE, code.to_bytes(2))
            self.data.clear()
            while self.plant.waits and bytes((0x80 | _CLOSE,)) not in self.data:
                await self._more()
            await self._end()

    # the handshake

    async def _open(self) -> None:
        while b"\r\n\r\n" not in self.data:
            await self._more()
        head, _, rest = bytes(self.data).partition(b"\r\n\r\n")
        self.data = bytearray(rest)
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = self.plant.status or self._status(first, fields, [line.partition(":")[0].lower() for line in lines])
        if status != 101:
            await self.stream.send_all(
                b"HTTP/1.1 %d No\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n" % status
            )
            raise _GoneError
        accept = generate_accept_token(fields.get("sec-websocket-key", "").encode()).decode()
        told = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        told += [f"Sec-WebSocket-Accept: {accept}", *self.plant.fields, "", ""]
        await self.stream.send_all("\r\n".join(told).encode())

    def _status(self, first: str, fields: dict[str, str], names: list[str]) -> int:
        if fields.get("authorization", "") != self.plant.token:
            return 401
        wanted = {
            "method": first.startswith("GET "),
            "http": first.endswith(" HTTP/1.1"),
            "host": "host" in fields,
            "upgrade": fields.get("upgrade", "").lower() == "websocket",
            "connection": "upgrade" in fields.get("connection", "").lower(),
            "key": len(fields.get("sec-websocket-key", "")) == 24 and names.count("sec-websocket-key") == 1,
            "version": fields.get("sec-websocket-version") == "13",
        }
        return 101 if all(good for name, good in wanted.items() if name not in self.plant.takes_any) else 400

    # frames

    async def _frame(self) -> None:
        first, second = await self._take(2)
        length = second & 0x7F
        opcode, control = first & 0x0F, first & 0x08
        self._check("reserved", not first & 0x70)
        self._check("opcode", opcode in {0, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
        self._check("fragmented-control", not control or first >= 0x80)
        self._check("long-control", not control or length <= 125)
        self._check("unmasked", second >= 0x80)
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(await self._take(size))
            self._check("minimal", length >= (126 if size == 2 else 1 << 16))
            self._check("highest", length < 1 << 63)
        if length + sum(map(len, self.parts)) > self.plant.most_bytes:
            raise _ViolationError("size", 1009)
        mask = await self._take(4) if second >= 0x80 else bytes(4)
        payload = await self._take(length)
        if not self.plant.ignores_mask and any(mask):
            key = (mask * (length // 4 + 1))[:length]
            payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(length)
        if control:
            await self._control(opcode, payload)
        else:
            await self._data(opcode, payload, final=first >= 0x80)

    def _check(self, name: str, holds: bool, code: int = 1002) -> None:
        if not holds and name not in self.plant.overlooks:
            raise _ViolationError(name, code)

    async def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING and not self.plant.no_pong:
            await self._send(0x80 | _PONG, payload)
        elif opcode == _PONG:
            self.answered = self.answered or payload == b"first"
        elif opcode == _CLOSE and not self.plant.no_close:
            self._check("close-size", len(payload) != 1)
            self._check("close-code", not payload or int.from_bytes(payload[:2]) in _GOOD_CODES)
            self._check("close-utf8", _is_text(payload[2:]), 1007)
            await self._send(0x80 | _CLOSE, payload[:2])
            await self._end()

    async def _data(self, opcode: int, payload: bytes, *, final: bool) -> None:
        self._check("nothing-to-continue", opcode != 0 or self.opcode != 0)
        self._check("interleaved", opcode == 0 or self.opcode == 0)
        self.opcode = opcode or self.opcode or _TEXT
        self.parts.append(payload)
        if not final:
            return
        message, kind = b"".join(self.parts), self.opcode
        self.parts.clear()
        self.opcode = 0
        if kind == _TEXT:
            self._check("utf8", _is_text(message), 1007)
        if self.plant.asks_first:
            self.answered = False
            await self._send(0x80 | _PING, b"first")
            while not self.answered:
                await self._frame()
        if self.plant.drops_every and next(self.echoes) % self.plant.drops_every == 0:
            return
        kind = _BINARY if self.plant.only_binary else kind
        await trio.sleep(len(message) / self.plant.bytes_per_s)
        await self._send(0x80 | kind, self.plant.says.encode() or message[: self.plant.cuts_at])

    async def _send(self, first: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = bytes((first, length))
        elif length < 1 << 16:
            head = bytes((first, 126)) + length.to_bytes(2)
        else:
            head = bytes((first, 127)) + length.to_bytes(8)
        await self.stream.send_all(head + payload)

    async def _end(self) -> None:
        """Close, and read what still comes: a reset would take the close frame away."""
        if self.plant.stays:
            await trio.sleep_forever()
        await self.stream.send_eof()
        while True:
            await self._more()

    # bytes

    async def _take(self, size: int) -> bytes:
        while len(self.data) < size:
            await self._more()
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    async def _more(self) -> None:
        data = await self.stream.receive_some(1 << 16)
        if not data:
            raise _GoneError
        self.data += data


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


@asynccontextmanager
async def planted(plant: Plant | None = None) -> AsyncIterator[Server]:
    """Serve while the block runs."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=64)
    server = Server(plant or Plant(), listener)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        yield server
        nursery.cancel_scope.cancel()


async def _serve(plant: Plant) -> None:
    async with planted(plant) as server:
        print(server.target.url, flush=True)
        await trio.sleep_forever()


def main() -> None:
    trio.run(_serve, Plant(**json.loads(sys.argv[1])))
