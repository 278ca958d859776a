"""One worker: a `Server` on inherited sockets, which exchanges messages with its supervisor.

Owns: the worker's end of the link. May not: bind, or write to standard output.

It is started as `python -m chatserver.workers.process NUMBER DESCRIPTOR`, with a link at that descriptor.
"""

import math
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path
from urllib.parse import unquote_to_bytes

import msgspec
import structlog
import trio

from chatserver.exits import EXIT_BAD_FLAGS, EXIT_CLEAN, EXIT_FAULT, complain
from chatserver.fair import SingleFlight, in_steps
from chatserver.listening import Listening
from chatserver.log.neighbours import Neighbours
from chatserver.observe.metrics import ServerMetrics
from chatserver.protocol.errors import HttpError
from chatserver.reasons import ErrorCode
from chatserver.server import Server, prepared
from chatserver.settings.spec import ConfigError
from chatserver.shared.datagrams import Datagrams
from chatserver.workers.link import Alive, Ask, Collect, Link, Message, Numbers, Ready, Setup, Stop, Text

#: Seconds between heartbeats.
HEARTBEAT = 1.0
#: Seconds for the supervisor to answer with the text of /metrics, and to accept our last numbers.
METRICS_PATIENCE, LAST_NUMBERS = 3.0, 1.0

_log = structlog.get_logger("chatserver.workers")


class Worker:
    """The `Supervised` through which the server sees its supervisor."""

    def __init__(self, link: Link, setup: Setup) -> None:
        operators = None if setup.operators is None else socket.socket(fileno=setup.operators)
        self.listening = Listening([[socket.socket(fileno=each) for each in setup.listening]], operators)
        self.folder = Path(os.fsdecode(unquote_to_bytes(setup.folder)))
        self.neighbours = Neighbours(self.folder, setup.number, setup.count)
        self.bus = Datagrams(self.folder, setup.number, setup.count)
        self._stop, self.stops = trio.open_memory_channel[int](2)
        self._told_to_stop = False  # by the supervisor
        self._drains = False
        self._starting = trio.CancelScope()  # entered until the end; cancelled only before the server accepts peers
        self._alone = False  # the supervisor is gone
        self._link = link
        self._metrics: ServerMetrics | None = None  # there is one once the server accepts peers
        self._text = ""
        self._answered: trio.Event
        self._asking: SingleFlight[str, bytes] = SingleFlight()
        # Without a bound: `Ready` once, and one `Ask` at a time.
        self._outbox, self._unsent = trio.open_memory_channel[Message](math.inf)
        self._server: Server

    async def run(self, server: Server) -> int:
        """Serve until the end. Returns the exit code."""
        code = EXIT_CLEAN  # of a worker that is told to stop while it starts
        async with trio.open_nursery() as nursery:
            self._server = server
            nursery.start_soon(self._link.send_all, self._unsent)
            nursery.start_soon(self._beat)
            nursery.start_soon(self._obey)
            nursery.start_soon(self._stop_at_signal)
            with self._starting:
                code = await server.main()
            with trio.move_on_after(LAST_NUMBERS):
                await self._send_numbers()
            nursery.cancel_scope.cancel()
        self._link.close()
        if self._alone:  # no process is left to remove it; neighbours that still drain have their files open
            shutil.rmtree(self.folder, ignore_errors=True)
        return code

    def ready(self) -> None:
        self._metrics = ServerMetrics(self._server.parts)
        self._outbox.send_nowait(Ready())

    async def _send_numbers(self) -> None:
        """Send our metrics. After a fault in them the supervisor has those of before."""
        try:
            pieces = () if self._metrics is None else self._metrics.families()
            await self._link.send(Numbers(list(chain.from_iterable(await in_steps(pieces)))))
        except Exception:  # noqa: BLE001  the fault boundary
            self._server.parts.connections.faults.caught(self)

    async def metrics(self) -> bytes:
        return await self._asking.get("", self._ask)

    async def _ask(self) -> bytes:
        self._answered = trio.Event()
        self._outbox.send_nowait(Ask())
        with trio.move_on_after(METRICS_PATIENCE):
            await self._answered.wait()
            return self._text.encode()
        raise HttpError(ErrorCode.UNAVAILABLE, "the supervisor did not send the metrics of all workers")

    async def _beat(self) -> None:
        while True:
            await self._link.send(Alive())
            await trio.sleep(HEARTBEAT)

    async def _obey(self) -> None:
        while (message := await self._link.receive()) is not None:
            match message:
                case Stop() if self._told_to_stop:
                    self._hand_on(signal.SIGTERM)
                case Stop():
                    self._told_to_stop = True
                    self._drain(signal.SIGHUP if message.replaced else signal.SIGTERM)
                case Collect():
                    await self._send_numbers()
                case Text():
                    self._text = message.text
                    self._answered.set()
        self._alone = True
        _log.warning("supervisor_gone")
        self._drain(signal.SIGTERM)

    async def _stop_at_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._drain(number)

    def _drain(self, number: int) -> None:
        """Drain, only once: a service manager may signal every process, and a second signal stops a server at once.

        A worker that starts has nothing to drain, and may wait for a lock in the database for minutes.
        """
        if self._metrics is None:
            self._starting.cancel()
        elif not self._drains:
            self._drains = True
            self._hand_on(number)

    def _hand_on(self, number: int) -> None:
        with suppress(trio.WouldBlock):  # the worker is already stopping at once
            self._stop.send_nowait(number)


def run(number: int, descriptor: int) -> int:
    """Run the worker of this number on a link. Returns the exit code."""
    link = Link(socket.socket(fileno=descriptor))
    try:
        setup = trio.run(link.receive)
    except msgspec.DecodeError:
        complain("the version that is installed does not fit the server that runs; restart the server")
        return EXIT_FAULT
    if not isinstance(setup, Setup):
        return EXIT_CLEAN  # the supervisor is gone, or stops already
    structlog.contextvars.bind_contextvars(worker=number)
    worker = Worker(link, setup)
    try:
        with prepared(setup.settings, worker) as server:
            return trio.run(worker.run, server, instruments=(server.loop,))
    except ConfigError as error:
        complain(str(error))
        return EXIT_BAD_FLAGS


if __name__ == "__main__":
    # Without the interpreter's clean-up: on a busy machine its 0.25 s of CPU take longer than the supervisor waits.
    os._exit(run(*map(int, sys.argv[1:])))
