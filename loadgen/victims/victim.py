"""Victims that stay, and newcomers that connect, do one operation and leave.

Owns: the loop that connects again whatever happened. The schedule runs whether or not a victim is connected: a victim
without a connection goes on to fail, and a newcomer comes when it is due, however many before it still wait. A kind of
victim only says what one connection is like.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Final, NamedTuple

import h11
import msgspec
import trio
import trio_websocket
import wsproto.utilities

from loadgen.stopping import first
from loadgen.timers import now
from loadgen.victims.clock import Schedule
from loadgen.victims.context import Context, Probe, Stream

CONNECT_TIMEOUT_SECONDS: Final = 10.0
RECONNECT_SECONDS: Final = 0.25

UNANSWERED: Final = "no answer in time"

#: What a victim's text begins with; its number follows.
_WORD: Final = "beat"


class OperationFailedError(Exception):
    """The server answered, but not as it should."""


class Victim(Probe):
    name: ClassVar[str]  # what --victim calls its kind
    words: ClassVar[str]  # what reports call it
    keeps_messages: ClassVar[bool] = False  # the server says that it keeps what this one says

    def __init__(self, context: Context, index: int, schedule: Schedule) -> None:
        super().__init__(context, self.name, index, schedule)
        self.room = f"{context.tag}-{index}"  # a room for each: fan-out is not what is measured here
        self.acknowledged: set[int] = set()  # operations whose message the server says it keeps
        self._unsent: deque[int] = deque()
        self._issue = trio.lowlevel.ParkingLot()
        self._locked_out = ""  # why there is no connection

    @abstractmethod
    async def live(self) -> None:
        """One connection: make it, then `next_operation` and book until something fails, which raises."""

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keep_schedule)
            while True:
                try:
                    await self.live()
                    reason = "closed"
                except BaseException as error:  # noqa: BLE001  everything but our own failures is raised again
                    reason = describe(failure_in(error))
                self._locked_out = self.context.last_failure = reason
                self.context.failures += 1
                for number in self.pending.keys() - set(self._unsent):  # what was not sent yet may still be
                    self.book(number, reason)
                await trio.sleep(RECONNECT_SECONDS)

    def issue(self, moment: float) -> None:
        """Issue what is due by now, and fail what was due too long ago."""
        super().issue(moment)
        self.fail_pending(self._locked_out or UNANSWERED, due_before=moment - self.context.timeout_seconds)
        self._issue.unpark_all()

    def begin(self, number: int) -> None:
        """Leave it to the connection, which may not be there."""
        self._unsent.append(number)

    # What a kind of victim uses

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Declare the connection ready for operations meanwhile."""
        self._locked_out = ""
        self.context.connected += 1
        try:
            yield
        finally:
            self.context.connected -= 1

    async def dial(self) -> Stream:
        """Connect from an address of one's own: healthy users are no single greedy address."""
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
            return await self.context.dial(self.index)

    async def next_operation(self) -> int:
        """Wait for the next operation that is still worth sending, and give its number."""
        while True:
            while self._unsent:
                number = self._unsent.popleft()
                if number in self.pending:
                    return number
            await self._issue.park()

    def heard(self, text: str) -> None:
        """Book the operation that a message carries, if it does."""
        number = number_in(text)
        if number is not None:
            self.book(number)


def text_of(number: int) -> str:
    return f"{_WORD} {number}"


def number_in(text: str) -> int | None:
    """The operation that a victim's text names."""
    word, _, number = text.partition(" ")
    return int(number) if word == _WORD and number.isdecimal() else None


_FAILURES: Final = (
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    h11.RemoteProtocolError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    wsproto.utilities.LocalProtocolError,  # trio-websocket answers a ping after our own goodbye
    msgspec.MsgspecError,
    OperationFailedError,
)


def failure_in(error: BaseException) -> BaseException:
    """The failure in what a life raised, out of however many groups; anything else is a bug of ours and goes on."""
    rest: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        failures, rest = error.split(_FAILURES)
        if rest is None and failures is not None:
            return first(failures)
    elif isinstance(error, _FAILURES):
        return error
    raise rest or error


def describe(error: BaseException) -> str:
    """Put a failure into the few words under which it is counted."""
    if isinstance(error, trio.TooSlowError):
        return UNANSWERED
    if isinstance(error, trio_websocket.ConnectionRejected):
        return f"answered {error.status_code}"
    if isinstance(error, trio_websocket.ConnectionClosed):
        return f"closed: {error.reason}" if error.reason else "closed"
    return str(error) or type(error).__name__


#: Addresses, and rooms, that newcomers take in turns: more than one, so that no cap by address is what they meet.
ADDRESSES: Final = 64


class Newcomer(NamedTuple):
    kind: str
    words: str  # what reports call it
    #: What it does on its connection: it is given its number, and what to call when the operation is done.
    operation: Callable[[Context, Stream, int, Callable[[], None]], Awaitable[None]]


class Newcomers(Probe):
    def __init__(self, context: Context, newcomer: Newcomer, schedule: Schedule, first_index: int) -> None:
        super().__init__(context, newcomer.kind, 0, schedule)
        self._operation = newcomer.operation
        self._first_index = first_index  # of the source addresses
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Let a newcomer come whenever one is due."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self.keep_schedule()

    def issue(self, moment: float) -> None:
        """Begin all that are due by now, as soon as they can."""
        if self._nursery is not None:
            super().issue(moment)

    def begin(self, number: int) -> None:
        """Let a newcomer come, however many before it still wait."""
        assert self._nursery is not None, "nothing is issued before"
        self._nursery.start_soon(self._come, number, self.pending[number])

    async def _come(self, number: int, due: float) -> None:
        index = self._first_index + number % ADDRESSES
        try:
            with trio.fail_after(max(due + self.context.timeout_seconds - now(), 0)):
                stream = await self.context.dial(index)
                async with stream:
                    await self._operation(self.context, stream, number, partial(self.book, number))
        except BaseException as error:  # noqa: BLE001  everything but the server's failures is raised again
            self.book(number, describe(failure_in(error)))  # how the goodbye went does not count
