"""A closed loop over one driver: so many requests wait at any time, each is timed, and CPU is counted for all.

Owns: what an operation is, the counts, the loop that is the same under trio and asyncio. May not: know a driver.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from time import perf_counter, process_time
from typing import Protocol, TypeAlias

import msgspec
import trio

#: What the tables hold: rooms, messages in each, messages in a page.
ROOMS, MESSAGES, PAGE = 50, 1_000, 50
#: Connections and threads of every driver that has a pool. SQLite's are said in its module.
POOL = 8
TEXT = "the quick brown fox jumps over the lazy dog"
#: The part of a cell's time that passes first and does not count: statements are prepared, threads started.
WARM_UP = 0.25

Ask: TypeAlias = Callable[[random.Random], Awaitable[None]]
Work: TypeAlias = Callable[[], Awaitable[None]]
#: Runs all of these side by side until the last has ended.
Together: TypeAlias = Callable[[Sequence[Work]], Awaitable[None]]


class Driver(Protocol):
    """One driver, connected. Each method raises if the answer is not what was asked for."""

    async def read(self, chance: random.Random) -> None:
        """A page of messages of a room."""

    async def write(self, chance: random.Random) -> None:
        """One message, durable as far as the engine's defaults go."""

    async def pipeline(self, chance: random.Random) -> None:
        """A room's last offset; then side by side its last page and a user's marker in it."""


class Plan(msgspec.Struct, frozen=True):
    """How long each cell is measured, and with how many waiting requests."""

    seconds: float
    waiting: tuple[int, ...]


class Cell(msgspec.Struct, frozen=True):
    """One driver, one operation, so many waiting."""

    operation: str
    waiting: int
    rate: float  # operations a second
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the driver's process, for each operation


async def by_trio(work: Sequence[Work]) -> None:
    """`Together` under trio."""
    async with trio.open_nursery() as nursery:
        for each in work:
            nursery.start_soon(each)


async def by_asyncio(work: Sequence[Work]) -> None:
    """`Together` under asyncio."""
    await asyncio.gather(*(each() for each in work))


def operations(driver: Driver) -> Iterator[tuple[str, Ask]]:
    """What is measured, in the order of the table."""
    yield "read", driver.read
    yield "write", driver.write
    yield "pipeline", driver.pipeline


async def measure(driver: Driver, together: Together, plan: Plan) -> None:
    """All cells of one driver, each printed as a line of JSON as soon as it is there."""
    for operation, ask in operations(driver):
        for waiting in plan.waiting:
            await _loop(ask, together, waiting, plan.seconds * WARM_UP)
            cpu, began = process_time(), perf_counter()
            latencies = sorted(await _loop(ask, together, waiting, plan.seconds))
            elapsed, cpu = perf_counter() - began, process_time() - cpu
            count = len(latencies)
            cell = Cell(
                operation, waiting, count / elapsed, latencies[count // 2] * 1e3, latencies[count * 99 // 100] * 1e3,
                cpu / count * 1e6,
            )  # fmt: skip
            print(msgspec.json.encode(cell).decode(), flush=True)


async def _loop(ask: Ask, together: Together, waiting: int, seconds: float) -> list[float]:
    """The latency of each operation, in seconds."""
    latencies: list[float] = []
    ends = perf_counter() + seconds

    async def client(number: int) -> None:
        chance = random.Random(number)
        began = perf_counter()
        while True:  # at least once
            await ask(chance)
            now = perf_counter()
            latencies.append(now - began)
            began = now
            if now >= ends:
                return

    await together([partial(client, number) for number in range(waiting)])
    return latencies


def some_room(chance: random.Random) -> int:
    """Any room."""
    return chance.randint(1, ROOMS)


def some_place(chance: random.Random) -> int:
    """An offset behind which there is a whole page."""
    return chance.randrange(MESSAGES - PAGE)


def check(rows: int, expected: int = PAGE) -> None:
    """A driver that answers less would look fast."""
    if rows != expected:
        raise RuntimeError(f"{rows} rows instead of {expected}")
