"""A worker: a child process that obeys the conductor's orders and reports its status.

Owns: its end of the pipes. Orders come on standard input, answers go to standard output. The end of the input ends the
process, so that no worker outlives its conductor, however that ended. May not: know what an order means, which is up to
its part (`crowd.py`, `victims/`).
"""

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import msgspec
import trio

from loadgen.messages import AnyOrder, Result, Role, SendResult, Status, encode

#: Interval of the reports of the status, and of the live view.
STATUS_SECONDS: Final = 0.2

_CHUNK: Final = 64 * 1024


class Part(Protocol):
    async def run(self) -> None:
        """Play until cancelled."""

    async def obey(self, order: AnyOrder) -> None:
        """Carry out an order, or begin to."""

    def status(self, heard: int) -> Status:
        """The status after so many orders."""

    def result(self) -> Result:
        """Everything so far."""


async def lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    """Split a stream into lines, until its end."""
    rest = b""
    while chunk := await stream.receive_some(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line


async def play(make: Callable[[Role], Part]) -> None:
    """Serve one conductor, from its first line to the end of its input."""
    reader = msgspec.json.Decoder[AnyOrder](AnyOrder)
    async with trio.lowlevel.FdStream(os.dup(0)) as inputs, trio.lowlevel.FdStream(os.dup(1)) as outputs:
        orders = lines(inputs)
        role = msgspec.json.decode(await anext(orders), type=Role)
        os.nice(role.niceness)
        part = make(role)
        turn = trio.Lock()  # the periodic status and the answer to an order must not mix
        heard = 0

        async def tell(word: Status | Result) -> None:
            await outputs.send_all(encode(word))

        async def tell_now_and_then() -> None:
            while True:
                async with turn:
                    await tell(part.status(heard))
                await trio.sleep(STATUS_SECONDS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(part.run)
            nursery.start_soon(tell_now_and_then)
            async for line in orders:
                order = reader.decode(line)
                if not isinstance(order, SendResult):
                    await part.obey(order)
                async with turn:
                    heard += 1
                    await tell(part.result() if isinstance(order, SendResult) else part.status(heard))
            nursery.cancel_scope.cancel()


def quiet_collector() -> None:
    """Keep the garbage collector off the crowd: a full pass over 18,000 clients would show in the latencies.

    The crowd lives as long as the process, so a full pass would free nothing. The few cycles that trio-websocket leaves
    are collected in the young generations.
    """
    young, middle, _ = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, middle, 1_000_000)


def main() -> None:
    # A terminal sends Ctrl-C to the whole process group, and so do some supervisors; only the conductor acts on it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    part = sys.argv[1]
    quiet_collector()
    if part == "crowd":
        from loadgen.crowd import Crowd  # noqa: PLC0415  each part loads only what it needs: less memory, earlier start

        trio.run(play, Crowd)
    else:
        from loadgen.victims.runner import ProbeRunner  # noqa: PLC0415

        trio.run(play, ProbeRunner)


if __name__ == "__main__":
    main()
