"""Steps that run once an answer is on its way: no request waits for them, and their failure cannot affect it.

Owns: where such steps run, how long, and where a fault in one is caught. May not: know what they do.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import structlog
import trio

from chatserver.log.interface import LogError

#: Seconds that a step may take; then it is cancelled.
BACKGROUND_DEADLINE = 5.0
#: Steps that may run at a time, 2 MB; further ones are dropped. The limit on searches does not bound them, since a
#: search ends before its steps do.
MAX_RUNNING = 1_000

_log = structlog.get_logger("chatserver.api")

#: Starts a step in the background, with these arguments.
StartStep: TypeAlias = Callable[..., None]


class BackgroundSteps:
    """Runs steps in a nursery that outlives requests; `caught` is called in an except clause when a step raises."""

    def __init__(self, nursery: trio.Nursery, caught: Callable[[object], object]) -> None:
        self._nursery = nursery
        self._caught = caught
        self.running = 0
        self._is_full = False  # set once this has been logged

    def start(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Start a step, with BACKGROUND_DEADLINE, unless too many are running."""
        if self.running >= MAX_RUNNING:
            if not self._is_full:
                _log.warning("not_stored", reason=f"{MAX_RUNNING} steps wait behind answers; more are left out")
            self._is_full = True
            return
        self.running += 1
        self._nursery.start_soon(self._run, step, *arguments)

    async def _run(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        try:
            with trio.move_on_after(BACKGROUND_DEADLINE):
                await step(*arguments)
        except LogError as error:
            _log.warning("not_stored", reason=str(error))
        except Exception:  # noqa: BLE001  it is logged, and the other steps continue
            self._caught(self)
        finally:
            self.running -= 1
            self._is_full = self._is_full and self.running > 0
