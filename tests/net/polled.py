"""A running poller for tests: real epoll, real sockets, a handler that records.

async with polled() as it:
    connection, peer = it.connect()
    peer.send(b"x")
    await it.until(lambda: it.of("received"))
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from tests.support.parked import Parked
from tests.support.serving import eventually


class Polled(Parked):
    """Parked connections with a poller and a wheel that run."""

    def __init__(self, **options: Any) -> None:
        super().__init__(now=trio.current_time(), **options)
        self.ticks: list[float] = []
        self.on_tick: Callable[[float], None] = self.ticks.append

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        await eventually(lambda: bool(condition()))

    async def run(self) -> None:
        def tick(late: float) -> None:
            self.on_tick(late)  # a test may set another meanwhile

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.poller.run)
            nursery.start_soon(lambda: self.poller.run_wheel(on_tick=tick))


@asynccontextmanager
async def polled(**options: Any) -> AsyncIterator[Polled]:
    """Connections with a poller that runs during the block; without a cap per network by default."""
    it = Polled(**options)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.run)
            await trio.testing.wait_all_tasks_blocked()
            yield it
            nursery.cancel_scope.cancel()
        assert (it.inside(), it.poller._listeners) == ([], {}), "the poller ends what it serves"
        assert not it.connections.scheduler.asleep, "a later submit would wake it"
    finally:
        it.close()
