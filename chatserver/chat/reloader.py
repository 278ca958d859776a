"""Reloads the tables of the log: sanctions and sign-outs.

Owns: when they are read. May not: enforce anything; `Moderation` and `SignedOut` do.

They are read after a hint that they have changed: another process has done so, or a change was stored after its request
was answered. Tables of a shared log are also read from time to time, since a hint may be lost. A read that fails is
repeated: it may have been for the only hint.
"""

import math
from collections.abc import Collection, Iterable

import structlog
import trio

from chatserver.chat.catch_up import READ_RETRY
from chatserver.chat.moderation import Moderation
from chatserver.chat.signed_out import SignedOut
from chatserver.fair import in_steps
from chatserver.log.interface import SANCTIONS_CHANGED, SIGNOUTS_CHANGED, Log, LogError

#: Seconds between two reads of both tables of a shared log, whatever hints come: the delay of a change whose hint was
#: lost.
RELOAD_EVERY = 30.0
#: Least seconds between two reads: a client may sign out in a loop.
RELOAD_PAUSE = 0.2

#: The tables, by the hints of them. Only what has changed is read, and of sign-outs only the new ones: 50,000 sanctions
#: take 0.3 s, there may be a million sign-outs, and any guest who signs out causes a hint.
_TABLES = frozenset((SANCTIONS_CHANGED, SIGNOUTS_CHANGED))

_log = structlog.get_logger("chatserver.chat")


class Reloader:
    """See the module. `run` is a task."""

    def __init__(self, log: Log, moderation: Moderation, signed_out: SignedOut) -> None:
        self._log = log
        self._moderation = moderation
        self._signed_out = signed_out
        self._asked = trio.Event()
        self._changed: frozenset[str] = frozenset()  # tables to read
        self._last_sign_out = 0  # the id of the last one that was read

    async def restore(self) -> None:
        """Read the tables when the server starts. Raises LogError."""
        moderation, signed_out = self._moderation, self._signed_out
        moderation.restore(await self._log.sanctions.load(moderation.wall_ms()))
        found, self._last_sign_out = await self._log.signouts.load(signed_out.wall_ms())
        signed_out.restore(found)

    def on_hints(self, hints: Iterable[str]) -> None:
        """Handle hints: these may say that a table has changed."""
        if changed := _TABLES.intersection(hints):
            self._changed |= changed
            self._asked.set()

    async def run(self) -> None:
        """Read the tables again and again until cancelled."""
        last = trio.current_time()  # at which both were read
        is_failing = False  # and the log says so already
        while True:
            due = last + (RELOAD_EVERY if self._log.shared else math.inf)
            with trio.move_on_at(due):
                await self._asked.wait()
            if trio.current_time() >= due:
                self._changed, last = _TABLES, trio.current_time()
            self._asked = trio.Event()
            changed, self._changed = self._changed, frozenset()
            try:
                await self._reload(changed)
            except Exception as error:
                self.on_hints(changed)
                if not isinstance(error, LogError):
                    raise
                if not is_failing:  # a database may be away for a day
                    _log.warning("sanctions_not_reloaded", reason=str(error))
                is_failing = True
                await trio.sleep(READ_RETRY)
            else:
                is_failing = False
            await trio.sleep(RELOAD_PAUSE)

    async def _reload(self, tables: Collection[str]) -> None:
        moderation, signed_out = self._moderation, self._signed_out
        if SANCTIONS_CHANGED in tables:
            moderation.before_read()
            await in_steps(moderation.renew(await self._log.sanctions.load(moderation.wall_ms())))
        if SIGNOUTS_CHANGED in tables:
            found, last = await self._log.signouts.load(signed_out.wall_ms(), self._last_sign_out)
            await in_steps(map(signed_out.renew, found))
            self._last_sign_out = last
