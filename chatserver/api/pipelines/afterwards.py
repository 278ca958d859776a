"""What is done once an answer is on its way: nobody waits for it, and nothing of it can spoil the answer.

Owns: where such steps run, how long, and where a fault in one ends. May not: know what they do.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import structlog
import trio

from chatserver.log.interface import LogError

#: Seconds that a step may take. What could not be stored by then is not.
AFTER_DEADLINE = 5.0

_log = structlog.get_logger("chatserver.api")

#: Starts a step with these arguments beside everything else.
Start: TypeAlias = Callable[..., None]


class Afterwards:
    """Runs steps in a nursery that outlives requests; `caught` is called in the except clause for what one raises."""

    def __init__(self, nursery: trio.Nursery, caught: Callable[[object], object]) -> None:
        self._nursery = nursery
        self._caught = caught

    def start(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Begin a step; it has AFTER_DEADLINE."""
        self._nursery.start_soon(self._run, step, *arguments)

    async def _run(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        with trio.move_on_after(AFTER_DEADLINE):
            try:
                await step(*arguments)
            except LogError as error:
                _log.warning("not_stored", reason=str(error))
            except Exception:  # noqa: BLE001  it is logged, and the other steps go on
                self._caught(self)
