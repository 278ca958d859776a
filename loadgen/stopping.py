"""How a run ends early: the first Ctrl-C ends it with the report so far, a second one at once.

Owns: the signal handling, and unwrapping an error from the exception groups of trio's nurseries.
"""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio


async def watch_signals(stop: trio.Event, say: Callable[[str], None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            say("stopping; press again to leave at once")
            stop.set()
            break
    # leaving the receiver restores the default handlers, so a second Ctrl-C ends the program
    await trio.sleep_forever()


async def cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@asynccontextmanager
async def stoppable(say: Callable[[str], None]) -> AsyncIterator[trio.Event]:
    """Cancel the block when the event is set: by the caller, SIGINT or SIGTERM."""
    stop = trio.Event()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals, stop, say)
        nursery.start_soon(cancel_after, stop, nursery.cancel_scope)
        yield stop
        nursery.cancel_scope.cancel()


def first(error: BaseException) -> BaseException:
    """Return the first error in a possibly nested group; any other error is returned as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
