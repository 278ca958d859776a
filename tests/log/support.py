"""Shared by the tests of the log: engines for the suites, an open log, short drafts."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Generic, NoReturn, TypeAlias, TypeVar

import trio

from chatserver.log.groups import GroupWriter
from chatserver.log.interface import Draft, Log, LogError, Record, Stored
from chatserver.log.memory import MemoryLog
from chatserver.log.neighbours import Neighbours
from chatserver.log.postgres import PostgresLog
from chatserver.log.program import Program
from chatserver.log.sqlite import SqliteLog
from tests.support.groups import together

L = TypeVar("L", bound=Log)
T = TypeVar("T")

START_MS = 1_795_000_000_000
#: A log in a database.
Disk: TypeAlias = SqliteLog | PostgresLog


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


class Unvisited(dict[str, T]):
    """A dict that may grow to 50,000 keys, and is only asked for some of them."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("each commit visits all of them")

    keys = items = values = __iter__


def neighbours_in(folder: Path, number: int = 0, count: int = 1) -> Neighbours:
    """The neighbours as seen by process `number` of those that share a file in this folder."""
    private = folder / "n"
    private.mkdir(mode=0o700, exist_ok=True)
    return Neighbours(private, number, count)


def shared_log(folder: Path, number: int = 0, count: int = 1, *, clock: Clock | None = None) -> SqliteLog:
    """The log of that process."""
    neighbours = neighbours_in(folder, number, count)
    return SqliteLog(str(folder / "chat.db"), neighbours=neighbours, wall_ms=clock or Clock())


ENGINES: dict[str, Callable[[Path, Clock], Log]] = {
    "memory": lambda folder, clock: MemoryLog(wall_ms=clock),
    "sqlite": lambda folder, clock: SqliteLog(str(folder / "chat.db"), wall_ms=clock),
    "shared": lambda folder, clock: shared_log(folder, clock=clock),
}


def ignore(records: Sequence[Record]) -> None:
    """Receive news and drop it."""


class Posted(list[Callable[[], object]]):
    """A `Post` that makes each call between passes of the loop, and keeps it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def __call__(self, call: Callable[[], object]) -> bool:
        self.append(call)
        self._token.run_sync_soon(call)
        return True


@asynccontextmanager
async def running(log: L, news: Callable[[Sequence[Record]], None] = ignore) -> AsyncIterator[L]:
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
    """Submit all at once, in as few groups as the log makes, and wait for all answers."""
    outcomes: dict[int, Stored | LogError] = {}
    finished = trio.Event()

    def done(index: int, outcome: Stored | LogError) -> None:
        assert index not in outcomes, "answered twice"
        outcomes[index] = outcome
        if len(outcomes) == len(drafts):
            finished.set()

    with together(groups_of(log)):
        for index, one in enumerate(drafts):
            log.submit(one, partial(done, index))
    if drafts:
        await finished.wait()
    return [outcomes[index] for index in range(len(drafts))]


class Node(Generic[L]):
    """One of several processes on a log, with the hints that it receives."""

    def __init__(self, log: L) -> None:
        self.log = log
        self.heard: dict[str, int] = {}
        self._changed = trio.Event()

    def hear(self, hints: Mapping[str, int]) -> None:
        self.heard.update(hints)
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not condition():
                await self._changed.wait()


@asynccontextmanager
async def nodes(logs: Iterable[L]) -> AsyncIterator[list[Node[L]]]:
    made = [Node(log) for log in logs]
    async with trio.open_nursery() as nursery:
        for node in made:
            await nursery.start(node.log.run, ignore, Program(on_hints=node.hear))
        yield made
        nursery.cancel_scope.cancel()


async def fill(log: Log, count: int, room: str = "lobby") -> None:
    await submit_all(log, [draft(str(number), room=room) for number in range(1, count + 1)])


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


def texts(records: Sequence[Record]) -> list[str]:
    return [record.text for record in records]


def steps_of(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    """The number of instructions that SQLite's virtual machine runs for this work."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 1)
    work()
    connection.set_progress_handler(None, 0)
    return steps


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())
