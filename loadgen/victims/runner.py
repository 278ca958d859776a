"""A runner of victims: the part of the worker that healthy clients live in.

Owns: the victims of this process, their recorder and their clock. In a process of its own, so that neither the crowd
nor the live view is in their latencies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, assert_never

import trio

from loadgen.messages import (
    AnyOrder,
    BeginPhase,
    Close,
    FailPending,
    MakeClients,
    MakeVictims,
    Open,
    Result,
    Role,
    SendResult,
    StartTraffic,
    Status,
    StopTraffic,
)
from loadgen.target import PER_SOURCE
from loadgen.timers import now
from loadgen.victims.chat import EchoVictim, WebSocketVictim
from loadgen.victims.clock import Clock
from loadgen.victims.recorder import Recorder
from loadgen.victims.victim import OPERATION_SECONDS, UNANSWERED, Victim
from loadgen.victims.web import GetVictim, PollVictim, StreamVictim

#: Every kind of victim, by the name that reports use.
KINDS: Final[dict[str, type[Victim]]] = {
    victim.kind: victim for victim in (WebSocketVictim, PollVictim, StreamVictim, GetVictim, EchoVictim)
}

#: Victims take source addresses behind all that a crowd of 100,000 could use.
_FIRST_SOURCE_INDEX: Final = 100_000


class ProbeRunner:
    """See the module."""

    def __init__(self, role: Role) -> None:
        self.target = role.target
        self.clock = Clock()
        self.recorder = Recorder()
        self.stopped = False
        self.tag = f"v{Random(role.seed).getrandbits(32):08x}"  # noqa: S311  tells this run's rooms from another's
        self.path = ""
        self.websocket_path = ""
        self.timeout_seconds = 0.0
        self._victims: list[Victim] = []
        self._connected = 0
        self._failures = 0
        self._last_failure = ""
        self._make = trio.Event()

    # What a worker does

    async def run(self) -> None:
        """Play all victims until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.clock.run)
            await self._make.wait()
            for victim in self._victims:
                nursery.start_soon(victim.run)

    async def obey(self, order: AnyOrder) -> None:
        """Do what was ordered."""
        match order:
            case MakeVictims():
                self._make_victims(order)
            case BeginPhase():
                self.recorder.begin(order.phase)
            case StopTraffic():
                self.stopped = True
            case FailPending():
                for victim in self._victims:
                    victim.fail_pending(UNANSWERED)
            case MakeClients() | Open() | StartTraffic() | Close() | SendResult():
                raise ValueError(f"{type(order).__name__} is no order for victims")
            case _:
                assert_never(order)

    def _make_victims(self, order: MakeVictims) -> None:
        self.path = order.path
        self.websocket_path = order.websocket_path
        self.timeout_seconds = order.timeout_seconds
        kinds = [KINDS[kind] for kind, number in order.counts.items() for _ in range(number)]
        begun = now()
        for index, kind in enumerate(kinds):
            self._victims.append(kind(self, index, begun + OPERATION_SECONDS * index / len(kinds)))
        self._make.set()

    def status(self, heard: int) -> Status:
        """How the victims stand."""
        return Status(
            heard=heard,
            groups=[],
            settled=True,
            outstanding=sum(len(victim.pending) for victim in self._victims),
            connected=self._connected,
            failures=self._failures,
            last_failure=self._last_failure,
            last_held=0.0,
            recent=self.recorder.window.take(),
        )

    def result(self) -> Result:
        """Everything."""
        return Result(
            groups=[],
            lifetimes=[],
            traffic=None,
            phases=self.recorder.phases(),
            lag=self.clock.lag.recording(),
            oldest=None,
            own_faults={},
        )

    # What victims use

    def source(self, index: int) -> str | None:
        """An address for each victim alone."""
        return self.target.source(_FIRST_SOURCE_INDEX + index * PER_SOURCE)

    def ended(self, reason: str) -> None:
        """Note that a victim's connection could not be made, or ended."""
        self._failures += 1
        self._last_failure = reason

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a victim as connected meanwhile."""
        self._connected += 1
        try:
            yield
        finally:
            self._connected -= 1
