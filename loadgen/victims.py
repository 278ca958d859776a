"""The victims: healthy members beside a crowd, and what they felt.

Owns: the beats. Each victim publishes every 100 ms in a room of its own, whether or not the last message has come back,
and times each message's return from the moment it was *due*. Victims are ordinary trio tasks on trio-websocket (about
25 KB each): an independent peer, so that a mistake in our own reading of the protocol cannot hide one in the target's.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

import msgspec
import trio
import trio_websocket

from loadgen.engine import Engine
from loadgen.latency import Latency
from loadgen.target import Target
from loadgen.timers import now

BEAT_SECONDS: Final = 0.1

#: A round trip that takes longer has failed.
BEAT_TIMEOUT_SECONDS: Final = 5.0

CONNECT_TIMEOUT_SECONDS: Final = 10.0
RECONNECT_SECONDS: Final = 0.25

#: Victims take source addresses behind all that a crowd of 100,000 could use.
_FIRST_SOURCE_INDEX: Final = 100_000


class Reply(msgspec.Struct):
    """What a victim reads of a chat.v1 message."""

    type: str
    id: int | str | None = None
    text: str = ""
    code: str = ""


_decoder = msgspec.json.Decoder(Reply)


class BeatFailedError(Exception):
    """The server answered, but not as it should."""


class Phase:
    """Beats that were due in one part of the run."""

    def __init__(self, name: str, begun: float) -> None:
        self.name = name
        self.begun = begun
        self.latency = Latency()
        self.failed: Counter[str] = Counter()

    @property
    def success_percent(self) -> float | None:
        """How many beats succeeded; `None` if there were none."""
        beats = self.latency.count + self.failed.total()
        return 100 * self.latency.count / beats if beats else None


class Ledger:
    """All phases so far; a beat belongs to the one in which it was due, whenever it ends."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def begin(self, name: str) -> Phase:
        """Begin a phase now."""
        self.phases.append(Phase(name, now()))
        return self.phases[-1]

    def _of(self, due: float) -> Phase:
        return next((phase for phase in reversed(self.phases) if phase.begun <= due), self.phases[0])

    def succeeded(self, due: float) -> None:
        """Book a round trip that ends now."""
        self._of(due).latency.record(now() - due)

    def failed(self, due: float, reason: str) -> None:
        """Book a beat that came to nothing."""
        self._of(due).failed[reason] += 1


class Victims:
    """A number of victims."""

    def __init__(
        self,
        *,
        target: Target,
        engine: Engine,
        ledger: Ledger,
        number: int,
        random: Random,
        beat_timeout_seconds: float = BEAT_TIMEOUT_SECONDS,
    ) -> None:
        self.beat_timeout_seconds = beat_timeout_seconds
        self.target = target
        self.engine = engine
        self.ledger = ledger
        self.number = number
        self.connected = 0
        self.stopped = False
        self.failures = 0  # connections that could not be made, or ended
        self.last_failure = ""
        self.tag = f"v{random.getrandbits(32):08x}"  # a room for each: fan-out is not what is measured here
        self._all: list[_Victim] = []

    async def run(self) -> None:
        """Play all victims until cancelled."""
        begun = now()
        async with trio.open_nursery() as nursery:
            for index in range(self.number):
                victim = _Victim(self, index, begun + BEAT_SECONDS * index / self.number)
                self._all.append(victim)
                nursery.start_soon(victim.run)

    def stop(self) -> None:
        """Let no further beat begin."""
        self.stopped = True

    @property
    def outstanding(self) -> int:
        """Beats whose message has neither come back nor failed."""
        return sum(len(victim.pending) for victim in self._all)

    def give_up(self) -> None:
        """Book every outstanding beat as failed."""
        for victim in self._all:
            victim.fail_pending(_UNANSWERED)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a victim as connected meanwhile."""
        self.connected += 1
        try:
            yield
        finally:
            self.connected -= 1


class _Victim:
    """One healthy member: one task beats on schedule, one listens, and neither waits for the other."""

    def __init__(self, victims: Victims, index: int, first_due: float) -> None:
        self.pending: dict[int, float] = {}  # beats by number, oldest first, each with when it was due
        self._victims = victims
        self._index = index
        self._room = f"{victims.tag}-{index}"
        self._first_due = first_due
        self._beat = 0

    def fail_pending(self, reason: str, *, due_before: float = float("inf")) -> None:
        """Book the outstanding beats that were due before a moment as failed."""
        for number, due in list(self.pending.items()):
            if due >= due_before:
                return
            del self.pending[number]
            self._victims.ledger.failed(due, reason)

    async def run(self) -> None:
        while True:
            reason = await self._live()
            self._victims.failures += 1
            self._victims.last_failure = reason
            self.fail_pending(reason)
            await trio.sleep(RECONNECT_SECONDS)

    async def _live(self) -> str:
        """One connection, from dialling to its end; why it ended."""
        reason = ""
        try:  # everything that fails comes out of a nursery, and so in a group
            async with await self._dial() as stream, trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                    host = self._victims.target.authority
                    peer = await trio_websocket.wrap_client_stream(nursery, stream, host, "/ws")
                    await self._join(peer)
                with self._victims.counted():
                    nursery.start_soon(self._listen, peer)
                    await self._speak(peer)
        except* _FAILURES as failures:
            reason = _describe(_first(failures))
        return reason

    async def _dial(self) -> trio.SocketStream:
        target = self._victims.target
        source = target.source(_FIRST_SOURCE_INDEX + self._index)
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
            return await trio.open_tcp_stream(target.address, target.port, local_address=source)

    async def _join(self, peer: trio_websocket.WebSocketConnection) -> None:
        await peer.send_message(_encode({"type": "join", "id": -1, "room": self._room}))
        while (reply := _decoder.decode(await peer.get_message())).type != "joined":
            if reply.type == "error":
                raise BeatFailedError(f"error {reply.code}")

    async def _speak(self, peer: trio_websocket.WebSocketConnection) -> None:
        while not self._victims.stopped:
            number, due = self._beat, self._first_due + self._beat * BEAT_SECONDS
            await self._victims.engine.sleep_until(due)
            self._beat += 1
            self.pending[number] = due
            # a beat that was due long ago, before this connection stood, fails here without being sent
            self.fail_pending(_UNANSWERED, due_before=now() - self._victims.beat_timeout_seconds)
            if number in self.pending:
                message = {"type": "publish", "id": number, "room": self._room, "text": f"beat {number}"}
                with trio.fail_after(self._victims.beat_timeout_seconds):
                    await peer.send_message(_encode(message))

    async def _listen(self, peer: trio_websocket.WebSocketConnection) -> None:
        while True:
            reply = _decoder.decode(await peer.get_message())
            if reply.type == "message" and reply.text.startswith("beat "):
                due = self.pending.pop(int(reply.text[5:]), None)
                if due is not None:
                    self._victims.ledger.succeeded(due)
            elif reply.type == "error" and isinstance(reply.id, int):
                due = self.pending.pop(reply.id, None)
                if due is not None:
                    self._victims.ledger.failed(due, f"error {reply.code}")


_UNANSWERED: Final = "no answer in time"

_FAILURES: Final = (
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    msgspec.MsgspecError,
    BeatFailedError,
)


def _encode(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is no group itself."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _describe(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return _UNANSWERED
    if isinstance(error, trio_websocket.ConnectionRejected):
        return f"answered {error.status_code}"
    if isinstance(error, trio_websocket.ConnectionClosed):
        return f"closed: {error.reason}" if error.reason else "closed"
    return str(error) or type(error).__name__
