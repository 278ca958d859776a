"""HTTP for victims: h11 on a trio stream, one request after the other on a connection that is kept.

Owns: reading and writing of h11 events. May not: know what is asked for, or reconnect.
"""

from collections.abc import AsyncIterator
from typing import Final

import h11

from loadgen.victims.victim import OperationFailedError, Stream

_CHUNK: Final = 64 * 1024


class HttpPeer:
    """One connection to the server. Raises what `victim` counts as failures."""

    def __init__(self, stream: Stream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_open(self) -> bool:
        """Whether another request may follow: no, after an answer that closes."""
        return self._http.our_state is h11.IDLE

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Ask, and give the whole answer: status and body."""
        response = await self._ask(method, path, body)
        parts = [part async for part in self._body()]
        if self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._http.start_next_cycle()
        return response.status_code, b"".join(parts)

    async def follow(self, path: str) -> AsyncIterator[bytes]:
        """Ask for a stream and give what comes of it."""
        response = await self._ask("GET", path, b"")
        if response.status_code != 200:
            raise OperationFailedError(f"answered {response.status_code}")
        async for part in self._body():
            yield part

    async def _ask(self, method: str, path: str, body: bytes) -> h11.Response:
        if not self.is_open:
            raise OperationFailedError("the server closed after its answer")
        fields = [("Host", self._host), ("User-Agent", "loadgen-victim")]
        if body:
            fields += [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        wire = self._http.send(h11.Request(method=method, target=path, headers=fields))
        if body:
            wire = (wire or b"") + (self._http.send(h11.Data(data=body)) or b"")
        wire = (wire or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        await self._stream.send_all(wire)
        while not isinstance(event := await self._next(), h11.Response):
            pass  # 100 Continue and its like
        return event

    async def _body(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA or event is h11.PAUSED:
            data = await self._stream.receive_some(_CHUNK)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise OperationFailedError("closed")
            self._http.receive_data(bytes(data))
        assert isinstance(event, h11.Event)
        return event
