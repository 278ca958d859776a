"""One worker as its supervisor sees it: a process, a link, and whether it is well.

Owns: the life of one process from its start to its end. May not: decide what comes after it.

A worker that is silent is judged by looks, not by a clock: a machine that was asleep, or a supervisor that was, finds
that no time has passed. The kernel knows nothing of a loop that does not turn, so nobody else can tell.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Protocol, TypeAlias

import structlog
import trio

from chatserver.observe.numbers import Family
from chatserver.workers.link import Alive, Ask, Collect, Link, Numbers, Ready, Setup, Stop, Text

#: Seconds between looks at a worker that says nothing, and looks after which it hangs: a sign of life is due every
#: second. gunicorn gives a worker 30 s, systemd's WatchdogSec examples 30; here the whole of a collection or a stalled
#: disk takes below one.
LOOK, MAX_SILENT_LOOKS = 1.0, 10
#: The same for the first sign of life: a process that starts on a busy machine.
MAX_STARTING_LOOKS = 60
#: Seconds that a process may take to end when its link has, or beyond its own time for draining: closing the log.
END_PATIENCE = 3.0
#: Seconds for which a worker may make its numbers.
COLLECT_PATIENCE = 1.0

STANDARD_ERROR = 2  # a descriptor: standard output is the supervisor's alone

_log = structlog.get_logger("chatserver.workers")


class Process(Protocol):
    """A process, as far as it is needed here; `trio.Process` is one."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative when a signal ended it."""

    async def wait(self) -> int:
        """Until it has ended."""

    def kill(self) -> None:
        """With SIGKILL; harmless when it has ended."""


#: Starts the worker of a number, with a link and further descriptors to inherit. Raises OSError.
Spawn: TypeAlias = Callable[[int, int, Sequence[int]], Awaitable[Process]]


async def spawn_worker(number: int, link: int, inherited: Sequence[int]) -> Process:
    """A worker in a process of its own, which imports from where this one does.

    It has a process group of its own as well: Ctrl-C at a terminal reaches the supervisor alone, which tells it.
    """
    command = [sys.executable, "-P", "-m", "chatserver.workers.process", str(number), str(link)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, pass_fds=[link, *inherited], process_group=0,
        env=environment,
    )  # fmt: skip


class Child:
    """See the module. `run` is its life; `ready` and `ended` come at most once."""

    def __init__(
        self, number: int, setup: Setup, *, inherited: Sequence[int] = (), ask: Callable[["Child"], Awaitable[None]]
    ) -> None:
        self.number = number
        self.ready, self.ended = trio.Event(), trio.Event()
        self.changed = trio.Event()  # with either of these
        self.numbers: list[Family] = []  # the latest that it told
        self.code: int | None = None
        self.hung = False
        self._stops = 0
        self._setup = setup
        self._inherited = [*setup.listening, *([] if setup.operators is None else [setup.operators]), *inherited]
        self._ask = ask
        self._link: Link
        self._process: Process
        self._nursery: trio.Nursery | None = None
        self._told: trio.Event | None = None  # when its numbers come, if it was asked for them

    async def run(self, spawn: Spawn) -> None:
        """Start it, and be there until it has ended; it has ended when this has. Raises OSError."""
        try:
            ours, theirs = socket.socketpair()
            self._link = Link(ours)
            with closing(self._link):
                with theirs:
                    self._process = await spawn(self.number, theirs.fileno(), self._inherited)
                await self._attend()
        finally:
            self.ended.set()
            self.changed.set()

    async def _attend(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._link.send, self._setup)
                for _ in range(self._stops):
                    nursery.start_soon(self._link.send, Stop())
                await self._listen(nursery)
                # Its end of the link is closed, so it ends, or has something to close that does not.
                with trio.move_on_after(END_PATIENCE):
                    await self._process.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True):
                if self._process.returncode is None:
                    self._process.kill()
                self.code = await self._process.wait()

    async def _listen(self, nursery: trio.Nursery) -> None:
        """Until the link's end, or until it hangs."""
        silent, most = 0, MAX_STARTING_LOOKS
        while silent < most:
            with trio.move_on_after(LOOK) as look:
                message = await self._link.receive()
            if look.cancelled_caught:
                silent += 1
                continue
            silent, most = 0, MAX_SILENT_LOOKS
            match message:
                case None:
                    return
                case Ready():
                    _log.info("worker_ready", worker=self.number, pid=self._process.pid)
                    self.ready.set()
                    self.changed.set()
                case Numbers():
                    self.numbers = message.families
                    if self._told is not None:
                        self._told.set()
                        self._told = None
                case Ask():
                    nursery.start_soon(self._ask, self)
                case Alive():
                    pass
        self.hung = True
        _log.error("worker_hung", worker=self.number, pid=self._process.pid, seconds=silent * LOOK)
        self._process.kill()

    def stop(self, *, replaced: bool = False) -> None:
        """Have it drain; the second time, stop at once. See `Stop`."""
        self._stops += 1
        if self._nursery is not None:
            self._nursery.start_soon(self._link.send, Stop(replaced))

    async def end_within(self, seconds: float) -> None:
        """Wait for the end, which comes: it is killed when it has not come by then."""
        with trio.move_on_after(seconds):
            await self.ended.wait()
            return
        if self._nursery is not None:
            _log.warning("worker_killed", worker=self.number, pid=self._process.pid)
            self._process.kill()
        await self.ended.wait()

    async def collect(self) -> None:
        """Have `numbers` be those of now, if it tells them in time."""
        if self._told is None and self._nursery is not None:
            self._told = trio.Event()
            self._nursery.start_soon(self._link.send, Collect())
        if self._told is not None:
            with trio.move_on_after(COLLECT_PATIENCE):
                await self._told.wait()

    async def tell(self, text: str) -> None:
        """Give it the text of /metrics."""
        await self._link.send(Text(text))
