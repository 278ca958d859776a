"""What all victims of a process share: target, clock and recorder.

Owns: source addresses, the count of connected victims, and the outstanding operations of a schedule. May not: know any
kind of victim.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from typing import Final

import trio

from loadgen.latency import Lag
from loadgen.line import Line, dial
from loadgen.sockets import unread_seconds
from loadgen.target import PER_SOURCE, USUAL, Endpoint, Target
from loadgen.timers import NEVER, now
from loadgen.victims.clock import Clock, Schedule
from loadgen.victims.recorder import Recorder

CONNECT_TIMEOUT_SECONDS: Final = 10.0

#: The victims' source addresses come after all that a crowd of 100,000 could use.
_FIRST_SOURCE_INDEX: Final = 100_000


class _Watched(trio.abc.ReceiveStream):
    """A victim's receive stream that records how long the data had waited in the kernel."""

    def __init__(self, stream: trio.SocketStream, lag: Lag) -> None:
        self._stream = stream
        self._lag = lag

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if data:
            self._lag.record_read(unread_seconds(self._stream.socket))
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class Context:
    def __init__(self, target: Target, tag: str) -> None:
        self.target = target
        self.tag = tag  # tells this run's rooms from another's
        self.clock = Clock()
        self.recorder = Recorder()
        self.endpoint: Endpoint = USUAL
        self.stopped = False
        self.connected = 0  # victims
        self.failures = 0
        self.last_failure = ""
        self._least_page: int | None = None  # bytes of the smallest page before the first phase
        self._pages: set[bytes] = set()  # digests of the pages up to the end of the first phase, two at most

    def fault_in_page(self, page: bytes) -> str:
        """Say what is wrong with a page: an overloaded server may answer 200 with an excuse, or with a foreign page."""
        size, digest = len(page), blake2b(page, digest_size=16).digest()
        if self._least_page is None or self.recorder.phases_begun == 0:
            self._least_page = size if self._least_page is None else min(size, self._least_page)
        if self.recorder.phases_begun <= 1 and len(self._pages) < 2:
            self._pages.add(digest)
        if 2 * size < self._least_page:
            return "a page of less than half the bytes as before"
        is_constant = self.recorder.phases_begun > 1 and len(self._pages) == 1
        return "another page than before" if is_constant and digest not in self._pages else ""

    @property
    def timeout_seconds(self) -> float:
        """The time of an operation."""
        return self.recorder.timeout_seconds

    def source(self, index: int) -> str | None:
        """Return a victim's own address: healthy users do not share one greedy address."""
        return self.target.source(_FIRST_SOURCE_INDEX + index * PER_SOURCE)

    def dial(self, index: int) -> AbstractAsyncContextManager[Line]:
        def watched(stream: trio.SocketStream) -> trio.abc.Stream:
            return trio.StapledStream(stream, _Watched(stream, self.clock.lag))

        return dial(self.target, source=self.source(index), seconds=CONNECT_TIMEOUT_SECONDS, watched=watched)


class Probe(ABC):
    """The operations of one schedule, which runs whether or not anything is connected."""

    def __init__(self, context: Context, kind: str, index: int, schedule: Schedule) -> None:
        self.context = context
        self.kind = kind  # the name that its operations are booked under
        self.index = index
        self.schedule = schedule
        self.pending: dict[int, float] = {}  # when each outstanding operation was due, by number, oldest first
        self._issued = 0

    @abstractmethod
    async def run(self) -> None:
        """Play until cancelled."""

    @abstractmethod
    def begin(self, number: int) -> None:
        """Begin an operation that is due."""

    async def keep_schedule(self) -> None:
        while not self.context.stopped:
            await self.context.clock.sleep_until(self.schedule.due(self._issued))
            if not self.context.stopped:
                self.issue(now())

    def issue(self, moment: float) -> None:
        """Begin every operation that is due before `moment`."""
        while (due := self.schedule.due(self._issued)) < moment:
            self.pending[self._issued] = due
            self.begin(self._issued)
            self._issued += 1

    def book(self, number: int, reason: str = "") -> None:
        """Book an operation as done, or as failed for a reason; only the first booking of a number counts."""
        due = self.pending.pop(number, None)
        if due is not None:
            self.context.recorder.book(self.kind, self.index, due, reason)

    def fail_pending(self, reason: str, *, due_before: float = NEVER) -> None:
        """Book the outstanding operations that were due before `due_before` as failed."""
        for number, due in list(self.pending.items()):
            if due >= due_before:
                return
            self.book(number, reason)
