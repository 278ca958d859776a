"""What other processes have changed beside the messages of a shared log: sanctions and sign-outs, read again.

Owns: when they are read again. May not: enforce anything; `Moderation` and `SignedOut` do.

A hint that something has changed may be lost, so they are read now and then in any case.
"""

from collections.abc import Callable, Iterable

import structlog
import trio

from chatserver.chat.moderation import Moderation
from chatserver.chat.signed_out import SignedOut
from chatserver.log.interface import SANCTIONS_CHANGED, SIGNOUTS_CHANGED, Log, LogError

#: Seconds between two reads when no hint comes: so late is a lost hint made up for.
RELOAD_EVERY = 30.0
#: Seconds from one read to the next in any case: somebody may sign out in a loop, and each read is of all of them.
RELOAD_PAUSE = 0.2

_log = structlog.get_logger("chatserver.chat")


class Reloader:
    """See the module. `run` is a task, for a shared log; `faulted` is told of a fault of ours."""

    def __init__(
        self, log: Log, moderation: Moderation, signed_out: SignedOut, *, faulted: Callable[[object], None]
    ) -> None:
        self._log = log
        self._moderation = moderation
        self._signed_out = signed_out
        self._faulted = faulted
        self._asked = trio.Event()

    async def restore(self) -> None:
        """Those of before a restart. Raises LogError."""
        moderation, signed_out = self._moderation, self._signed_out
        moderation.restore(await self._log.sanctions.load(moderation.wall_ms()))
        signed_out.restore(await self._log.signouts.load(signed_out.wall_ms()))

    def heard(self, hints: Iterable[str]) -> None:
        """Something may have changed."""
        if SANCTIONS_CHANGED in hints or SIGNOUTS_CHANGED in hints:
            self._asked.set()

    async def run(self) -> None:
        """Read them again until cancelled."""
        while True:
            with trio.move_on_after(RELOAD_EVERY):
                await self._asked.wait()
            self._asked = trio.Event()
            try:
                await self._reload()
            except LogError as error:
                _log.warning("sanctions_not_reloaded", reason=str(error))
            except Exception:  # noqa: BLE001
                self._faulted(self)
            await trio.sleep(RELOAD_PAUSE)

    async def _reload(self) -> None:
        moderation, signed_out = self._moderation, self._signed_out
        before = set(moderation.in_force)
        moderation.renew(await self._log.sanctions.load(moderation.wall_ms()), before)
        signed_out.renew(await self._log.signouts.load(signed_out.wall_ms()))
