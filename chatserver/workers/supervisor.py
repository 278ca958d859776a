"""The supervisor: keeps N workers running, and answers for all of them.

Owns: the sockets, the shared parts of the log, the order in which workers start and stop. May not: serve peers, or wait
for a worker without a limit; a fault in it costs one worker's restart at most.

The sockets are open here as well, so peers in the accept queues just wait while a worker is replaced. On a reload the
replacement accepts before the old worker drains.
"""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from urllib.parse import quote

import structlog
import trio

from chatserver.exits import EXIT_BAD_FLAGS, EXIT_BIND, EXIT_CLEAN, EXIT_FAULT, EXIT_LOG, complain, watch_terminal
from chatserver.listening import CannotListenError, Listening, announce, bind_all
from chatserver.log.interface import LogOpenError
from chatserver.net.descriptors import raise_descriptor_limit
from chatserver.observe import logs
from chatserver.settings.fields import Settings, flag_name, share_of
from chatserver.settings.forms import redacted
from chatserver.settings.spec import ConfigError
from chatserver.workers.child import Child
from chatserver.workers.link import Setup
from chatserver.workers.metrics import WorkersMetrics
from chatserver.workers.shared_log import SharedLog, check_log, shared_log

#: Seconds before a worker that died is restarted, and the most; the pause doubles with each early death. systemd's
#: RestartSec is 0.1 s, and peers in the worker's accept queue wait that long.
RESTART_PAUSE, MAX_RESTART_PAUSE = 0.1, 5.0
#: Seconds after its start from which a worker's death is not an early one.
STABLE_AFTER = 10.0
#: Seconds until a replacement that could not open the log is tried again.
REPLACE_PAUSE = 30.0
#: Workers that start at a time, for each processor: a start takes half a second of one.
MAX_STARTING = 4
#: Settings that a reload cannot change: sockets are bound, workers share one log, and the supervisor also writes logs.
RESTART_ONLY = ("host", "port", "workers", "metrics_listen", "send_buffer", "log", "log_format", "quiet")

_log = structlog.get_logger("chatserver.workers")


@dataclass(slots=True, eq=False)
class Slot:
    """A set of sockets that one worker after the other serves."""

    index: int
    child: Child | None = None  # the serving worker, or the last one
    pause: float = RESTART_PAUSE  # seconds, the last one before a restart

    def pause_after(self, lived: float) -> float:
        """Seconds to wait before a restart, after a worker that ran for this many."""
        self.pause = RESTART_PAUSE if lived >= STABLE_AFTER else min(self.pause * 2, MAX_RESTART_PAUSE)
        return self.pause


def run(settings: Settings, load: Callable[[], Settings]) -> int:
    """Supervise until told to stop. Returns the exit code. `load` reads the settings again at SIGHUP."""
    raise_descriptor_limit()  # a socket for each worker and address
    with logs.configured(settings.log_format, quiet=settings.quiet):
        return trio.run(Supervisor(settings, load).main)


