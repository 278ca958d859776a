"""One worker as its supervisor sees it: a process, a link, and its health.

Owns: the life of one process from its start to its end. May not: decide what happens after that.

A silent worker is judged by the number of checks, not by the clock, so that time in which the machine or the supervisor
was suspended does not count. The kernel cannot tell that an event loop hangs, so the supervisor must.
"""

import math
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing

import structlog
import trio

from chatserver.exits import STANDARD_ERROR
from chatserver.observe.numbers import Family
from chatserver.workers.link import Alive, Ask, Collect, Link, Message, Numbers, Ready, Setup, Stop, Text

#: Seconds between checks of a silent worker, and the number of checks after which it counts as hung. A heartbeat is due
#: every second. gunicorn allows 30 s, systemd's WatchdogSec examples 30; here a full garbage collection or a stalled
#: disk blocks the loop for less than one.
CHECK_INTERVAL, MAX_SILENT_CHECKS = 1.0, 10
#: The number of checks before the first heartbeat, for a process that starts on a busy machine.
MAX_STARTING_CHECKS = 60
#: Seconds for a process to end after its link has closed, or after its time for draining: it still closes the log.
END_PATIENCE = 3.0
#: Seconds for a worker to send its numbers.
COLLECT_PATIENCE = 1.0

_log = structlog.get_logger("chatserver.workers")


async def spawn_worker(number: int, link: int, inherited: Sequence[int]) -> trio.Process:
    """Start a worker in its own process, with the same import path as this one. Raises OSError.

    `link` is the descriptor of its link; it keeps the `inherited` ones open too. It has its own process group, so that
    Ctrl-C at a terminal reaches only the supervisor, and no standard output, to which only the supervisor writes.
    """
    command = [sys.executable, "-P", "-m", "chatserver.workers.process", str(number), str(link)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, pass_fds=[link, *inherited], process_group=0,
        env=environment,
    )  # fmt: skip


class Child:
    """See the module. `run` lasts as long as the process.

    `changed` is set once it is ready, is told to stop or has ended.
    """

    def __init__(
        self, number: int, setup: Setup, *, inherited: Sequence[int] = (), ask: Callable[["Child"], Awaitable[None]]
    ) -> None:
        self.number = number
        self.setup = setup
        self.ready = False
        self.changed, self.ended = trio.Event(), trio.Event()
        self.numbers: list[Family] = []  # the latest that it sent
        self.code: int | None = None  # None also of a killed process that the kernel has not ended yet
        self.hung = False
        self._told_to_stop = False
        self._inherited = [*setup.listening, *([] if setup.operators is None else [setup.operators]), *inherited]
        self._ask = ask
        # Without a bound: few messages, and a worker that does not read them is killed.
        self._outbox, self._unsent = trio.open_memory_channel[Message](math.inf)
        self._outbox.send_nowait(setup)
        self._process: trio.Process | None = None  # once it is started
        self._told = trio.Event()  # set when requested numbers arrive

    async def run(self) -> None:
        """Start the process, and return once it has ended or was killed. Raises OSError."""
        try:
            ours, theirs = socket.socketpair()
            with closing(Link(ours)) as link:
                with theirs:
                    self._process = await spawn_worker(self.number, theirs.fileno(), self._inherited)
                await self._supervise(link, self._process)
        finally:
            self.ended.set()
            self.changed.set()

    async def _supervise(self, link: Link, process: trio.Process) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.send_all, self._unsent)
                await self._listen(link, process, nursery)
                # The worker's end of the link is closed, so the process is ending, unless something in it hangs.
                with trio.move_on_after(END_PATIENCE):
                    await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            # A killed process ends at once, unless it waits for a disk that hangs.
            with trio.move_on_after(END_PATIENCE, shield=True):
                process.kill()
                self.code = await process.wait()

    async def _listen(self, link: Link, process: trio.Process, nursery: trio.Nursery) -> None:
        """Receive messages until the link closes or the worker hangs."""
        silent, most = 0, MAX_STARTING_CHECKS
        while silent < most:
            with trio.move_on_after(CHECK_INTERVAL) as look:
                message = await link.receive()
            if look.cancelled_caught:
                silent += 1
                continue
            silent, most = 0, MAX_SILENT_CHECKS
            match message:
                case None:
                    return
                case Ready():
                    _log.info("worker_ready", worker=self.number, pid=process.pid)
                    self.ready = True
                    self.changed.set()
                case Numbers():
                    self.numbers = message.families
                    self._told.set()
                case Ask():
                    nursery.start_soon(self._ask, self)
                case Alive():
                    pass
        self.hung = True
        _log.error("worker_hung", worker=self.number, pid=process.pid, seconds=silent * CHECK_INTERVAL)
        process.kill()

    def stop(self, *, replaced: bool = False, at_once: bool = False) -> None:
        """Tell the worker to drain; while it drains, only a call with `at_once` has an effect. See `Stop`."""
        if at_once or not self._told_to_stop:
            self._told_to_stop = True
            self._outbox.send_nowait(Stop(replaced))
            self.changed.set()

    async def end_in_time(self) -> None:
        """Wait for the end of the process, and kill it when its own time for draining is over."""
        with trio.move_on_after(self.setup.settings.drain_timeout + END_PATIENCE):
            await self.ended.wait()
        if self._process is not None and not self.ended.is_set():
            _log.warning("worker_killed", worker=self.number, pid=self._process.pid)
            self._process.kill()

    async def collect(self) -> None:
        """Update `numbers`, if the worker answers in time."""
        if not self.ended.is_set():
            self._told = trio.Event()
            self._outbox.send_nowait(Collect())
            with trio.move_on_after(COLLECT_PATIENCE):
                await self._told.wait()

    def tell(self, text: str) -> None:
        """Send it the text of /metrics."""
        self._outbox.send_nowait(Text(text))
