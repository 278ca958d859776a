"""Fake steps of the pipelines: each can take time and fail, and is recorded.

Owns: fakes of the systems that a pipeline uses. May not: use a log or a socket.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from chatserver.api.pipelines.limiters import Limit, SearchLimits
from chatserver.api.pipelines.results import Lookup, ResultCache
from chatserver.api.pipelines.search import Asked, Searched, SearchPipeline
from chatserver.chat.log_reader import LogReader
from chatserver.chat.principal import Principal
from chatserver.log.index import Found, Hit, Question
from chatserver.log.interface import Record
from chatserver.log.memory import MemoryLog

ANN = Principal(7, "192.0.2.7")


class Systems:
    """The systems of a search. For the name of each step a test sets its duration and its exception."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.errors: dict[str, Exception] = {}
        self.waits: dict[str, float] = {}  # of limits that refuse
        self.log: list[str] = []  # names of begun steps; with a leading dot, of successful ones
        self.running = 0
        self.readable = "abc"
        self.go_on: int | None = None  # where the search of everywhere goes on
        self.rest = ""  # of each message, behind its first words
        self.far: dict[Question, Found] = {}  # results shared between processes

    async def step(self, name: str) -> None:
        """Take the time of the step, and fail if a test says so."""
        self.log.append(name)
        self.running += 1
        try:
            await trio.sleep(self.seconds.get(name, 0.0))
            if name in self.errors:
                raise self.errors[name]
        finally:
            self.running -= 1
        self.log.append(f".{name}")

    async def take(self, limit: Limit, key: Hashable) -> float:
        await self.step(limit.name)
        return self.waits.get(limit.name, 0.0)

    async def open(self, visitor: Principal) -> None:
        await self.step("session")

    async def touch(self, visitor: Principal) -> None:
        await self.step("touch")

    async def rooms(self, limit: int) -> Sequence[str]:
        await self.step("rooms")
        return ["a", "b"]

    async def get(self, question: Question) -> Lookup | None:
        await self.step("get")
        return Lookup(self.far.get(question), b"1")

    async def put(self, question: Question, found: Found, generation: bytes) -> None:
        await self.step("put")
        assert generation == b"1"
        self.far[question] = found

    async def audit(self, asked: Asked) -> None:
        await self.step("audit")

    async def marker(self, asked: Asked) -> None:
        await self.step("marker")


class Finding:
    """An index."""

    lag = 0.0

    def __init__(self, systems: Systems) -> None:
        self._systems = systems

    async def find(self, question: Question) -> Found:
        await self._systems.step(question.room or "everywhere")
        room = question.room or "c"
        record = Record(room, 1, 0, "u_ann", "Ann", f"hi from {room}{self._systems.rest}")
        more = self._systems.go_on if question.go_on is None else question.go_on - 1
        return Found([Hit(record, ord(room), [])], more)


class Stage:
    """A pipeline over these systems. Its background steps run in a nursery of the test."""

    def __init__(self, systems: Systems, nursery: trio.Nursery, start: Callable[..., None] | None = None) -> None:
        self.systems = systems
        self.results = ResultCache()
        self.reader = LogReader(MemoryLog())
        self.limits = SearchLimits(1e3, systems.take)
        shared: Any = SimpleNamespace(sessions=systems, results=systems)
        self.pipeline = SearchPipeline(
            index=Finding(systems), shared=shared, limits=self.limits, results=self.results,
            recent_rooms=systems.rooms, may_read=lambda principal, room: room in systems.readable,
            start_in_background=start or nursery.start_soon,
            altered_meanwhile=self.reader.altered_meanwhile, after_steps=[systems.audit, systems.marker],
        )  # fmt: skip

    async def search(self, word: str = "hi", *, room: str | None = None, limit: int = 20) -> Searched:
        return await self.pipeline.search(Asked(Question((word,), room), limit, ANN))


def found(searched: Searched) -> list[str]:
    return [hit.record.room for hit in searched.hits]


class CancelAfter(trio.abc.Instrument):
    """A scope that is cancelled after a number of task steps."""

    def __init__(self, steps: int) -> None:
        self.scope = trio.CancelScope()
        self._left = steps

    def __enter__(self) -> None:
        self.scope.__enter__()
        trio.lowlevel.add_instrument(self)

    def __exit__(self, *error: Any) -> bool:
        trio.lowlevel.remove_instrument(self)
        return self.scope.__exit__(*error)

    def after_task_step(self, task: Any) -> None:
        self._left -= 1
        if self._left == 0:
            self.scope.cancel()


def cancelled_at_every_await(attempt: Callable[[CancelAfter], Awaitable[None]]) -> int:
    """Run the attempt with a scope that is cancelled ever later, until it is not. Returns how often it was."""
    for steps in range(1, 500):
        cancel = CancelAfter(steps)
        trio.run(attempt, cancel, clock=trio.testing.MockClock(autojump_threshold=0))
        if not cancel.scope.cancelled_caught:
            return steps - 1
    raise AssertionError("the attempt has no end")
