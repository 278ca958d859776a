"""The answer to a request, parsed by h11 as it comes.

Owns: when an answer is complete, and what can go wrong instead. Requests come in as bytes, because the probes send them
in unusual ways. Answers are parsed strictly, because a server's last words are part of what is measured.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import h11

from loadgen.line import EndedError, Line
from loadgen.wire import join_field

#: A larger response head counts as garbage, as it does in browsers.
_MAX_HEAD_BYTES: Final = 256 * 1024


class GarbledError(Exception):
    """The server sent something that is not HTTP, or not WebSocket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    fields: Mapping[str, str]  # by lower-case name
    size: int  # bytes of body and head
    closes: bool  # the server takes no further request on this connection
    hints: tuple[int, ...] = ()  # the 1xx responses before it


class Exchange:
    """Reads the answer to one request, whichever way that is sent."""

    def __init__(self, line: Line, method: str = "GET") -> None:
        self._line = line
        self._hints: list[int] = []
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        # h11 accepts 1xx and 101 only after a request that allows them
        upgrade = [("Host", "x"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
        self._h11.send(h11.Request(method=method, target="/", headers=upgrade))
        self._h11.send(h11.EndOfMessage())
        self._size = 0

    async def begin(self) -> Answer:
        while True:
            event = await self._next()
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                self._hints.append(event.status_code)
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                fields: dict[str, str] = {}
                for name, value in event.headers:
                    join_field(fields, name.decode("ascii"), value.decode("latin-1"))
                return Answer(
                    status=event.status_code,
                    fields=fields,
                    size=self._size,
                    closes=self.closes,
                    hints=tuple(self._hints),
                )

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body of the answer that has begun; one to an upgrade has none."""
        while self._h11.their_state is h11.SEND_BODY:
            if isinstance(event := await self._next(), h11.Data):
                yield bytes(event.data)

    async def whole(self) -> Answer:
        answer = await self.begin()
        async for _ in self.body():
            pass
        return replace(answer, size=self._size, closes=self.closes)

    @property
    def rest(self) -> bytes:
        """The bytes after an answer that ends HTTP on this connection."""
        return self._h11.trailing_data[0]

    @property
    def closes(self) -> bool:
        """Whether the server takes no further request on this connection."""
        return self._h11.their_state in {h11.MUST_CLOSE, h11.CLOSED}

    async def _next(self) -> h11.Event:
        while True:
            try:
                event = self._h11.next_event()
                if isinstance(event, h11.Event):
                    return event
                data = await self._receive()
                self._size += len(data)
                self._h11.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise GarbledError(f"the answer is no HTTP: {error}") from None

    async def _receive(self) -> bytes:
        try:
            return await self._line.receive()
        except EndedError:
            if self._h11.their_state is h11.SEND_BODY:
                return b""  # closing the connection may end the body; h11 decides
            if self._h11.trailing_data[0]:
                raise GarbledError("the answer is no HTTP: it ends within its head") from None
            raise
