"""Finding a size limit: doubling until it is refused, then halving the gap, then asking at both edges again.

Owns: the order of the steps and when it is near enough. May not: know what is sized; a step is a function that tries
one size on a new connection and says how it was refused.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen

#: Below this, limits are found to the last byte; above, to one part in 256: each step there costs megabytes.
_EXACT_BELOW: Final = 1 << 17
_PART: Final = 256

#: An unclear step (no answer in time, 503) is tried once more after this long.
RETRY_SECONDS: Final = 1.0

#: Edges that answer otherwise when asked again so often are no edges: one connection in a few dozen may meet an
#: accident, and a search has some twenty.
_SURPRISES: Final = 3

Try = Callable[[int], Awaitable[str | None]]


class UnclearError(Exception):
    """A step that says nothing about the size."""


async def search(attempt: Try, *, first: int, most: int, until: float) -> Finding:
    """Find the largest size from `first` to `most` that is let through."""
    gap = _Search(attempt, first, most)
    unclear = ""
    with trio.move_on_at(until):
        try:
            await gap.narrow()
        except UnclearError as error:
            unclear = str(error)
    if gap.surprises > _SURPRISES:
        return Failed(why=f"the same size is let through and refused: {gap.passed:,}")
    if gap.refused is not None:
        how = gap.how if not unclear else f"{gap.how}; then {unclear}"
        return Found(value=gap.passed, uncertainty=gap.refused - gap.passed, how=how)
    if not gap.passed:
        return Failed(why=unclear or "no step of the search was answered in time")
    return NoneSeen(looked=gap.passed, how="" if gap.passed >= most else unclear or "time was over")


class _Search:
    """What is known so far: the limit lies from `passed` to below `refused`."""

    def __init__(self, attempt: Try, first: int, most: int) -> None:
        self.passed = 0
        self.refused: int | None = None
        self.how = ""
        self.surprises = 0
        self._attempt = attempt
        self._first = first
        self._most = most

    async def narrow(self) -> None:
        """Close the gap until both its edges answer the same again."""
        while self.surprises <= _SURPRISES:
            while (size := self._next()) is not None:
                await self._try(size)
            refused, passed = self.refused, self.passed
            if refused is not None:
                await self._try(refused)
            if self.refused == refused and passed:
                await self._try(passed)
            if (self.refused, self.passed) == (refused, passed):
                return
            self.surprises += 1

    def _next(self) -> int | None:
        if not self.passed:
            return self._first if self.refused is None or self.refused > self._first else None
        if self.refused is None:
            return min(self.passed * 2, self._most) if self.passed < self._most else None
        near = 1 if self.passed < _EXACT_BELOW else self.passed // _PART
        return (self.passed + self.refused) // 2 if self.refused - self.passed > near else None

    async def _try(self, size: int) -> None:
        try:
            refusal = await self._attempt(size)
        except UnclearError:
            await trio.sleep(RETRY_SECONDS)
            refusal = await self._attempt(size)
        if refusal is None:
            self.passed = size
            if self.refused == size:
                self.refused = None
        else:
            self.refused, self.how = size, refusal
            if self.passed == size:
                self.passed = 0
