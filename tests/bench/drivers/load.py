"""A closed loop over one driver: so many requests wait at any time, each is timed, and CPU is counted for all.

Owns: what an operation is, the counts, the loop that is the same under trio and asyncio. May not: know a driver.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter, process_time
from typing import Generic, TypeAlias, TypeVar

import msgspec
import trio

#: What the tables hold: rooms, messages in each, messages in a page.
ROOMS, MESSAGES, PAGE = 50, 1_000, 50
#: Connections and threads of every driver that has a pool.
POOL = 8
TEXT = "the quick brown fox jumps over the lazy dog"
#: The part of a cell's time that comes first and does not count: statements are prepared, threads started.
WARM_UP = 0.25

T = TypeVar("T")
Ask: TypeAlias = Callable[[random.Random], Awaitable[None]]
Work: TypeAlias = Callable[[], Awaitable[None]]
#: Runs all of these side by side until the last has ended.
Together: TypeAlias = Callable[[Sequence[Work]], Awaitable[None]]


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
    async with trio.open_nursery() as nursery:
        for each in work:
            nursery.start_soon(each)


async def by_asyncio(work: Sequence[Work]) -> None:
    await asyncio.gather(*(each() for each in work))


class Driver(ABC):
    """One driver, connected. A wrong answer raises, since a driver that answers less would look fast."""

    def __init__(self, together: Together) -> None:
        self._together = together

    @property
    def operations(self) -> Mapping[str, Ask]:
        """What is measured, in the order of the table."""
        return {"read": self._read, "write": self._write, "pipeline": self._pipeline}

    @abstractmethod
    async def page(self, room: int, after: int) -> int:
        """The number of messages that came."""

    @abstractmethod
    async def last(self, room: int) -> int:
        """The offset of a room's last message."""

    @abstractmethod
    async def marker(self, room: int) -> int:
        """A user's read marker, which is 7."""

    @abstractmethod
    async def insert(self, room: int) -> None:
        """One message, as durable as the engine's defaults make it."""

    async def _read(self, chance: random.Random) -> None:
        check(await self.page(*some_page(chance)), PAGE)

    async def _write(self, chance: random.Random) -> None:
        await self.insert(some_page(chance)[0])

    async def _pipeline(self, chance: random.Random) -> None:
        """A room's last offset; then side by side its last page and a user's marker in it."""
        room, _ = some_page(chance)
        last = await self.last(room)

        async def page() -> None:
            check(await self.page(room, last - PAGE), PAGE)

        async def marker() -> None:
            check(await self.marker(room), 7)

        await self._together([page, marker])


async def measure(operations: Mapping[str, Ask], together: Together, plan: Plan) -> None:
    """All cells of one driver, each printed as a line of JSON as soon as it is measured."""
    for operation, ask in operations.items():
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


def some_page(chance: random.Random) -> tuple[int, int]:
    """A room, and an offset with a whole page after it."""
    return chance.randint(1, ROOMS), chance.randrange(MESSAGES - PAGE)


def check(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{found} instead of {expected}")


class Idle(Generic[T]):
    """A pool of connections under asyncio: those that are free, or the requests that wait for one, in their order.

    With `asyncio.Queue` a task that returns a connection and asks again gets it before the tasks that wait.
    """

    def __init__(self, connections: Iterable[T]) -> None:
        self._idle = deque(connections)
        self._waiting: deque[asyncio.Future[T]] = deque()

    async def take(self) -> T:
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def give(self, connection: T) -> None:
        """Return a connection; it goes to the request that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(connection)
        else:
            self._idle.append(connection)
