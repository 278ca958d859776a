"""How a run ends before its time: one Ctrl-C ends it with the report so far, a second one at once.

Owns: the stop button, and getting an error out of the groups in which trio's nurseries wrap it.
"""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio


class StoppedError(Exception):
    """The user pressed Ctrl-C."""


async def watch_signals(stop: trio.Event, say: Callable[[str], None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            say("stopping; press again to leave at once")
            stop.set()
            break
    # outside the receiver the default handlers are back: a second Ctrl-C ends the program
    await trio.sleep_forever()


async def cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@asynccontextmanager
async def stoppable(say: Callable[[str], None]) -> AsyncIterator[trio.Event]:
    """Cancel what is within as soon as the event is set: by us, by SIGINT or by SIGTERM."""
    stop = trio.Event()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, stop, say)
        nursery.start_soon(cancel_after, stop, nursery.cancel_scope)
        yield stop
        nursery.cancel_scope.cancel()


def first(error: BaseException) -> BaseException:
    """The first error of a group that is no group itself; of what is no group, itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
