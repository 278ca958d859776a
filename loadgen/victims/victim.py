"""Victims that stay, and newcomers, which are victims that connect, do one operation and leave.

Owns: the loop that reconnects after every failure. The schedule runs whether or not a victim is connected, and a
newcomer connects when it is due. A kind of victim defines only what one connection does, for both.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import trio

from loadgen.clients.client import Needs
from loadgen.net.answers import CLOSED, NO_TURN, PLANNED, UNANSWERED, is_planned
from loadgen.net.line import FAILURES, GarbledError
from loadgen.net.timers import NEVER, now
from loadgen.net.websocket import ClosedError, RejectedError
from loadgen.net.wire import UNREADABLE, whole_number
from loadgen.stopping import first
from loadgen.victims.probe import Context, Probe, Schedule

RECONNECT_SECONDS: Final = 0.25

#: After a stall, a victim sends so many overdue operations at once, and then so many times the usual rate: a sound
#: server refuses a user who sends all of them at once.
AT_ONCE: Final = 10
CATCH_UP: Final = 2


class OperationFailedError(Exception):
    """The server answered, but not as it should."""


class PlannedEndError(OperationFailedError):
    """The server ended an answer without an end of its own, such as an event stream, as the protocol has it."""

    code: Final = 1001  # what a WebSocket would have said: going away


class Victim(Probe):
    name: ClassVar[str]  # what --victim calls its kind
    words: ClassVar[str]  # what reports call it
    keeps_messages: ClassVar[bool] = False  # the server acknowledges that it has stored each message
    repeats: ClassVar[bool] = False  # what was under way at a planned end is said again, if the server has not kept it

    def __init__(self, context: Context, index: int, schedule: Schedule) -> None:
        super().__init__(context, self.name, index, schedule)
        self.room = f"{context.tag}-{index}"  # a room for each, because fan-out is not measured here
        self.acknowledged: dict[int, int] = {}  # operations whose message the server has stored, and its offset there
        self._unsent: deque[int] = deque()
        self._begun: dict[int, float] = {}  # when each outstanding operation that is not unsent was sent
        self._heard: dict[int, int] = {}  # messages that came on this connection, and the offset of each
        self._last_heard = self._last_offset = -1
        self.said_again: set[int] = set()  # after later ones
        self.sent_since_reply = 0  # operations: at the end of a stall all arrive at once
        self._next_at = 0.0  # when the next one may begin, had none begun at once
        self._issue = trio.lowlevel.ParkingLot()
        self._answered_at = now()  # when an operation was last answered, in time or not, or the connection made
        self._locked_out = UNANSWERED  # why there is no connection
        self._planned_ends: list[float] = []
        self._owed = ""  # why the next operation fails: what happened while none was outstanding
        self._only: int | None = None  # the operation of a newcomer
        self._only_booked = trio.Event()

    def visit(self, number: int, room: str, newcomers: Probe) -> None:
        """Be a newcomer, which does this operation of others' schedule: in a room that it shares with some of them."""
        self.kind, self.room, self.pending = newcomers.kind, room, newcomers.pending
        self._only, self._issued = number, number + 1
        self.acknowledged = self.context.newcomers_said[room]
        self._unsent.append(number)

    @abstractmethod
    async def live(self) -> None:
        """Run one connection: connect, then `speak` and book, until a failure raises, or a newcomer has been served."""

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keep_schedule)
            while True:
                self._heard, self._last_heard, self._last_offset, self.sent_since_reply = {}, -1, -1, 0
                failure: BaseException | None = None
                try:
                    await self.live()
                except BaseException as error:  # noqa: BLE001  `failure_in` raises everything but a failed connection
                    failure = failure_in(error)
                reason = self.context.reason_of(failure) if failure else CLOSED
                was_connected = self.is_connected
                self._locked_out = self.context.last_failure = reason
                self.context.failures += 1
                sent = self.pending.keys() - set(self._unsent)  # unsent ones may go out on the next connection
                told = isinstance(failure, PlannedEndError | ClosedError) and failure.code in PLANNED
                if told and was_connected and (self.repeats or not sent) and is_planned(self._planned_ends):
                    self._unsent.extendleft(sorted(sent - self.acknowledged.keys(), reverse=True))
                    continue  # these operations, and those that are due before it is back, wait for that
                for number in sent:
                    self.book(number, reason)
                if was_connected and not sent and reason != UNANSWERED:  # its operation has failed already
                    self._owed = reason
                await trio.sleep(RECONNECT_SECONDS)

    def issue(self, moment: float) -> None:
        """Issue the operations that are due by now, and fail operations that were due too long ago."""
        super().issue(moment)
        self.fail_pending(due_before=moment - self.context.recorder.timeout_seconds)
        self._issue.unpark_all()

    def why_pending(self, number: int) -> str:
        """Blame the server for no answer only if it had half of the time for it; before that, other answers had it.

        If nothing was answered for all of that time, none had.
        """
        share = 0.5 if number in self._begun else 1.0
        had = now() - self._begun.get(number, self._answered_at)
        return self._locked_out or (UNANSWERED if had > share * self.context.recorder.timeout_seconds else NO_TURN)

    def book(self, number: int, reason: str = "") -> None:
        self._begun.pop(number, None)
        if not reason:
            self._answered_at = now()
        super().book(number, reason)
        if number == self._only:
            self._only_booked.set()

    def begin(self, number: int) -> None:
        if self._owed:
            self.book(number, self._owed)
            self._owed = ""
        else:
            self._unsent.append(number)

    # What a kind of victim uses

    @property
    def is_connected(self) -> bool:
        return not self._locked_out

    @property
    def stays(self) -> bool:
        return self._only is None

    def connected(self) -> None:
        """Count the victim as connected."""
        self._locked_out, self._answered_at = "", now()
        self.context.connected.add(self.index)

    async def speak(self, say: Callable[[int], Awaitable[None]]) -> None:
        """Begin one operation after the other, as they come due, each with the whole timeout for its part here.

        A newcomer has only one; this returns when that is booked.
        """
        if self.stays:
            self.connected()
        while not self._only_booked.is_set():
            number = await self.next_operation()
            with trio.fail_after(self.context.recorder.timeout_seconds):
                await say(number)
            if not self.stays:
                await self._only_booked.wait()

    async def next_operation(self) -> int:
        """Wait for the next operation that has not failed yet, and return its number."""
        interval = self.schedule.interval / CATCH_UP
        while True:
            while self._unsent and self.sent_since_reply < AT_ONCE:
                if (wait := self._next_at - (AT_ONCE - 1) * interval - now()) > 0:
                    await trio.sleep(wait)
                number = self._unsent.popleft()
                if number in self.pending:
                    self._begun[number] = moment = now()
                    self._next_at = max(self._next_at, moment) + interval
                    return number
            await self._issue.park()

    def has_said(self, number: int) -> bool:
        return 0 <= number < self._issued and number not in self._unsent

    def text(self, number: int) -> str:
        return text_of(self.room, number)

    def heard(self, text: str, offset: int = 0, room: str = "") -> None:
        """Take a message, which ends the operation whose number it carries, if it is acknowledged or need not be.

        A server may name no offset (0) and no room.
        """
        require_room(room, self.room)
        number = number_in(text, self.room, self.context.tag)
        if number is None or not (self.stays or number == self._only):
            return
        if number in self._heard:
            raise OperationFailedError("a message came twice")
        if number not in self.said_again:
            if self.keeps_messages and number < self._last_heard:  # an echo may be concurrent, a room is a sequence
                raise OperationFailedError("a message came out of order")
            self._last_heard = number
        if 0 < offset <= self._last_offset:
            raise OperationFailedError("a message at the offset of another, or of a later one")
        self._last_offset = offset
        self._heard[number] = offset
        if number in self.acknowledged or not self.keeps_messages:
            self._book_done(number)

    def recall(self, messages: Iterable[tuple[str, int]]) -> None:
        """Take messages that the room had before this connection: receipts and echoes may be lost at a planned end."""
        for text, offset in messages:
            number = number_in(text, self.room, self.context.tag)
            if number in self._begun:
                self.acknowledged.setdefault(number, offset)
                self.heard(text, offset)

    def acknowledge(self, number: int, offset: int = 0) -> None:
        """The server says that it has stored a message; with its coming back, this ends the operation.

        A server that names no offset leaves it at 0.
        """
        self.acknowledged[number] = offset
        if number in self._heard:
            self._book_done(number)

    def _book_done(self, number: int) -> None:
        """Book an operation as done, whose message is where its receipt says."""
        receipt, offset = self.acknowledged.get(number, 0), self._heard[number]
        if receipt and offset and receipt != offset:
            raise OperationFailedError("a message at another offset than acknowledged")
        self.book(number)


