"""What all victims have in common: the operation, and coming back.

Owns: the schedule of one victim (an operation every 100 ms, whether or not the last has come back), the operations that
are outstanding, and the loop that connects again whatever happened. A kind of victim only says what one life is like.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import h11
import msgspec
import trio
import trio_websocket

from loadgen.errors import first
from loadgen.target import client_context
from loadgen.timers import now

if TYPE_CHECKING:
    from loadgen.victims.runner import ProbeRunner

OPERATION_SECONDS: Final = 0.1
CONNECT_TIMEOUT_SECONDS: Final = 10.0
RECONNECT_SECONDS: Final = 0.25

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

UNANSWERED: Final = "no answer in time"


class OperationFailedError(Exception):
    """The server answered, but not as it should."""


class Victim(ABC):
    """One healthy client."""

    kind: ClassVar[str]  # see kinds.py

    def __init__(self, runner: "ProbeRunner", index: int, first_due: float) -> None:
        self.runner = runner
        self.room = f"{runner.tag}-{index}"  # a room for each: fan-out is not what is measured here
        self.pending: dict[int, float] = {}  # operations by number, oldest first, each with when it was due
        self._index = index
        self._first_due = first_due
        self._number = 0

    @abstractmethod
    async def live(self) -> None:
        """One life: connect, then `operation` and book until something fails, which raises."""

    async def run(self) -> None:
        """Live again and again."""
        while True:
            try:
                await self.live()
                reason = "closed"
            except BaseException as error:  # noqa: BLE001  everything but our own failures is raised again
                reason = describe(_one(error))
            self.runner.ended(reason)
            self.fail_pending(reason)
            await trio.sleep(RECONNECT_SECONDS)

    # What a kind of victim uses

    async def dial(self) -> Stream:
        """Connect from an address of one's own: healthy users are no single greedy address."""
        target = self.runner.target
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
            source = self.runner.source(self._index)
            stream = await trio.open_tcp_stream(target.address, target.port, local_address=source)
            if not target.tls:
                return stream
            secure = trio.SSLStream(stream, client_context(), server_hostname=target.host, https_compatible=True)
            await secure.do_handshake()
            return secure

    async def next_operation(self) -> int:
        """Wait for the next operation that is still worth sending, and give its number."""
        while True:
            number, due = self._number, self._first_due + self._number * OPERATION_SECONDS
            await self.runner.clock.sleep_until(due)
            if self.runner.stopped:
                await trio.sleep_forever()
            self._number += 1
            self.pending[number] = due
            # an operation that was due long ago, before this connection stood, fails here without being sent
            self.fail_pending(UNANSWERED, due_before=now() - self.runner.timeout_seconds)
            if number in self.pending:
                return number

    def returned(self, number: int) -> None:
        """Book that an operation came back; a second time, or late, does not count."""
        due = self.pending.pop(number, None)
        if due is not None:
            self.runner.recorder.succeeded(self.kind, due)

    def refused(self, number: int, reason: str) -> None:
        """Book that the server would not take an operation."""
        due = self.pending.pop(number, None)
        if due is not None:
            self.runner.recorder.failed(self.kind, due, reason)

    def heard(self, text: str) -> None:
        """Book the operation that a message carries, if it does."""
        word, _, number = text.partition(" ")
        if word == "beat" and number.isdecimal():
            self.returned(int(number))

    def fail_pending(self, reason: str, *, due_before: float = float("inf")) -> None:
        """Book the outstanding operations that were due before a moment as failed."""
        for number, due in list(self.pending.items()):
            if due >= due_before:
                return
            self.refused(number, reason)


_FAILURES: Final = (
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    h11.RemoteProtocolError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    msgspec.MsgspecError,
    OperationFailedError,
)


def _one(error: BaseException) -> BaseException:
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
