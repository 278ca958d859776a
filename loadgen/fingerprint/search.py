"""Finding a size limit: doubling until it is refused, then halving the gap.

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

Try = Callable[[int], Awaitable[str | None]]


class UnclearError(Exception):
    """A step that says nothing about the size."""


async def search(attempt: Try, *, first: int, most: int, until: float) -> Finding:
    """Find the largest size from `first` to `most` that is let through."""
    known = _Gap()
    unclear = ""
    with trio.move_on_at(until):
        try:
            await _narrow(attempt, known, first, most)
        except UnclearError as error:
            unclear = str(error)
    if known.refused is not None:
        how = known.how if not unclear else f"{known.how}; then {unclear}"
        return Found(value=known.passed, uncertainty=known.refused - known.passed, how=how)
    if not known.passed:
        return Failed(why=unclear or "no step of the search was answered in time")
    return NoneSeen(looked=known.passed, how="" if known.passed >= most else unclear or "time was over")


class _Gap:
    """What is known so far: the limit lies from `passed` to below `refused`."""

    def __init__(self) -> None:
        self.passed = 0
        self.refused: int | None = None
        self.how = ""

    def note(self, size: int, refusal: str | None) -> None:
        if refusal is None:
            self.passed = size
        else:
            self.refused, self.how = size, refusal


async def _narrow(attempt: Try, known: _Gap, first: int, most: int) -> None:
    size = first
    while known.refused is None and known.passed < most:
        known.note(size, await _twice(attempt, size))
        size = min(size * 2, most)
    while known.passed and known.refused is not None and known.refused - known.passed > _near_enough(known.passed):
        middle = (known.passed + known.refused) // 2
        known.note(middle, await _twice(attempt, middle))


async def _twice(attempt: Try, size: int) -> str | None:
    try:
        return await attempt(size)
    except UnclearError:
        await trio.sleep(RETRY_SECONDS)
        return await attempt(size)


def _near_enough(size: int) -> int:
    return 1 if size < _EXACT_BELOW else size // _PART