def require_room(told: str, room: str) -> None:
    """Refuse what a server says of another room, such as the messages of attackers."""
    if told not in {"", room}:
        raise OperationFailedError("a message of another room")


def text_of(room: str, number: int) -> str:
    return f"{room} {number}"


def number_in(text: str, room: str, tag: str) -> int | None:
    """Return the number of the operation in a victim's text, or None for a text that is of no victim.

    Raises OperationFailedError for a text of this run's that was meant for another room, and so for another client.
    """
    word, _, number = text.partition(" ")
    operation = whole_number(number)
    if not word.startswith(tag) or operation is None:
        return None
    if word != room:
        raise OperationFailedError("a message of another client")
    return operation


_FAILURES: Final = (
    *FAILURES,
    trio.ClosedResourceError,
    GarbledError,
    RejectedError,
    ClosedError,
    *UNREADABLE,
    OperationFailedError,
)


def failure_in(error: BaseException) -> BaseException:
    """Extract the failure from what `live` raised, out of any exception groups; raise anything else, which is a bug."""
    rest: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        failures, rest = error.split(_FAILURES)
        if rest is None and failures is not None:
            return first(failures)
    elif isinstance(error, _FAILURES):
        return error
    raise rest or error


#: Addresses and rooms that newcomers use in turn: several, so that they do not meet a cap per address. In each phase
#: they have addresses of their own, since a server may let only those in that it knew before the attack.
ADDRESSES: Final = 64
_OF_A_PHASE: Final = 10_000


