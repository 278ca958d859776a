"""The server: builds the parts, runs them in one nursery, drains them.

Owns: the order in which all parts start and stop. May not: do any part's work.

    log, outermost, so that it outlives its writers
      hub (readers of the log) · poller · wheel · housekeeping · signals · tasks of requests that wait for the log
"""

import operator
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
import trio

from chatserver.api.keys import KeyRing
from chatserver.api.published_keys import PublishedKeys
from chatserver.exits import EXIT_BIND, EXIT_CLEAN, EXIT_LOG, complain, innermost, watch_terminal
from chatserver.fair import in_steps
from chatserver.listening import CannotListenError, Listening, announce, bind_all
from chatserver.log import open_log
from chatserver.log.interface import LogError, LogOpenError, Record
from chatserver.log.neighbours import Neighbours
from chatserver.log.program import Program
from chatserver.log.threads import THREAD_SWITCH
from chatserver.net.connection import Connection
from chatserver.net.descriptors import connection_limit, grow_table, raise_descriptor_limit
from chatserver.net.readiness import Readiness
from chatserver.net.states import ROWS, Priority, Reclaim
from chatserver.net.tls import TlsEngine, examine, load_context
from chatserver.observe import logs
from chatserver.observe.loop import LoopMeter
from chatserver.observe.memory import Collector, Heap, find_trim, share_heap
from chatserver.parts import Parts, build
from chatserver.settings import forms
from chatserver.settings.fields import Settings
from chatserver.settings.spec import ConfigError
from chatserver.shared import check_client
from chatserver.shared.datagrams import Datagrams

#: Ticks of the wheel between rounds of housekeeping (a second), and seconds between rounds of retention.
HOUSEKEEPING, RETENTION = 10, 60.0
#: Seconds between two checks, while draining, whether connections are left.
DRAIN_POLL_INTERVAL = 0.05
#: The share of the drain timeout for which a replaced worker waits for first requests: 5 s, as Go's server.
ARRIVAL_SHARE = 0.5
#: The share of the drain timeout that is kept for answering incomplete requests and writing those answers out.
FAREWELL_SHARE = 0.1
#: Seconds until a background task that ended with an exception runs again.
TASK_RESTART_PAUSE = 1.0

_log = structlog.get_logger("chatserver")


class Supervised(Protocol):
    """What a worker's supervisor provides, and a single process does for itself; `workers.process` has it."""

    @property
    def listening(self) -> Listening:
        """Sockets that are bound already, and outlive this process."""

    @property
    def folder(self) -> Path:
        """A folder for the files that workers share, which only their user may enter."""

    @property
    def neighbours(self) -> Neighbours:
        """The other processes that write to the same log."""

    @property
    def bus(self) -> Datagrams:
        """The channel for messages to the other workers."""

    @property
    def stops(self) -> AsyncIterator[int]:
        """Signal numbers: at the first the worker drains, at the second it stops at once.

        SIGHUP as the first: another worker serves in its place, so no peer that it has accepted is refused.
        """

    def ready(self) -> None:
        """Report that this worker accepts peers from now on."""

    async def metrics(self) -> bytes:
        """The text of /metrics for all workers. Raises HttpError when it cannot be had."""


