"""HTTP/1.1 to one server: requests on a few kept connections, and each stream on its own.

Owns: framing by h11, the life of connections, sending and storing credentials. May not: know what a path means.
It exists because no other dependency speaks HTTP on trio, and with h11 little is left to do.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import h11
import msgspec
import trio

from chatserver import __version__
from chatserver.client.credentials import Credentials
from chatserver.client.errors import Unavailable, error_of
from chatserver.client.requests import checked
from chatserver.client.stream import EndedError, Target, UnconnectedError, WatchedStream, dial
from chatserver.client.wire import NO_JSON, Error, ProtocolError, Refused

CONNECT_TIMEOUT = 10.0  # s for TCP and TLS
GREETING_TIMEOUT = 10.0  # s for an answer that needs no waiting; the server may be a busy one
ANSWER_TIMEOUT = 30.0  # s for the next bytes of an answer, besides the time that it may be held
MAX_IDLE = 20.0  # s that a connection may be idle before a request; a NAT may forget it after 30, and tells nobody
MAX_CONNECTIONS = 6  # for requests at the same time, as browsers have to one server
MAX_ANSWER = 8 << 20  # B; 200 messages of history at 16 KiB, and JSON's overhead
READ_SIZE = 65_536  # B

_AGENT = f"chatserver-client/{__version__}".encode()
_TIME_DIGITS = 10  # 400 digits are infinite as a float
_FOREIGN = "not an answer of a chat server, perhaps the sign-in page of this network"
#: Interim ones, which wsproto takes for whole answers, successes in answer to an upgrade and temporary redirections, as
#: of a sign-in page of the network, and those of a server or proxy in trouble (Cloudflare: 520-530).
_STATUS_MAY_PASS = frozenset({*range(100, 300), 302, 303, 307, 408, 425, 429, *range(500, 600)}) - {501, 505}

_T = TypeVar("_T", bound=msgspec.Struct)


class Response(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def failed(self) -> bool:
        """Whether it is anything but success; we follow no redirection, which would get our token or cookie."""
        return self.status >= 300

    @property
    def retry_after(self) -> float | None:
        """The server's Retry-After in seconds; none if it is a date, or has more digits than any time."""
        asked = self.headers.get(b"retry-after", b"")
        return float(asked) if asked.isdigit() and len(asked) < _TIME_DIGITS else None

    @property
    def error(self) -> Error:
        """The error, with the refused room of a request for many ("*": all of them).

        If it is not in our server's form, code and message come from the status.
        """
        try:
            error = self.decode(Refused).error
        except ProtocolError:
            code = "unavailable" if self.status in _STATUS_MAY_PASS else f"http_{self.status}"
            place = self.headers.get(b"location", b"").decode("latin-1")
            words = f"it has moved to {place}" if place else f"the server answered {self.status}"
            is_known = place or (code == "unavailable" and self.status not in range(200, 300))
            error = Error(code, words if is_known else _FOREIGN)
        return msgspec.structs.replace(error, retry_after=self.retry_after)

    def decode(self, kind: type[_T]) -> _T:
        """Decode the body. Raises ProtocolError."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except NO_JSON as error:
            raise ProtocolError(f"{_FOREIGN}: {error}") from error

    def content(self, kind: type[_T]) -> _T:
        """Decode the body for a caller of the library. Raises Unavailable."""
        try:
            return self.decode(kind)
        except ProtocolError as foreign:
            raise Unavailable("unavailable", str(foreign)) from foreign

    @property
    def is_about_rooms(self) -> bool:
        """Whether it refuses a room, rather than our identity or all clients for a while."""
        ours = 400 <= self.status < 500 and self.status not in _STATUS_MAY_PASS and not self.is_unrouted
        return ours and (self.status != 401 or self.error.room is not None)

    @property
    def is_foreign(self) -> bool:
        """Whether it is a refusal that our server has not made."""
        return self.error.code == f"http_{self.status}"

    @property
    def is_unrouted(self) -> bool:
        """Whether a proxy has no route to our server, as for some seconds of a deploy."""
        return self.status == 404 and self.is_foreign

    @property
    def ending(self) -> "RefusedError":
        """This answer, to an upgrade, a poll or a stream, as the error that ends the conversation."""
        why, message = f"the server answered {self.status}", self.error.message
        return RefusedError(self, why if message == why else f"{why}: {message}")


class RefusedError(EndedError):
    """The server answered with an error."""

    def __init__(self, response: Response, why: str) -> None:
        wait = response.retry_after
        may_pass = response.status in _STATUS_MAY_PASS or (response.status == 401 and wait is not None)
        super().__init__(why, retry_after=wait, final=not may_pass, foreign=response.is_foreign)
        self.response = response


def encoded_query(**fields: str | int | None) -> str:
    """Return the query of a URL with those fields that are not None. Raises Invalid, see `checked`."""
    known = checked({name: value for name, value in fields.items() if value is not None})
    return urlencode(known, quote_via=quote, safe="")


class _Connection:
    """One TCP or TLS connection with its parser."""

    def __init__(self, stream: WatchedStream) -> None:
        self._stream = stream
        self._parser = h11.Connection(h11.CLIENT)
        self.idle_since = -math.inf
        self._until_closed = False  # the present answer ends with the connection

    async def send(self, request: h11.Request, body: bytes) -> None:
        parts = [self._parser.send(event) for event in (request, h11.Data(body), h11.EndOfMessage())]
        with suppress(trio.BrokenResourceError):  # refused before its end: the answer, if any, says why
            await self._stream.send_all(b"".join(filter(None, parts)))

    async def head(self) -> h11.Response:
        while not isinstance(event := await self._event(), h11.Response):
            pass  # 1xx
        self._until_closed = not {b"content-length", b"transfer-encoding"} & dict(event.headers).keys()
        return event

    async def chunk(self, until: float = math.inf) -> bytes | None:
        """The next part of the body; None at its end. Raises EndedError if there is none until then."""
        try:
            with trio.move_on_at(until):
                event = await self._event()
                return bytes(event.data) if isinstance(event, h11.Data) else None
        except EndedError:
            if self._until_closed:
                return None
            raise
        raise EndedError("the server has gone silent")

    def reuse(self) -> bool:
        """Whether another request can follow."""
        # Not if the answer said that the connection ends, or if what follows it would answer the next request.
        if self._parser.their_state is h11.DONE and not self._parser.trailing_data[0]:
            self._parser.start_next_cycle()
            self.idle_since = trio.current_time()
            return True
        return False

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _event(self) -> Any:
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._parser.receive_data(bytes(await self._stream.receive_some(READ_SIZE)))
        except h11.RemoteProtocolError as error:
            raise EndedError(f"the server does not speak HTTP: {error}") from error
        return event


class HttpClient:
    """Requests to one server as one user. Many tasks may use it at the same time; they share MAX_CONNECTIONS."""

    def __init__(self, target: Target, credentials: Credentials) -> None:
        self.target = target
        self.credentials = credentials
        self._places = trio.Semaphore(MAX_CONNECTIONS)
        self._kept: list[_Connection] = []
        self._is_closed = False  # then no connection is kept any more

    async def request(
        self, method: str, path: str, fields: object = None, *, within: float = ANSWER_TIMEOUT, once: bool = False
    ) -> Response:
        """Send a request, with `fields` as JSON. Raises EndedError, also when the answer takes longer to begin.

        If its answer is lost, it may be made twice, unless `once`; what becomes a record has a key for that.
        """
        body = b"" if fields is None else msgspec.json.encode(fields)
        async with self._places:
            try:
                with trio.fail_after(within) as patience:
                    return await self._request(method, path, body, patience, once=once)
            except trio.TooSlowError as error:
                raise EndedError(f"no answer within {within:g} s") from error

    async def call(self, method: str, path: str, fields: object = None) -> Response:
        """Send a request for a caller of the library. Raises ChatError, for a refusal as well."""
        try:
            response = await self.request(method, path, fields, once=method != "GET")
        except EndedError as ended:
            code = "no_connection" if isinstance(ended, UnconnectedError) else "unavailable"
            raise Unavailable(code, ended.why, ended.retry_after) from ended
        if response.failed:
            error = response.error
            raise error_of(error.code, error.message, error.retry_after)
        return response

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[_Connection]:
        """Open a streamed body, on a connection of its own."""
        connection = await self._dial()
        try:
            with trio.move_on_after(ANSWER_TIMEOUT) as patience:
                await connection.send(self._head("GET", path, b""), b"")
                head = await connection.head()
                if head.status_code != 200:
                    raise (await self._whole(connection, head, patience)).ending
            if patience.cancelled_caught:
                raise EndedError(f"no answer within {ANSWER_TIMEOUT:g} s")
            yield connection
        finally:
            await connection.aclose()

    async def aclose(self) -> None:
        """Close all connections: those in use when their requests end."""
        self._is_closed = True
        with trio.CancelScope(shield=True):  # a cancellation would end this after the first; none of them can block
            while self._kept:
                await self._kept.pop().aclose()

    async def _request(
        self, method: str, path: str, body: bytes, patience: trio.CancelScope, *, once: bool
    ) -> Response:  # fmt: skip
        """Use a kept connection, and another one if that fails: the server may have closed it meanwhile."""
        head = self._head(method, path, body)
        while True:
            kept = None if once else await self._take_kept()
            connection = kept or await self._dial()
            reusable = False
            try:
                await connection.send(head, body)
                response = await self._whole(connection, await connection.head(), patience)
                reusable = not once and connection.reuse() and not self._is_closed
            except EndedError:
                if kept is None:
                    raise
            else:
                return response
            finally:
                if reusable:
                    self._kept.append(connection)
                else:
                    await connection.aclose()

    async def _take_kept(self) -> _Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if trio.current_time() < connection.idle_since + MAX_IDLE:
                return connection
            await connection.aclose()
        return None

    def _head(self, method: str, path: str, body: bytes) -> h11.Request:
        fields = [(b"Host", self.target.authority.encode()), (b"User-Agent", _AGENT), (b"Accept", b"*/*")]
        if body:
            fields += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        fields += self.credentials.fields
        return h11.Request(method=method, target=self.target.base + path, headers=fields)

    async def _whole(self, connection: _Connection, head: h11.Response, patience: trio.CancelScope) -> Response:
        """The answer with its body, which may take as long as it comes: a page of 64 KiB half a minute at 2 KB/s."""
        self.credentials.take(head.headers)
        body = bytearray()
        while len(body) <= MAX_ANSWER:
            patience.deadline = max(patience.deadline, trio.current_time() + ANSWER_TIMEOUT)
            if (chunk := await connection.chunk()) is None:
                return Response(head.status_code, dict(head.headers), bytes(body))
            body += chunk
        raise EndedError(f"an answer of more than {MAX_ANSWER:,} B")

    async def _dial(self) -> _Connection:
        return _Connection(await dial(self.target, timeout=CONNECT_TIMEOUT))
