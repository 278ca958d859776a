"""Requests that query several systems at once and finish as one: each step is a plain async function, in one nursery.

Owns: the order of the steps, what is cancelled when one of them fails, and the steps that run once the answer is on its
way. May not: know a wire form or a socket.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from chatserver.exits import innermost
from chatserver.log.interface import LogError
from chatserver.protocol.errors import ProtocolError

#: The exceptions that a step may raise, to refuse the request or because it failed; any other is a fault of ours.
EXPECTED = (ProtocolError, LogError)


@asynccontextmanager
async def side_by_side() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises one plain error instead of a group: the first refusal, otherwise the first failure.

    The other steps are cancelled. A fault of ours, or a cancellation from outside, is raised as a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        expected = group.subgroup(EXPECTED)
        if expected is None or group.split((*EXPECTED, trio.Cancelled))[1] is not None:
            raise
        raise innermost(expected.subgroup(ProtocolError) or expected) from None


class BackgroundSteps:
    """Starts steps that no request waits for, in a nursery that outlives requests. No step takes longer than a call.

    `caught` is called in an except clause when a step raises.
    """

    def __init__(self, nursery: trio.Nursery, caught: Callable[[object], object]) -> None:
        self._nursery = nursery
        self._caught = caught

    def start(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self._nursery.start_soon(self._run, step, *arguments)

    async def _run(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        try:
            await step(*arguments)
        except Exception:  # noqa: BLE001  the fault boundary: the other steps continue
            self._caught(self)
