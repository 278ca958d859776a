"""Workers that are tasks: they talk to a supervisor as a worker does, but are not processes.

Owns: what each does until a test says otherwise. May not: serve clients.

    async with supervised(tmp_path) as it:
        it.started[0].end(-9)
"""

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import trio
from structlog.testing import capture_logs

from chatserver.observe.numbers import Family
from chatserver.settings.fields import Settings
from chatserver.workers.link import Alive, Ask, Collect, Link, Message, Numbers, Ready, Setup, Stop, Text
from chatserver.workers.supervisor import Supervisor

#: Seconds of a test's clock after which it has failed.
LIFE = 300.0
#: Exit code of a process that was killed.
KILLED = -9


class FakeWorker:
    """One worker, which works unless its `ready`, `beats` or `drains` is false."""

    def __init__(self, number: int, descriptor: int, inherited: Sequence[int]) -> None:
        self.number = self.pid = number
        self.inherited = inherited
        self.returncode: int | None = None
        self.link = Link(socket.socket(fileno=os.dup(descriptor)))
        self.setup: Setup
        self.heard: list[Message] = []
        self.ready = self.beats = self.drains = True
        self.is_stuck = False  # a kill does not end it, as when it waits for a disk that hangs
        self.code_at_start: int | None = None
        self.numbers: list[Family] = []
        self.began = trio.current_time()
        self._ended = trio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if not self.is_stuck:
            self.end(KILLED)

    def end(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            self._ended.set()
            self.link.close()

    @property
    def stops(self) -> int:
        """The number of `Stop` messages that it received."""
        return sum(isinstance(message, Stop) for message in self.heard)

    @property
    def texts(self) -> list[str]:
        """The texts of /metrics that it received."""
        return [message.text for message in self.heard if isinstance(message, Text)]

    async def act(self) -> None:
        setup = await self.link.receive()
        if not isinstance(setup, Setup):
            self.end(0)  # it was told to stop before it began
            return
        self.setup = setup
        if self.code_at_start is not None:
            self.end(self.code_at_start)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            if self.ready:
                await self.link.send(Ready())
            while (message := await self.link.receive()) is not None:
                self.heard.append(message)
                if isinstance(message, Stop) and (self.drains or self.stops > 1):
                    self.end(0)
                elif isinstance(message, Collect) and self.beats:
                    await self.link.send(Numbers(self.numbers))
            nursery.cancel_scope.cancel()

    async def _beat(self) -> None:
        while True:
            if self.beats:
                await self.link.send(Alive())
            await trio.sleep(1.0)

    async def ask(self) -> str:
        """Ask the supervisor for the text of /metrics."""
        asked = len(self.texts)
        await self.link.send(Ask())
        while len(self.texts) == asked:  # noqa: ASYNC110  the answer is heard by another task
            await trio.sleep(0.01)
        return self.texts[-1]


class Supervision:
    """A supervisor, and the fake workers that it has started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings  # what the supervisor reads at a hangup
        self.supervisor = Supervisor(settings, lambda: self.settings)
        self.started: list[FakeWorker] = []
        self.logs: list[Any] = []
        self.code: int | None = None
        self.failing: list[OSError] = []  # of the next starts
        self.start_takes = 0.0  # seconds
        self.manner: Mapping[str, object] = {}  # attributes of each one
        self.direct: Callable[[FakeWorker], None] = lambda worker: None  # told of each before it acts
        self._nursery: trio.Nursery

    async def spawn(self, number: int, descriptor: int, inherited: Sequence[int]) -> FakeWorker:
        await trio.sleep(self.start_takes)
        if self.failing:
            raise self.failing.pop()
        worker = FakeWorker(number, descriptor, inherited)
        self.started.append(worker)
        for name, value in self.manner.items():
            setattr(worker, name, value)
        self.direct(worker)
        self._nursery.start_soon(worker.act)
        return worker

    @property
    def running(self) -> list[FakeWorker]:
        return [worker for worker in self.started if worker.returncode is None]

    def events(self, name: str) -> list[Any]:
        """The log's lines of one kind."""
        return [line for line in self.logs if line["event"] == name]

    async def logged(self, event: str, times: int = 1) -> None:
        """Wait until the log has so many lines of one kind."""
        await self.until(lambda: len(self.events(event)) >= times)

    async def has_started(self, count: int) -> None:
        """Wait until it has started so many workers in all."""
        await self.until(lambda: len(self.started) == count)

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(LIFE):
            while not condition():  # noqa: ASYNC110  time jumps
                await trio.sleep(0.2)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the supervisor and its workers to their end."""
        with capture_logs() as self.logs, mock.patch("chatserver.workers.child.spawn_worker", self.spawn):
            async with trio.open_nursery() as self._nursery:
                self.code = await self.supervisor.main(task_status=task_status)
                for worker in self.running:
                    worker.end(KILLED)


def supervision(folder: Path, **options: Any) -> Supervision:
    """A supervisor of two workers, unless the options say otherwise."""
    return Supervision(Settings(**{"port": 0, "workers": 2, "log": f"sqlite:{folder / 'chat.db'}", **options}))


@asynccontextmanager
async def supervised(folder: Path, **options: Any) -> AsyncIterator[Supervision]:
    """Two workers that are ready, until the block ends."""
    found = supervision(folder, **options)
    with mock.patch("chatserver.observe.rationed.AT_ONCE_SECONDS", 1e9):
        async with trio.open_nursery() as nursery:
            await nursery.start(found.run)
            yield found
            nursery.cancel_scope.cancel()


async def hang_up() -> None:
    """Send SIGHUP, and let the supervisor begin what it asks for."""
    signal.raise_signal(signal.SIGHUP)
    await trio.sleep(0.1)
