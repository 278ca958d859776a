"""What the log's tests share: engines to run a suite against, an open log, short drafts."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from chatserver.log.groups import GroupWriter
from chatserver.log.interface import Draft, Log, LogError, Record, Stored
from chatserver.log.memory import MemoryLog
from chatserver.log.sqlite import SqliteLog
from tests.support.groups import together

START_MS = 1_795_000_000_000


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


class MakeLog(Protocol):
    def __call__(self, folder: Path, wall_ms: Callable[[], int]) -> Log: ...


def make_memory(folder: Path, wall_ms: Callable[[], int]) -> Log:
    return MemoryLog(wall_ms=wall_ms)


def make_sqlite(folder: Path, wall_ms: Callable[[], int]) -> Log:
    return SqliteLog(str(folder / "chat.db"), wall_ms=wall_ms)


ENGINES: dict[str, MakeLog] = {"memory": make_memory, "sqlite": make_sqlite}


def ignore(records: Sequence[Record]) -> None:
    """News for nobody."""


@asynccontextmanager
async def running(log: Log, news: Callable[[Sequence[Record]], None] = ignore) -> AsyncIterator[Log]:
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, news)
        yield log
        nursery.cancel_scope.cancel()


def draft(text: str = "hi", *, room: str = "lobby", user: str = "u_ann", key: str | None = None) -> Draft:
    return Draft(room=room, user_id=user, user_name=user.title(), text=text, key=key)


def groups_of(log: Log) -> GroupWriter:
    groups: GroupWriter = log._groups  # type: ignore[attr-defined]
    return groups


async def submit_all(log: Log, drafts: Sequence[Draft]) -> list[Stored | LogError]:
    """Submit in one go, so that they come in as few groups as the log makes of them; wait for all answers."""
    outcomes: dict[int, Stored | LogError] = {}
    finished = trio.Event()

    def submit(index: int) -> None:
        def done(outcome: Stored | LogError) -> None:
            assert index not in outcomes, "answered twice"
            outcomes[index] = outcome
            if len(outcomes) == len(drafts):
                finished.set()

        log.submit(drafts[index], done)

    with together(groups_of(log)):
        for index in range(len(drafts)):
            submit(index)
    if drafts:
        await finished.wait()
    return [outcomes[index] for index in range(len(drafts))]


async def fill(log: Log, count: int, room: str = "lobby") -> None:
    await submit_all(log, [draft(str(number), room=room) for number in range(1, count + 1)])


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


def texts(records: Sequence[Record]) -> list[str]:
    return [record.text for record in records]


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())