class Newcomers(Probe):
    def __init__(self, context: Context, kind: type[Victim], schedule: Schedule, first_index: int) -> None:
        super().__init__(context, f"new-{kind.name}", 0, schedule)
        self._kind = kind
        self._first_index = first_index  # of the source addresses
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self.keep_schedule()

    def begin(self, number: int) -> None:
        """Start a newcomer, however many earlier ones still wait."""
        assert self._nursery is not None, "nothing is issued before"
        self._nursery.start_soon(self._come, number, self.pending[number])

    async def _come(self, number: int, due: float) -> None:
        place, phases = number % ADDRESSES, len(self.context.recorder.phases)
        newcomer = self._kind(self.context, self._first_index + place + _OF_A_PHASE * phases, self.schedule)
        room = f"{self.context.tag}-{self.kind}-{place}"
        newcomer.visit(number, room, self)
        left = self.context.newcomers_left[room]
        left[number] = NEVER
        try:
            with trio.fail_after(max(due + self.context.recorder.timeout_seconds - now(), 0)):
                await newcomer.live()
            left[number] = now()
        except BaseException as error:  # noqa: BLE001  `failure_in` raises everything but a failed connection
            # no effect after success: a failed close does not count
            self.book(number, self.context.reason_of(failure_in(error)))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    name: str
    victims: tuple[type[Victim], ...]  # each kind comes as newcomers, too
    speaker: str  # the persona that sends on the schedule
    idle: str  # the persona that only stays connected
    proves: frozenset[Needs]  # what a server must speak if its victims succeed
    mix: Mapping[str, float] = field(default_factory=dict)  # shares of its victims, where `--victim` has its name
