"""Requests and their answers on one line, read by h11.

Owns: what a request looks like and when an answer is there. Requests are given out as bytes, because the probes send
them in strange ways; answers are read strictly, because what a server says last is part of what is measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import h11
import trio

from loadgen.fingerprint.line import EndedError, Line

Field = tuple[str, str]

#: Heads of answers above are taken for garbage, as in browsers.
_MAX_HEAD_BYTES: Final = 256 * 1024


class GarbledError(Exception):
    """What came is no HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered."""

    status: int
    fields: Mapping[str, str]  # by lower-case name
    size: int  # bytes of body and head
    closes: bool  # it will not take another request on this connection


class Exchange:
    """One request and its answer."""

    def __init__(self, authority: str) -> None:
        self.hints: list[int] = []  # 1xx answers on the way
        self._authority = authority
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._size = 0

    def request(self, method: str, path: str, fields: Sequence[Field] = ()) -> bytes:
        """The head of a request."""
        request = h11.Request(method=method, target=path, headers=[("Host", self._authority), *fields])
        head = self._h11.send(request)
        assert head is not None
        return head

    async def begin(self, line: Line) -> Answer:
        """Wait for the head of the answer."""
        while True:
            event = await self._next(line)
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                self.hints.append(event.status_code)
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                return self._answer(event)

    async def whole(self, line: Line) -> Answer:
        """Wait for all of the answer."""
        answer = await self.begin(line)
        if answer.status == 101:
            return answer
        while not isinstance(await self._next(line), h11.EndOfMessage | h11.ConnectionClosed):
            pass
        return replace(answer, size=self._size, closes=self._closes())

    @property
    def rest(self) -> bytes:
        """What came after an answer that ends HTTP on this line."""
        return self._h11.trailing_data[0]

    def _answer(self, head: h11.Response | h11.InformationalResponse) -> Answer:
        fields = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return Answer(status=head.status_code, fields=fields, size=self._size, closes=self._closes())

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
                return b""  # the end of a body may be the end of the connection: h11 knows
            if self._h11.trailing_data[0]:
                raise GarbledError("the answer is no HTTP: it ends within its head") from None
            raise


async def exchange(line: Line, talk: Exchange, pieces: Iterable[bytes], *, pause: float = 0.0) -> Answer:
    """Send a request in pieces while listening: the answer may come, or the line end, before all of it is sent."""
    outcome: Answer | EndedError | GarbledError

    async def send() -> None:
        with suppress(EndedError):  # whoever listens hears of it too, after what was said last
            for number, piece in enumerate(pieces):
                if number and pause:
                    await trio.sleep(pause)
                await line.send(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        try:
            outcome = await talk.whole(line)
        except (EndedError, GarbledError) as error:
            outcome = error  # raised outside: the nursery would wrap it in a group
        nursery.cancel_scope.cancel()
    if isinstance(outcome, Answer):
        return outcome
    raise outcome
