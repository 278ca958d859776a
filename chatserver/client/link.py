"""Keeps one `Session` connected, one conversation after another.

Owns: connecting, the tasks of an open conversation, the delay before the next. May not: know what a frame means
(session.py does) or how it is sent (the transports do).
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from time import time
from typing import NoReturn, Protocol

import trio

from chatserver.client import wire
from chatserver.client.errors import Rejected
from chatserver.client.events import Reconnecting
from chatserver.client.http1 import GREETING_TIMEOUT
from chatserver.client.requests import Request
from chatserver.client.session import Outcome, Session, waiting_time
from chatserver.client.stream import EndedError

FIRST_DELAY = 0.5  # s; the mean first wait is half of it
LONGEST_DELAY = 30.0  # s; Phoenix 5, Centrifugo and Engine.IO 5-20; a restart takes less
ASKED_SPREAD = 0.25  # jitter that is added to the server's delay, as a fraction of it
STEADY_AFTER = 10.0  # s after which a connection resets the count of failures
LOOK_EVERY = 2.0  # s between two looks at the clocks
ASLEEP = 10.0  # s for which the machine has slept, after which the server may have closed the connection


class Backoff:
    """Turns consecutive failures into delays: exponential, with full jitter as AWS's blog recommends.

    So ten thousand clients do not return at once. A delay from the server (`Retry-After`, `goaway`) takes precedence
    if it is between FIRST_DELAY and LONGEST_WAIT, and is spread a little as well.
    """

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0

    def delay(self, *, asked: float | None) -> float:
        """Return the seconds to wait now; `asked` is the server's delay, if it gave one."""
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        jitter = self._jitter()
        if asked is None or asked < FIRST_DELAY:  # with a server that fails at once, 0 would be a loop without a pause
            return max(ceiling * jitter, asked or 0.0)
        return waiting_time(asked) * (1 + ASKED_SPREAD * jitter)

    def lived(self, seconds: float) -> None:
        """Note how long a connection lasted."""
        if seconds >= STEADY_AFTER:
            self._failures = 0


class Conversation(Protocol):
    """An open conversation, of any transport. Both methods raise EndedError, perhaps in a group, when it has ended."""

    async def send(self, request: Request) -> None:
        """Send a request; `receive` returns its answer."""

    async def receive(self) -> wire.Frame | wire.Record | None:
        """Wait for the next frame or record from the server."""


class Link:
    """Keeps a conversation open. `tell` is called at once with each outcome, and must not wait."""

    def __init__(
        self,
        session: Session,
        open_: Callable[[], AbstractAsyncContextManager[Conversation]],
        tell: Callable[[Outcome], None],
        backoff: Backoff,
    ) -> None:
        self._session = session
        self._open = open_
        self._tell = tell
        self._backoff = backoff
        self._news = trio.Event()  # set when the session may have something to send
        self._goaway: wire.GoingAway | None = None  # of this conversation
        self._scope = trio.CancelScope()  # around an open conversation's tasks, or the attempt to open one
        self._left = trio.Event()
        self._hurried = trio.Event()  # set when the next attempt is not to wait
        self._restarting = False
        self._was_open = False  # then a refusal that the server has not made will pass
        self._opened_at = math.inf  # when the server said who we are; a conversation without that has lasted no time
        self.trouble: str | None = "there is no connection yet"  # why there is no connection, if there is none

    def wake(self) -> None:
        """Send what the session has to send."""
        self._news.set()

    def restart(self) -> None:
        self._restarting = True
        self._scope.cancel()

    def try_now(self) -> None:
        """If the next attempt waits, make it at once."""
        self._hurried.set()

    def leave(self) -> None:
        """End `run`, with a proper close of an open conversation."""
        self._left.set()
        self._scope.cancel()

    async def run(self) -> Rejected | None:
        """Keep reconnecting until `leave`; return an error when the server has told us not to come back."""
        while not self._left.is_set():
            self._opened_at, self._goaway, self._restarting = math.inf, None, False
            ending = await self._converse()
            for failed in self._session.closed(ending.code):
                self._tell(failed)
            self.trouble = ending.why
            if self._left.is_set() or self._restarting:
                continue
            if ending.final and not (ending.foreign and self._was_open):
                return Rejected("rejected", ending.why)
            self._backoff.lived(trio.current_time() - self._opened_at)
            delay = self._backoff.delay(asked=ending.retry_after)
            self._tell(Reconnecting(ending.why, delay))
            self._hurried = trio.Event()
            with trio.move_on_after(delay) as self._scope:
                await self._hurried.wait()
        return None

    async def _converse(self) -> EndedError:
        """Open a conversation and keep it going until it is over."""
        ending = EndedError("the connection was lost")
        try:
            with trio.CancelScope() as attempt:
                self._scope = attempt
                async with self._open() as conversation, trio.open_nursery() as tasks:
                    self._scope = tasks.cancel_scope  # so that the conversation is closed properly
                    for failed in self._session.opened(time()):
                        self._tell(failed)
                    self.trouble, greeted = None, trio.Event()
                    tasks.start_soon(self._receive, conversation, greeted)
                    tasks.start_soon(self._send, conversation, greeted)
                    tasks.start_soon(_end_after_sleep)
        except* EndedError as group:
            endings = [error for error in _leaves(group) if isinstance(error, EndedError)]
            ending = max(endings, key=lambda error: error.final)
        except* wire.ProtocolError as group:
            ending = EndedError(f"the server does not speak chat.v1: {next(_leaves(group))}")
        if self._goaway is not None and not ending.final:
            why = f"the server is going away: {self._goaway.reason}"
            ending = EndedError(why, retry_after=self._goaway.retry_after, code=ending.code)
        return ending

    async def _receive(self, conversation: Conversation, greeted: trio.Event) -> None:
        while True:
            frame = await conversation.receive()
            if isinstance(frame, wire.GoingAway):
                self._goaway = frame
            for outcome in self._session.receive(frame, trio.current_time()):
                self._tell(outcome)
            greeted.set()
            self._news.set()

    async def _send(self, conversation: Conversation, greeted: trio.Event) -> None:
        """Send requests once the server has said who we are: as another user we may have to connect anew first."""
        with trio.move_on_after(GREETING_TIMEOUT) as patience:
            await greeted.wait()
        if patience.cancelled_caught:
            raise EndedError(f"the server has not said who we are within {GREETING_TIMEOUT:g} s")
        self._was_open, self._opened_at = True, trio.current_time()
        while True:
            self._news = trio.Event()
            for request in self._session.outgoing(trio.current_time(), time()):
                await conversation.send(request)
            with trio.move_on_at(self._session.next_time()):
                await self._news.wait()


async def _end_after_sleep() -> NoReturn:
    """Raise EndedError after a sleep of the machine, during which trio's clock stands still."""
    while True:
        before = time() - trio.current_time()
        await trio.sleep(LOOK_EVERY)
        if time() - trio.current_time() - before > ASLEEP:
            raise EndedError("this machine was asleep")


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
