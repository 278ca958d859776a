"""Responses to the requests on one connection, parsed by h11.

Owns: when a response is complete, and what can go wrong instead. Requests come in as bytes, because the probes send
them in unusual ways. Responses are parsed strictly, because a server's last words are part of what is measured.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

import h11
import trio

from loadgen.client import TURNED_AWAY
from loadgen.fingerprint.findings import Failed, NotApplicable
from loadgen.fingerprint.line import EndedError, Line

T = TypeVar("T")

#: A larger response head counts as garbage, as it does in browsers.
_MAX_HEAD_BYTES: Final = 256 * 1024


class GarbledError(Exception):
    """The server sent something that is not HTTP, or not WebSocket."""


class NotServedError(Exception):
    """The server does not serve what the probe needs."""


class TurnedAwayError(Exception):
    """The server has no capacity, which says nothing about the request itself."""


#: Every way in which a connection can fail.
TROUBLE: Final = (
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    EndedError,
    GarbledError,
    NotServedError,
    TurnedAwayError,
)


def word(error: BaseException) -> str:
    """Describe how a connection failed."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, trio.BrokenResourceError):
        return f"TLS failed: {error.__cause__ or error}"
    return str(error) or type(error).__name__


async def tried(play: Callable[[], Awaitable[T]]) -> T | Failed | NotApplicable:
    """Return the finding, or a failed connection as one; the error does not reach the other probes."""
    try:
        return await play()
    except NotServedError as error:
        return NotApplicable(why=str(error))
    except TROUBLE as error:
        return Failed(why=word(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    fields: Mapping[str, str]  # by lower-case name
    size: int  # bytes of body and head
    closes: bool  # the server takes no further request on this connection
    hints: tuple[int, ...] = ()  # the 1xx responses before it


class Exchange:
    """Reads the answer to one request, whichever way that is sent."""

    def __init__(self) -> None:
        self._hints: list[int] = []
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        # h11 accepts 1xx and 101 only after a request that allows them
        upgrade = [("Host", "x"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
        self._h11.send(h11.Request(method="GET", target="/", headers=upgrade))
        self._h11.send(h11.EndOfMessage())
        self._size = 0

    async def begin(self, line: Line) -> Answer:
        while True:
            event = await self._next(line)
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                self._hints.append(event.status_code)
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                return Answer(
                    status=event.status_code,
                    fields={name.decode("ascii"): value.decode("latin-1") for name, value in event.headers},
                    size=self._size,
                    closes=self._closes(),
                    hints=tuple(self._hints),
                )

    async def whole(self, line: Line) -> Answer:
        answer = await self.begin(line)
        if answer.status == 101:
            return answer
        while not isinstance(await self._next(line), h11.EndOfMessage | h11.ConnectionClosed):
            pass
        return replace(answer, size=self._size, closes=self._closes())

    @property
    def rest(self) -> bytes:
        """The bytes after an answer that ends HTTP on this connection."""
        return self._h11.trailing_data[0]

    def _closes(self) -> bool:
        return self._h11.their_state in {h11.MUST_CLOSE, h11.CLOSED}

    async def _next(self, line: Line) -> h11.Event:
        while True:
            try:
                event = self._h11.next_event()
                if isinstance(event, h11.Event):
                    return event
                data = await self._receive(line)
                self._size += len(data)
                self._h11.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise GarbledError(f"the answer is no HTTP: {error}") from None

    async def _receive(self, line: Line) -> bytes:
        try:
            return await line.receive()
        except EndedError:
            if self._h11.their_state is h11.SEND_BODY:
                return b""  # closing the connection may end the body; h11 decides
            if self._h11.trailing_data[0]:
                raise GarbledError("the answer is no HTTP: it ends within its head") from None
            raise


async def while_sending(
    line: Line, pieces: Iterable[bytes], listen: Callable[[], Awaitable[T]], pace: float = 0.0
) -> T:
    """Send the pieces, the first at once and then one each `pace` seconds, until `listen` returns.

    It may return before all of them are sent: the server may answer early, or close.
    """

    async def send() -> None:
        due = trio.current_time()
        with suppress(EndedError):  # the listener sees it too, after the server's last bytes
            for piece in pieces:
                await trio.sleep_until(due)
                await line.send(piece)
                due += pace

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        trouble = None
        try:
            heard = await listen()
        except (EndedError, GarbledError) as error:
            trouble = error  # raised outside, because the nursery would wrap it in an exception group
        nursery.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    return heard


async def exchange(line: Line, pieces: Iterable[bytes], *, pause: float = 0.0) -> Answer:
    """Send a request in pieces and return the answer, which may come before the last piece."""
    answer = await while_sending(line, pieces, partial(Exchange().whole, line), pause)
    if answer.status in TURNED_AWAY:
        raise TurnedAwayError(f"turned away: {answer.status}")
    return answer
