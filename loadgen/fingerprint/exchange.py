"""A request in pieces and its answer, and what can go wrong instead.

Owns: that sending and listening run at once, and how a failed connection becomes a finding.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

import trio

from loadgen.answers import Answer, Exchange, GarbledError
from loadgen.client import TURNED_AWAY
from loadgen.fingerprint.findings import Failed, NotApplicable
from loadgen.line import FAILURES, EndedError, Line, describe

T = TypeVar("T")


class NotServedError(Exception):
    """The server does not serve what the probe needs."""


class TurnedAwayError(Exception):
    """The server has no capacity, which says nothing about the request itself."""


#: Every way in which a request can fail.
TROUBLE: Final = (*FAILURES, GarbledError, NotServedError, TurnedAwayError)


async def tried(play: Callable[[], Awaitable[T]]) -> T | Failed | NotApplicable:
    """Return the finding, or a failed connection as one; the error does not reach the other probes."""
    try:
        return await play()
    except NotServedError as error:
        return NotApplicable(why=str(error))
    except TROUBLE as error:
        return Failed(why=describe(error))


async def while_sending(
    line: Line, pieces: Iterable[bytes], listen: Callable[[], Awaitable[T]], pace: float = 0.0
) -> T:
    """Send the pieces, the first at once and then one each `pace` seconds, until `listen` returns.

    It may return before all of them are sent: the server may answer early, or close.
    """

    async def send() -> None:
        due = trio.current_time()
        with suppress(EndedError):  # the listener sees it too, after the server's last bytes
            for piece in pieces:
                await trio.sleep_until(due)
                await line.send(piece)
                due += pace

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        trouble = None
        try:
            heard = await listen()
        except (EndedError, GarbledError) as error:
            trouble = error  # raised outside, because the nursery would wrap it in an exception group
        nursery.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    return heard


async def exchange(line: Line, pieces: Iterable[bytes], *, pause: float = 0.0) -> Answer:
    """Send a request in pieces and return the answer, which may come before the last piece."""
    answer = await while_sending(line, pieces, Exchange(line).whole, pause)
    if answer.status in TURNED_AWAY:
        raise TurnedAwayError(f"turned away: {answer.status}")
    return answer
