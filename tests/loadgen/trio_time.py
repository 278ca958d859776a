"""The engine on trio's clock: where that jumps, the server and those who attack it have the same time.

Owns: what stands for the clock and the timerfd of `loadgen.net.timers`. With those, seconds would pass for the server
for each tenth that a persona waits, and a limit of the server might be over before the attack has begun.

    async with trio_time(), playing(url, "slow-chunk") as play: ...
"""

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from unittest.mock import patch

import trio

from loadgen.net.timers import NEVER

#: Who asks for the time, of those that an engine with attackers needs.
_ASKING = ("loadgen.clients.engine", "loadgen.clients.client", "loadgen.personas.bursts")


class _WakeUp:
    """`timers.WakeUp`: a descriptor that is readable from a moment on."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._armed = NEVER
        self._due = NEVER  # until it is readable
        self._waiting = trio.CancelScope()

    def set(self, when: float) -> None:
        if when == self._armed:
            return
        with suppress(BlockingIOError):  # it was not readable
            os.eventfd_read(self.fd)
        self._armed = self._due = self._waiting.deadline = when

    async def run(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._due) as self._waiting:
                await trio.sleep_forever()
            if trio.current_time() >= self._due:  # it may have been put off meanwhile
                self._due = NEVER
                os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        self.set(NEVER)
        os.close(self.fd)


@asynccontextmanager
async def trio_time() -> AsyncIterator[None]:
    """Engines that are made in the block live by trio's clock. It has to be left after they are."""
    async with trio.open_nursery() as nursery:

        def wake_up() -> _WakeUp:
            made = _WakeUp()
            nursery.start_soon(made.run)
            return made

        with ExitStack() as stack:
            stack.enter_context(patch("loadgen.clients.engine.WakeUp", wake_up))
            for module in _ASKING:
                stack.enter_context(patch(f"{module}.now", trio.current_time))
            yield
            nursery.cancel_scope.cancel()