class Supervisor:
    """See the module. Once `main` has started, `addresses` holds the URLs, as in a `Server`."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self.addresses: list[str] = []
        self._settings = settings
        self._load = load
        self._slots = [Slot(index) for index in range(settings.workers)]
        self._children: dict[Child, None] = {}
        self._metrics = WorkersMetrics(self._children.keys)
        self._serving = False
        self._checking = trio.CancelScope()
        self._stopping = trio.Event()
        self._hung_up = trio.Event()  # since the last replacement of all workers began
        self._listening: Listening
        self._shared_log: SharedLog
        self._nursery: trio.Nursery

    async def main(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Bind, start the workers, wait for a signal, drain all. Returns the exit code."""
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._obey_signals)
            with ExitStack() as stack:  # inside: no signal ends the process before the workers' folder is removed
                code = await self._supervise(stack, task_status)
            self._nursery.cancel_scope.cancel()
        return code

    async def _supervise(self, stack: ExitStack, task_status: trio.TaskStatus[None]) -> int:
        try:
            self._listening = bind_all(self._settings, stack)
            self._shared_log = stack.enter_context(shared_log(self._settings.log))
            with self._checking:
                await check_log(self._settings.log)
        except CannotListenError as error:
            complain(str(error))
            return EXIT_BIND
        except LogOpenError as error:
            complain(f"--log {redacted(self._settings.log)}: {error}")
            return EXIT_LOG
        self.addresses = self._listening.urls(self._settings)
        code = EXIT_CLEAN if self._stopping.is_set() else await self._start_all()
        if code is None:
            announce(self.addresses, self._listening.operators_url(self._settings))
            task_status.started()
            self._nursery.start_soon(self._replace_at_hangup)
            await self._stopping.wait()
            self._listening.close()  # else newcomers wait in a queue that nobody serves, until all have drained
        else:
            self._stop()
        await self._until_all_ended()
        return code or EXIT_CLEAN

    async def _obey_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        terminal_closed = watch_terminal()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP and not terminal_closed():
                    self._hung_up.set()
                else:
                    at_once = self._stopping.is_set() and number != signal.SIGHUP
                    _log.info("stopping_workers", signal=signal.Signals(number).name, at_once=at_once)
                    self._stop(at_once=at_once)

    # -- starting and stopping ----------------------------------------------------------------------------------------

    async def _start_all(self) -> int | None:
        """Start the first worker alone, then the others some at a time. Returns the exit code if the first cannot.

        Whatever prevents it from starting (a flag, the log) mostly prevents all, and is then reported once. From then
        on a worker that ends is restarted: Linux may kill one for lack of memory, while the others serve.
        """
        batch = MAX_STARTING * (os.cpu_count() or 1)
        for slots in (self._slots[:1], *(self._slots[at : at + batch] for at in range(1, len(self._slots), batch))):
            children = [self._launch(slot, self._settings) for slot in slots]
            for child in children:
                await child.changed.wait()
                if self._stopping.is_set():
                    return EXIT_CLEAN
                if not (child.ready or self._serving):
                    return _start_failure(child)
            self._serving = True
        return None

    def _launch(self, slot: Slot, settings: Settings) -> Child:
        """Start a worker; it becomes the slot's worker, unless another one is serving there."""
        operators = self._listening.operators
        setup = Setup(
            settings=share_of(settings),
            listening=[each.fileno() for each in self._listening.workers[slot.index]],
            operators=None if operators is None else operators.fileno(),
            folder=quote(os.fsencode(self._shared_log.folder)),
            number=self._free_number(),
            count=2 * len(self._slots),
        )
        child = Child(slot.index + 1, setup, inherited=self._shared_log.inherited, ask=self._metrics.answer)
        if slot.child is None or slot.child.ended.is_set():
            slot.child = child
        self._children[child] = None
        self._nursery.start_soon(self._run_child, slot, child)
        return child

    def _free_number(self) -> int:
        """A number that no other process has. A worker and its replacement write to the log at the same time."""
        taken = {child.setup.number for child in self._children}
        return next(number for number in range(2 * len(self._slots)) if number not in taken)

    async def _run_child(self, slot: Slot, child: Child) -> None:
        """Run a worker to its end; if it was the slot's worker and was not told to stop, start another."""
        began = trio.current_time()
        try:
            await child.run()
        except OSError as error:
            _log.error("worker_not_started", worker=child.number, reason=str(error))
        except Exception:  # noqa: BLE001
            _log.exception("worker_fault", worker=child.number)
        del self._children[child]
        self._metrics.ended(child)
        if slot.child is child and (self._serving or child.ready) and not self._stopping.is_set():
            await self._restart(slot, child, trio.current_time() - began)

    async def _restart(self, slot: Slot, child: Child, lived: float) -> None:
        self._metrics.died(child)
        if not child.ready:  # the next one may not start either, and peers in its queue would wait for good
            self._listening.refuse(slot.index)
        pause = slot.pause_after(lived)
        _log.warning("worker_died", worker=child.number, code=child.code, again_in=pause)
        await trio.sleep(pause)
        if slot.child is child and not self._stopping.is_set():
            self._launch(slot, self._settings)

    def _stop(self, *, at_once: bool = False) -> None:
        """Tell all workers to drain, or to stop at once."""
        self._stopping.set()
        self._checking.cancel()
        for child in self._children:
            child.stop(at_once=at_once)

    async def _until_all_ended(self) -> None:
        async with trio.open_nursery() as nursery:
            for child in self._children:
                nursery.start_soon(child.end_in_time)

    # -- replacing ----------------------------------------------------------------------------------------------------

    async def _replace_at_hangup(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up = trio.Event()
            try:
                settings = self._reload()
                if settings is not None:
                    await self._replace_all(settings)
            except Exception:  # noqa: BLE001
                _log.exception("workers_not_replaced")

    def _reload(self) -> Settings | None:
        """Read the settings again; None if they cannot be used."""
        try:
            found = self._load()
            for path in found.token_key:
                if not os.access(path, os.R_OK):  # the first worker that is replaced would make a missing one
                    raise ConfigError("token-key", f"{path} does not exist or cannot be read")
            kept = {name: getattr(self._settings, name) for name in RESTART_ONLY}
            settings = replace(found, **kept)
        except ConfigError as error:
            _log.error("settings_not_reloaded", reason=str(error))
            return None
        for name, value in kept.items():
            if getattr(found, name) != value:
                _log.warning("needs_restart", setting=flag_name(name))
        return settings

    async def _replace_all(self, settings: Settings) -> None:
        """Replace the workers one by one, each after the one before has ended, until a replacement cannot start."""
        for slot in self._slots:
            if self._stopping.is_set():
                return
            new = await self._replacement(slot, settings)
            if new is None:
                return
            self._settings = settings
            old, slot.child, slot.pause = slot.child, new, RESTART_PAUSE
            if old is not None and old is not new:
                old.stop(replaced=True)
                await old.end_in_time()
        _log.info("workers_replaced", workers=len(self._slots))

    async def _replacement(self, slot: Slot, settings: Settings) -> Child | None:
        """A ready worker with these settings, or None if it cannot start.

        A log that cannot be opened is mostly a database that restarts, so this is tried again until another signal
        comes: a renewed certificate must not depend on it.
        """
        while True:
            new = self._launch(slot, settings)
            await new.changed.wait()
            if new.ready:
                return new
            if self._stopping.is_set():
                return None
            _log.error("worker_not_replaced", worker=new.number, code=new.code)
            if new.code != EXIT_LOG:
                return None
            with trio.move_on_after(REPLACE_PAUSE):
                await self._hung_up.wait()
            if self._stopping.is_set() or self._hung_up.is_set():
                return None


def _start_failure(child: Child) -> int:
    """The exit code after a failed start. A worker that knew the reason has reported it, and so has the log a process
    that the system refused.
    """
    if child.code in (EXIT_BAD_FLAGS, EXIT_BIND, EXIT_LOG):
        return child.code
    if child.code is not None:
        complain(f"worker {child.number} ended at its start, with code {child.code}")
    return EXIT_FAULT