def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit code. Raises ConfigError for unusable limits or unreadable files."""
    with prepared(settings) as server:
        return trio.run(server.main, instruments=(server.loop,))


@contextmanager
def prepared(settings: Settings, supervised: Supervised | None = None) -> Iterator["Server"]:
    """Prepare this process to run a server, and make the server. Raises ConfigError."""
    total = connection_limit(settings.max_connections, descriptors=raise_descriptor_limit())
    grow_table(total)  # before there are threads
    share_heap()  # likewise
    sys.setswitchinterval(THREAD_SWITCH)
    with logs.configured(settings.log_format, quiet=settings.quiet):
        yield Server(settings, total=total, supervised=supervised)


class Server:
    """The life of one server. Raises ConfigError.

    Once `main` has started, `addresses` holds the URLs, and `metrics_address` that of --metrics-listen.
    With `supervised` it is one of several workers, and its supervisor does what needs doing once for all of them.
    """

    def __init__(self, settings: Settings, *, total: int, supervised: Supervised | None = None) -> None:
        self.settings = settings
        self._supervised = supervised
        self._engine = TlsEngine(*self._load_certificate()) if settings.tls_cert else None
        folder = None if supervised is None else supervised.folder
        self._published = PublishedKeys(settings.token_jwks, folder) if settings.token_jwks else None
        self._keys = KeyRing(settings.token_key, self._published) if settings.takes_tokens else None
        if settings.shared:
            check_client()
        self.loop = LoopMeter()
        self.addresses: list[str] = []
        self.metrics_address = ""
        self._total = total
        self._ready = False
        self._parts: Parts | None = None  # until the log is open

    @property
    def parts(self) -> Parts:
        """All that runs, once `main` has started."""
        assert self._parts is not None, "the log is open"
        return self._parts

    async def main(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Open, serve until a signal, drain, close. Returns the exit code."""
        with ExitStack() as stack:
            try:
                listening = self._supervised.listening if self._supervised else bind_all(self.settings, stack)
            except CannotListenError as error:
                complain(str(error))
                return EXIT_BIND
            self.addresses.extend(listening.urls(self.settings))
            self.metrics_address = listening.operators_url(self.settings)
            failure: BaseException | None = None
            try:
                await self._open_and_serve(listening, task_status)
            except* LogOpenError as group:
                failure = innermost(group)
        if failure is None:
            return EXIT_CLEAN
        complain(f"--log {forms.redacted(self.settings.log)}: {failure}")
        return EXIT_LOG

    async def _open_and_serve(self, listening: Listening, task_status: trio.TaskStatus[None]) -> None:
        log = open_log(self.settings.log, None if self._supervised is None else self._supervised.neighbours)
        # The log is outermost: it outlives its writers, and commits what it was given before it closes.
        async with trio.open_nursery() as log_nursery:
            await log_nursery.start(self._reload_at_hangup)  # files that change while the log opens have been read
            program = Program(self._on_hints, self._hand_out, self._post, self._defer, self._faulted)
            await log_nursery.start(log.run, self._news, program)
            with ExitStack() as stack:
                readiness = Readiness()
                stack.callback(readiness.close)
                garbage = stack.enter_context(Collector())
                async with trio.open_nursery() as nursery:
                    self._parts = build(
                        self.settings, total=self._total, log=log, readiness=readiness,
                        listening=listening, nursery=nursery,
                        loop=self.loop, garbage=garbage, ready=lambda: self._ready,
                        engine=self._engine, keys=self._keys,
                        bus=None if self._supervised is None else self._supervised.bus,
                        all_metrics=None if self._supervised is None else self._supervised.metrics,
                    )  # fmt: skip
                    await self._restore()
                    await self._serve(nursery, task_status)
            log_nursery.cancel_scope.cancel()

    async def _restore(self) -> None:
        """Restore the bans and sign-outs from before a restart; without them the server does not start."""
        try:
            await self.parts.reloader.restore()
        except LogError as error:
            raise LogOpenError(f"sanctions and sign-outs cannot be read: {error}") from error

    def _hand_out(self, step: Callable[[], bool]) -> None:
        """Hand out the first part of a group's news and answers, which is mostly all, and schedule the rest."""
        if step():
            self.parts.connections.scheduler.submit(Priority.FIRST, operator.call, step)

    def _post(self, call: Callable[[], object]) -> bool:
        return self._parts is not None and self._parts.connections.scheduler.post(call)

    def _defer(self, call: Callable[[], object]) -> None:
        if self._parts is None:
            call()
        else:
            self._parts.connections.scheduler.defer(call)

    def _news(self, records: Sequence[Record]) -> None:
        self.parts.hub.news(records)

    def _faulted(self, item: object) -> None:
        self.parts.connections.faults.caught(item)

    def _on_hints(self, hints: Mapping[str, int]) -> None:
        parts = self._parts
        if parts is not None:  # otherwise nothing is in memory yet
            for each in (parts.reloader, parts.hub.follower, parts.services.search_results):
                self._attempt(partial(each.on_hints, hints))

    async def _serve(self, nursery: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        parts = self.parts
        nursery.start_soon(parts.poller.run)
        nursery.start_soon(self._turn_wheel)
        nursery.start_soon(self._retain)
        nursery.start_soon(self._keep_running, parts.reloader.run)
        nursery.start_soon(self._keep_running, parts.hub.run)
        nursery.start_soon(self._keep_running, parts.services.markers.run)
        nursery.start_soon(self._keep_running, partial(parts.services.audit.run, parts.log.audit))
        if self._published is not None:
            nursery.start_soon(self._keep_running, self._published.run)
        if parts.others is not None:
            nursery.start_soon(self._keep_running, parts.others.run)
        if parts.shared is not None:
            nursery.start_soon(self._keep_running, parts.shared.write_limits.run)
        stops: AbstractContextManager[AsyncIterator[int]] = (
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT)
            if self._supervised is None
            else nullcontext(self._supervised.stops)
        )
        with stops as signals:
            self._ready = True
            if self._supervised is not None:
                self._supervised.ready()
            else:
                announce(self.addresses, self.metrics_address)
            task_status.started()
            first = signal.Signals(await anext(signals))
            _log.info("draining", signal=first.name, connections=parts.connections.held)
            async with trio.open_nursery() as draining:
                draining.start_soon(self._stop_at_second_signal, signals, draining.cancel_scope)
                with trio.move_on_after(self.settings.drain_timeout):
                    await self._drain(is_replaced=first is signal.SIGHUP)
                draining.cancel_scope.cancel()
            _log.info("stopped", connections=parts.connections.held)
        nursery.cancel_scope.cancel()

    async def _stop_at_second_signal(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in signals:
            _log.warning("stopped_at_once")
            scope.cancel()

    # -- tasks ------------------------------------------------------------------------------------------------------

    async def _keep_running(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run a background task until cancelled; after an exception in it, which is logged, it runs again."""
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001  the fault boundary
                self.parts.connections.faults.caught(self)
            await trio.sleep(TASK_RESTART_PAUSE)

    async def _turn_wheel(self) -> None:
        parts, heap = self.parts, Heap(find_trim())
        wheel, due = parts.connections.wheel, HOUSEKEEPING

        def on_tick(late: float) -> None:
            nonlocal due
            self.loop.ticks_late.add(late)
            if wheel.current >= due:
                due = wheel.current + HOUSEKEEPING
                self._keep_house(heap)
            parts.garbage.tick(trio.current_time())

        await parts.poller.run_wheel(on_tick=on_tick)

    def _keep_house(self, heap: Heap) -> None:
        """Queue the chores of each second, as steps of their own: beside a crowd some take more than a millisecond."""
        parts, services = self.parts, self.parts.services
        for chore in (
            parts.hub.tick, parts.admission.tick, services.write_limits.sweep, parts.search_limits.sweep,
            services.search_results.sweep, parts.connections.lines.report, services.identities.sweep,
            services.moderation.sweep, services.slow_mode.sweep, services.audit.sweep,
            parts.connections.demotion.sweep,
            partial(heap.tick, parts.connections.held, parts.hub.budget.used),
        ):  # fmt: skip
            parts.connections.scheduler.submit(Priority.FIRST, self._attempt, chore)

    async def _retain(self) -> None:
        settings, policies = self.settings, self.parts.services.identities.access.policies
        messages, age_ms = settings.retain_messages, int(settings.retain_age * 1000)
        if not (messages or age_ms or policies.retain):
            return
        is_failing = False  # and the log says so already
        while True:
            await trio.sleep(RETENTION)
            try:
                firsts = await self.parts.log.retain(partial(policies.keeps, messages, age_ms))
            except LogError as error:
                if not is_failing:  # a disk may be full for a day
                    _log.warning("retention_failed", reason=str(error))
                is_failing = True
            except Exception:  # noqa: BLE001
                self.parts.connections.faults.caught(self)
            else:
                is_failing = False
                self._attempt(partial(self.parts.services.search_results.forget, firsts))
                chores = (partial(self.parts.hub.retained, {room: first}) for room, first in firsts.items())
                await in_steps(map(self._attempt, chores))

    def _attempt(self, chore: Callable[[], object]) -> None:
        """Run a chore. An exception in it is logged and costs this one run, but no connection."""
        try:
            chore()
        except Exception:  # noqa: BLE001
            self.parts.connections.faults.caught(self)

    async def _reload_at_hangup(self, *, task_status: trio.TaskStatus[None]) -> None:
        """At SIGHUP, read certificate and keys again, for connections and tokens from then on."""
        terminal_closed = watch_terminal()
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if terminal_closed():
                    break
                self._attempt(self._reload)
        signal.raise_signal(signal.SIGTERM)

    def _reload(self) -> None:
        if self._engine is None and self._keys is None:
            _log.info("nothing_to_reload")
        if self._keys is not None:
            self._reload_keys(self._keys)
        if self._engine is not None:
            self._reload_certificate(self._engine)

    def _reload_keys(self, keys: KeyRing) -> None:
        try:
            keys.reload()
        except ConfigError as error:
            _log.error("token_keys_not_reloaded", reason=str(error))
        else:
            _log.info("token_keys_reloaded", keys=len(keys))
        if self._published is not None:
            self._published.fetch()

    def _reload_certificate(self, engine: TlsEngine) -> None:
        try:
            engine.context, engine.expires = self._load_certificate()
        except ConfigError as error:
            _log.error("certificate_not_reloaded", reason=str(error))
        else:
            _log.info("certificate_reloaded", path=self.settings.tls_cert)

    def _load_certificate(self) -> tuple[ssl.SSLContext, float]:
        settings = self.settings
        context = load_context(settings.tls_cert, settings.tls_key)
        expires, doubts = examine(settings.tls_cert, map(forms.host, settings.allow_host))
        for doubt in doubts:
            _log.warning("certificate_doubtful", path=settings.tls_cert, reason=doubt)
        return context, expires

    # -- draining ---------------------------------------------------------------------------------------------------

    async def _drain(self, *, is_replaced: bool) -> None:
        """Accept no peer, send all connections away with a time to come back, and wait until they are closed."""
        parts, timeout = self.parts, self.settings.drain_timeout
        if self._supervised is not None and not is_replaced:  # else its supervisor's sockets go on listening
            self._attempt(partial(self._supervised.listening.refuse, 0))
        self._attempt(parts.poller.stop_accepting)  # other processes may have these sockets too, and serve their queues
        with trio.move_on_after(timeout * (1 - FAREWELL_SHARE)):
            if is_replaced:
                with trio.move_on_after(timeout * ARRIVAL_SHARE):
                    await self._until_all_have_asked()
            self._ready = False
            parts.responder.draining = True
            await self._queue_for_each(parts.farewell.send_away)
            await self._until_gone()
        await self._queue_for_each(parts.farewell.cut_short)
        await self._until_gone()

    async def _until_all_have_asked(self) -> None:
        """Wait until no request or handshake is incomplete: such a peer could not know that it has to ask again."""
        table = self.parts.connections.table
        while any(  # noqa: ASYNC110  as below
            await in_steps(ROWS[each.state].reclaim is Reclaim.ASKING for each in table if each is not None)
        ):
            await trio.sleep(DRAIN_POLL_INTERVAL)

    async def _queue_for_each(self, act: Callable[[Connection], None]) -> None:
        """Act on each connection at its network's turn: a flood would leave this task a tenth of the time."""
        connections = self.parts.connections

        def step(connection: Connection) -> bool:
            return connections.step(connection, act)

        await in_steps(map(partial(connections.submit, step), filter(None, connections.table)))

    async def _until_gone(self) -> None:
        while self.parts.connections.held:  # noqa: ASYNC110  an event set at each close would slow the hot path
            await trio.sleep(DRAIN_POLL_INTERVAL)
