"""Callers that wait for an answer of the server, whatever happens to the connection.

Owns: their waits and deadlines, on the connection and in plain HTTP beside it. May not: know what is asked, or connect.
"""

from collections.abc import Callable
from copy import copy
from typing import TypeVar

import msgspec
import trio

from chatserver.client import events, requests, wire
from chatserver.client.errors import NOT_DONE, ChatError, Unavailable
from chatserver.client.http1 import HttpClient
from chatserver.client.link import Link
from chatserver.client.session import Session, waiting_time

_A = TypeVar("_A", bound=wire.Answer)
_S = TypeVar("_S", bound=msgspec.Struct)


class Calls:
    """The waiting callers of one `Chat`. What waits raises `ChatError`, after `timeout` seconds at the latest.

    `tell` gets the event that a call is tried again.
    """

    def __init__(
        self, session: Session, http: HttpClient, link: Link, tell: Callable[[events.Postponed], object], timeout: float
    ) -> None:
        self.ended: ChatError | None = None  # why there will be no connection any more
        self._session = session
        self._http = http
        self._link = link
        self._tell = tell
        self._timeout = timeout
        self._waits: dict[int, trio.MemorySendChannel[wire.Answer | ChatError]] = {}
        self._beside: set[trio.CancelScope] = set()  # calls in plain HTTP
        self._connected = trio.Event()

    async def ask(self, request: requests.Request, kind: type[_A]) -> _A:
        """Ask on the connection, on the next one if this one is lost."""
        if self.ended is not None:
            raise self._no_answer()
        until = trio.current_time() + self._timeout
        id_ = self._session.ask(requests.checked(request), until=until)
        self._waits[id_], waiting = trio.open_memory_channel(1)
        self._link.wake()
        result: wire.Answer | ChatError | None = None
        try:
            with trio.move_on_at(until):
                result = await waiting.receive()
        finally:
            self._waits.pop(id_, None)
            self._session.forget(id_)
            self._link.wake()  # a write behind it may be sent now
        if isinstance(result, ChatError):
            raise result
        if not isinstance(result, kind):
            raise self._no_answer()
        return result

    async def request(self, method: str, path: str, kind: type[_S], fields: object = None) -> _S:
        """Use plain HTTP, which every transport has beside it, as the user of the connection.

        Before the first connection we may have no cookie, and would be the guest of our address. What is not a GET has
        no key here, so it is not repeated if it may have been done.
        """
        until = trio.current_time() + self._timeout
        with trio.move_on_at(until) as call:
            self._beside.add(call)
            try:
                while True:
                    await self.until_connected()
                    try:
                        answer = await self._http.call(method, path, fields)
                    except Unavailable as error:
                        if method != "GET" and error.code not in NOT_DONE:
                            error.message += "; the change may have been made"
                            raise
                        delay = waiting_time(error.retry_after)
                        if trio.current_time() + delay >= until:
                            raise
                        self._tell(events.Postponed("", error.code, error.message, delay))
                        await trio.sleep(delay)
                    else:
                        return answer.content(kind)
            finally:
                self._beside.discard(call)
        raise self._no_answer()

    async def until_connected(self) -> None:
        """Wait for the first connection."""
        with trio.move_on_after(self._timeout):
            await self._connected.wait()
        if self.ended is not None or not self._connected.is_set():
            raise self._no_answer()

    def connected(self) -> None:
        """Note that there is, or was, a connection."""
        self._connected.set()

    def answer(self, id_: int, result: wire.Answer | ChatError) -> None:
        """Give an answer to its caller, if that still waits."""
        if (wait := self._waits.pop(id_, None)) is not None:
            wait.send_nowait(result)

    def end(self, why: ChatError) -> None:
        """End all calls, and those to come."""
        self.ended = why
        self._connected.set()
        for call in self._beside:
            call.cancel()
        for id_ in list(self._waits):
            self.answer(id_, self._no_answer())

    def _no_answer(self) -> ChatError:
        if self.ended is not None:
            return copy(self.ended)  # an exception that is raised again keeps the frames of each time before
        why = f"{trouble}; " if (trouble := self._link.trouble) is not None else ""
        return Unavailable("unavailable", f"{why}no answer within {self._timeout:g} s")
