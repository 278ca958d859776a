"""A group writer with an engine that the test controls, and the records of its receivers."""

import sys
from collections.abc import Sequence

import msgspec
import trio

from chatserver.log.groups import Begin, GroupWriter, Outcomes
from chatserver.log.interface import Draft, LogError, Record, Stored
from chatserver.log.program import Program, RunSteps, at_once
from tests.log.support import draft
from tests.support.groups import append, beside, together


class Engine:
    """Stores nothing, records its groups, and waits before each group while `gate` is closed."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.seconds = 0.0  # duration of a commit
        self.most_capitals = 1_000  # a group has no place for more drafts of capital letters

    async def commit(self, drafts: Sequence[Draft]) -> Outcomes:
        await self.gate.wait()
        await trio.sleep(self.seconds)
        start = sum(map(len, self.groups))
        self.groups.append([one.text for one in drafts])
        capitals = [one for one in drafts if one.text.isupper()]
        return [
            None
            if one in capitals[self.most_capitals :]
            else Stored(Record(one.room, start + number, 0, one.user_id, one.user_name, one.text), fresh=True)
            for number, one in enumerate(drafts, 1)
        ]


class Written:
    """The writer under test: `it.submit("a", "b")`, then `it.seen` and `it.told`."""

    def __init__(self, begin: Begin | None = None, *, interval: float = 0.0, schedule: RunSteps = at_once) -> None:
        self.engine = Engine()
        self.writer = GroupWriter(begin or beside(self.engine.commit), interval=interval)
        self.schedule = schedule
        self.heard: list[object] = []  # news as lists; answers as stored texts or types of errors
        self.faults: list[type[BaseException]] = []

    def close_gate(self) -> trio.Event:
        """Commits hang until the returned event is set."""
        self.engine.gate = trio.Event()
        return self.engine.gate

    @property
    def told(self) -> list[object]:
        """The news."""
        return [one for one in self.heard if isinstance(one, list)]

    @property
    def seen(self) -> list[object]:
        """The answers."""
        return [one for one in self.heard if not isinstance(one, list)]

    def news(self, records: Sequence[Record]) -> None:
        self.heard.append([record.text for record in records])

    def answer(self, outcome: Stored | LogError) -> None:
        self.heard.append(outcome.record.text if isinstance(outcome, Stored) else type(outcome))

    def faulted(self, item: object) -> None:
        error = sys.exception()
        assert error is not None
        self.faults.append(type(error))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        program = Program(schedule=self.schedule, faulted=self.faulted)
        await self.writer.run(self.news, program, task_status=task_status)

    def submit(self, *texts: str) -> None:
        for text in texts:
            self.writer.submit(draft(text), self.answer)

    def submit_from(self, network: str, text: str) -> None:
        self.writer.submit(msgspec.structs.replace(draft(text), network=network), self.answer)

    def submit_together(self, texts: Sequence[str]) -> None:
        """Submit in as few groups as possible."""
        with together(self.writer):
            self.submit(*texts)

    async def append(self, text: str) -> Record:
        return (await append(self.writer, draft(text))).record
