"""The stop button: one Ctrl-C ends a run with the report so far, a second one at once."""

import signal
from collections.abc import Callable

import trio


class StoppedError(Exception):
    """Somebody pressed Ctrl-C."""


async def watch_signals(stop: trio.Event, say: Callable[[str], None]) -> None:
    """Set `stop` at the first SIGINT or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            say("stopping; press again to leave at once")
            stop.set()
            break
    # outside the receiver the default handlers are back: a second Ctrl-C ends the program
    await trio.sleep_forever()
