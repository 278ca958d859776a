"""The victims: healthy members beside a crowd, and what they felt.

Owns: the beats. Each victim publishes every 100 ms in a room of its own and times its message's return, from the
moment it was *due*: a beat that had to queue behind a slow one has waited, and that wait is the target's. Victims are
ordinary trio tasks on trio-websocket (about 25 KB each): an independent peer, so that a mistake in our own reading of
the protocol cannot hide one in the target's.
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

    def __init__(self, *, target: Target, engine: Engine, ledger: Ledger, number: int, random: Random) -> None:
        self.target = target
        self.engine = engine
        self.ledger = ledger
        self.number = number
        self.connected = 0
        self.last_failure = ""
        self.tag = f"v{random.getrandbits(32):08x}"  # a room for each: fan-out is not what is measured here

    async def run(self) -> None:
        """Play all victims until cancelled."""
        begun = now()
        async with trio.open_nursery() as nursery:
            for index in range(self.number):
                victim = _Victim(self, index, begun + BEAT_SECONDS * index / self.number)
                nursery.start_soon(victim.run)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a victim as connected meanwhile."""
        self.connected += 1
        try:
            yield
        finally:
            self.connected -= 1

    async def dial(self, index: int) -> trio.SocketStream:
        """Connect from a source address of the victims' own."""
        source = self.target.source(_FIRST_SOURCE_INDEX + index)
        return await trio.open_tcp_stream(self.target.address, self.target.port, local_address=source)


class _Victim:
    def __init__(self, victims: Victims, index: int, first_due: float) -> None:
        self._victims = victims
        self._room = f"{victims.tag}-{index}"
        self._index = index
        self._first_due = first_due
        self._due = first_due
        self._beat = 0

    def _next_beat(self) -> None:
        self._beat += 1
        self._due = self._first_due + self._beat * BEAT_SECONDS

    def _give_up_overdue(self) -> None:
        """Book as failed the beats that were due so long ago that no answer could be in time."""
        while self._due + BEAT_TIMEOUT_SECONDS < now():
            self._victims.ledger.failed(self._due, "not connected")
            self._next_beat()

    async def run(self) -> None:
        while True:
            reason = await self._live()
            self._victims.last_failure = reason
            self._give_up_overdue()
            await trio.sleep(RECONNECT_SECONDS)

    async def _live(self) -> str:
        """One connection, from dialling to its end; why it ended."""
        try:
            with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                stream = await self._victims.dial(self._index)
        except (OSError, trio.TooSlowError) as error:
            return _describe(error)
        async with stream, trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                    peer = await trio_websocket.wrap_client_stream(
                        nursery, stream, self._victims.target.authority, "/ws"
                    )
                    await self._join(peer)
                with self._victims.counted():
                    await self._beat_on(peer)
            except _FAILURES as error:
                reason = _describe(error)
            nursery.cancel_scope.cancel()
        return reason

    async def _join(self, peer: trio_websocket.WebSocketConnection) -> None:
        await peer.send_message(_encode({"type": "join", "id": 0, "room": self._room}))
        while (reply := _decoder.decode(await peer.get_message())).type != "joined":
            if reply.type == "error":
                raise BeatFailedError(f"error {reply.code}")

    async def _beat_on(self, peer: trio_websocket.WebSocketConnection) -> None:
        """Beat until the connection fails; the beat that saw it fail is lost with it."""
        while True:
            self._give_up_overdue()
            if self._due > now():
                await self._victims.engine.sleep_until(self._due)
            try:
                with trio.fail_after(max(self._due + BEAT_TIMEOUT_SECONDS - now(), 0.01)):
                    await self._round_trip(peer)
                self._victims.ledger.succeeded(self._due)
            except (trio.TooSlowError, BeatFailedError) as error:
                self._victims.ledger.failed(self._due, _describe(error))
            except _FAILURES as error:
                self._victims.ledger.failed(self._due, _describe(error))
                self._next_beat()
                raise
            self._next_beat()

    async def _round_trip(self, peer: trio_websocket.WebSocketConnection) -> None:
        number = self._beat
        text = f"beat {number}"
        await peer.send_message(_encode({"type": "publish", "id": number, "room": self._room, "text": text}))
        while True:
            reply = _decoder.decode(await peer.get_message())
            if reply.type == "message" and reply.text == text:
                return
            if reply.type == "error" and reply.id == number:
                raise BeatFailedError(f"error {reply.code}")


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


def _describe(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no answer in {BEAT_TIMEOUT_SECONDS:g} s"
    if isinstance(error, trio_websocket.ConnectionRejected):
        return f"answered {error.status_code}"
    if isinstance(error, trio_websocket.ConnectionClosed):
        return f"closed: {error.reason}" if error.reason else "closed"
    return str(error) or type(error).__name__
