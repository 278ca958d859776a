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
#: Steps under way at a time, 2 MB. A search is known to be over before its steps are, so no limit of searches bounds
#: them; beyond these, steps are left out.
MAX_RUNNING = 1_000

_log = structlog.get_logger("chatserver.api")

#: Starts a step with these arguments beside everything else.
Start: TypeAlias = Callable[..., None]


class Afterwards:
    """Runs steps in a nursery that outlives requests; `caught` is called in the except clause for what one raises."""

    def __init__(self, nursery: trio.Nursery, caught: Callable[[object], object]) -> None:
        self._nursery = nursery
        self._caught = caught
        self.running = 0
        self._is_full = False  # and that has been said

    def start(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Begin a step, if there are not too many; it has AFTER_DEADLINE."""
        if self.running >= MAX_RUNNING:
            if not self._is_full:
                _log.warning("not_stored", reason=f"{MAX_RUNNING} steps wait behind answers; more are left out")
            self._is_full = True
            return
        self.running += 1
        self._nursery.start_soon(self._run, step, *arguments)

    async def _run(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        try:
            with trio.move_on_after(AFTER_DEADLINE):
                await step(*arguments)
        except LogError as error:
            _log.warning("not_stored", reason=str(error))
        except Exception:  # noqa: BLE001  it is logged, and the other steps go on
            self._caught(self)
        finally:
            self.running -= 1
            self._is_full = self._is_full and self.running > 0
