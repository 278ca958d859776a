"""A worker: a child process whose methods the main process calls, and that reports its status.

Owns: its end of the pipes: calls on standard input, answers on standard output. The end of the input ends the process,
so no worker outlives the main process. May not: know what a method does.
"""

import gc
import inspect
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Final, Protocol

import trio

from loadgen.clients.messages import Result, Role, Status, encode, messages_in

#: Interval of the reports of the status, and of the live view.
STATUS_SECONDS: Final = 0.2

#: Each is imported when it is played: a process that loads only what it needs starts earlier, and takes less memory.
_PARTS: Final = {"crowd": "loadgen.run.crowd:Crowd", "victims": "loadgen.run.runner:ProbeRunner"}


class Part(Protocol):
    """What a worker plays. Its further methods are called by the main process."""

    async def run(self) -> None:
        """Play until cancelled."""

    def begin(self, phase: str) -> None:
        """Book in this phase from now on."""

    def stop(self) -> None:
        """Begin no more messages and operations."""

    def status(self, calls: int) -> Status:
        """The status after this many calls."""

    def result(self) -> Result:
        """Everything so far."""


async def play(make: Callable[[Role], Part]) -> None:
    """Serve the main process, from its first message to the end of its input."""
    async with trio.lowlevel.FdStream(os.dup(0)) as inputs, trio.lowlevel.FdStream(os.dup(1)) as outputs:
        os.dup2(2, 1)  # what a persona of the user's prints must not get among the answers
        calls = messages_in(inputs)
        role: Role = await anext(calls)
        os.nice(role.niceness)
        part = make(role)
        turn = trio.Lock()  # the periodic status and the answer to a call must not mix
        made = 0

        async def tell_now_and_then() -> None:
            while True:
                async with turn:
                    await outputs.send_all(encode(part.status(made)))
                await trio.sleep(STATUS_SECONDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(part.run)
            nursery.start_soon(tell_now_and_then)
            async for method, arguments, keywords in calls:
                done = getattr(part, method)(*arguments, **keywords)
                if inspect.isawaitable(done):
                    await done
                async with turn:
                    made += 1
                    await outputs.send_all(encode(done if isinstance(done, Result) else part.status(made)))
            nursery.cancel_scope.cancel()


def quiet_collector() -> None:
    """Keep the garbage collector off the crowd: a full pass over 18,000 clients would show in the latencies.

    The crowd lives as long as the process, so a full pass would free nothing.
    """
    young, middle, _ = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, middle, 1_000_000)


def main() -> None:
    # Some supervisors signal every process of a service; only the main process acts on it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    part: Callable[[Role], Part] = pkgutil.resolve_name(_PARTS[sys.argv[1]])
    quiet_collector()
    trio.run(play, part)


if __name__ == "__main__":
    main()
