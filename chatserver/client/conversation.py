"""One open WebSocket: a task that receives, one that sends, one that watches for silence.

Owns: the three tasks, and the verdict on how the connection ended. May not: connect, or try again.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
import trio_websocket

from chatserver.client.events import Event, GoingAway
from chatserver.client.session import Session
from chatserver.client.stream import Ear, EndedError
from chatserver.client.wire import ProtocolError

SILENCE = 30.0  # s without a byte before we ask; the server pings every 25, so we rarely need to
PONG_TIMEOUT = 10.0  # s for anything at all to come back

_CODES_FINAL = frozenset({1002, 1007})  # the server cannot make sense of us: "do not come back" in reasons.py
_FINAL_RANGE = range(4500, 5000)  # the same, for codes of the server's own
_NO_CLOSE_FRAME = 1006  # RFC 6455 7.1.5


class RejectedError(Exception):
    """The server does not want this client back, whatever it does."""


class Bell:
    """Wakes one waiting task; ringing twice before it wakes is ringing once."""

    def __init__(self) -> None:
        self._ring, self._rung = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        """Wake the task, now or when it next waits."""
        with suppress(trio.WouldBlock):
            self._ring.send_nowait(None)

    async def wait(self) -> None:
        """Wait for a ring."""
        await self._rung.receive()


class Conversation:
    """Runs until the connection is over; then `ending()` says how that came."""

    def __init__(
        self,
        socket: trio_websocket.WebSocketConnection,
        ear: Ear,
        session: Session,
        bell: Bell,
        emit: trio.MemorySendChannel[Event],
    ) -> None:
        self._socket = socket
        self._ear = ear
        self._session = session
        self._bell = bell  # rung when the session may have something to send
        self._emit = emit
        self._asked: float | None = None
        self._why: str | None = None

    async def run(self) -> None:
        """Receive, send and watch; return when any of them finds the connection over."""
        async with trio.open_nursery() as nursery:
            for task in (self._receive, self._send, self._watch):
                nursery.start_soon(self._until_over, task, nursery.cancel_scope)

    def ending(self) -> RejectedError | EndedError:
        """Return the reason as an exception for the caller to raise."""
        reason = self._socket.closed
        if reason is None or reason.code == _NO_CLOSE_FRAME:
            return EndedError(self._why or "the connection was lost", asked=self._asked)
        words = f"{reason.code} {reason.reason or reason.name.lower().replace('_', ' ')}"
        if reason.code in _CODES_FINAL or reason.code in _FINAL_RANGE:
            return RejectedError(f"the server closed the connection for good: {words}")
        return EndedError(self._why or f"the server closed the connection: {words}", asked=self._asked)

    async def _until_over(self, task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await task()
        except trio_websocket.ConnectionClosed:
            pass  # ending() asks the socket how
        except ProtocolError as error:
            self._why = f"the server does not speak chat.v1: {error}"
        scope.cancel()

    async def _receive(self) -> None:
        while True:
            frame = await self._socket.get_message()
            if isinstance(frame, bytes):
                raise ProtocolError("a binary frame")
            events = self._session.receive(frame, trio.current_time())
            self._bell.ring()
            for event in events:
                if isinstance(event, GoingAway):
                    self._why = f"the server is going away: {event.reason}"
                    self._asked = event.retry_after
                await self._emit.send(event)

    async def _send(self) -> None:
        while True:
            for frame in self._session.outgoing(trio.current_time()):
                await self._socket.send_message(frame)
            until = self._session.next_time()
            with trio.move_on_at(math.inf if until is None else until):
                await self._bell.wait()

    async def _watch(self) -> None:
        """Return when nothing comes, not even the answer to a ping.

        Not judged while our own user is slow to take events: nobody listens then, and bytes wait.
        """
        while True:
            await trio.sleep_until(self._ear.heard + SILENCE)
            asked_at = trio.current_time()
            if asked_at < self._ear.heard + SILENCE:
                continue
            with trio.move_on_after(PONG_TIMEOUT):
                await self._socket.ping()
            if self._ear.heard < asked_at and self._ear.listening:
                self._why = "the server has gone silent"
                return
            await trio.sleep_until(asked_at + SILENCE)  # even if nobody listened: ask again, but not at once
