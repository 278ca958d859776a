"""Waiting for the first sign that a server has had enough.

Owns: the one way in which every deadline is measured. A line is listened to from the moment its clock starts until an
answer, a close frame, FIN or RST comes, or patience ends; meanwhile it may be dripped on. What ends it is noted with
what follows within a moment, so that a 408 before the FIN can be told from a silent close.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import trio

from loadgen.fingerprint.exchange import Exchange, GarbledError
from loadgen.fingerprint.line import EndedError, Ending, Line

#: What follows the first sign within this belongs to it: an answer and its FIN are often two segments.
MOMENT_SECONDS: Final = 1.0

OPEN: Final = "left open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """That the server has had enough."""

    at: float
    how: str


@asynccontextmanager
async def dripping(line: Line, pieces: Iterable[bytes], pace: float) -> AsyncIterator[None]:
    """Send a piece every `pace` seconds while the block runs, on a schedule that does not drift."""

    async def drip() -> None:
        due = trio.current_time()
        with suppress(EndedError):  # whoever listens hears of it too
            for piece in pieces:
                due += pace
                await trio.sleep_until(due)
                await line.send(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        yield
        nursery.cancel_scope.cancel()


async def until_moved_on(listen: Callable[[], Awaitable[Sign]], line: Line, until: float) -> Sign | None:
    """Listen until the sign comes or patience ends; then for a moment to what follows."""
    sign = None
    with trio.move_on_at(until):
        sign = await listen()
    if sign is None or sign.how in set(Ending):
        return sign
    return Sign(at=sign.at, how=f"{sign.how}, {await ending_of(line, MOMENT_SECONDS)}")


async def ending_of(line: Line, seconds: float) -> str:
    """How the line ends, if it does within so many seconds; what comes before is thrown away."""
    with trio.move_on_after(seconds):
        try:
            while True:
                await line.receive()
        except EndedError as error:
            return error.ending
    return OPEN


async def answer_or_end(line: Line, talk: Exchange, until: float) -> Sign | None:
    """Wait for an answer, or for the end without one."""

    async def listen() -> Sign:
        try:
            how = str((await talk.begin(line)).status)
        except EndedError as error:
            how = error.ending
        except GarbledError:
            how = "an answer that is no HTTP"
        return Sign(at=trio.current_time(), how=how)

    return await until_moved_on(listen, line, until)
