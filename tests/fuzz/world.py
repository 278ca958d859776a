"""A whole server on a clock that the test moves, its peers, and trouble on order.

Owns: one server in a trio loop in its own thread, since hypothesis runs its rules synchronously; the loop stands still
between two rules. Real: `Server` with all its tasks, loopback TCP, epoll, TLS. Not real: the clock, the log's speed and
health, signals, and how much the scheduler does at a time (one step of each class). The garbage collector is left
alone. May not: judge; `invariants` does, and what it finds between two steps is kept in `breach`.

    world = World(secure=False, look=invariants.check)
    world.do(partial(world.wait, 3.0))
    world.end()
"""

import contextlib
import queue
import signal
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import trio
import trio.testing
from structlog.testing import capture_logs

from chatserver import server as server_module
from chatserver.api import conversation as conversation_module
from chatserver.chat import broadcast, catch_up, registry
from chatserver.chat.member import Member
from chatserver.net import scheduler, sockets, tls_handshake
from chatserver.net.connection import Connection
from chatserver.net.poller import PONG_NAP
from chatserver.net.states import Priority
from chatserver.observe.logs import Limiter
from chatserver.parts import Parts
from chatserver.server import Server
from chatserver.settings.fields import Settings
from tests.fuzz.grammar import APP
from tests.fuzz.moody_log import MoodyLog
from tests.fuzz.puppet import Puppet
from tests.fuzz.witness import NEIGHBOUR, Neighbour
from tests.support.certificates import certificate, trusting_any
from tests.support.parked import descriptors
from tests.support.peers import Address
from tests.support.serving import CalmCollector

#: Places, and places for one address: few, so that admission and eviction have work.
PLACES, PER_ADDRESS = 9, 5
#: The network of balancers, which send a PROXY header first and have no cap; and one of them.
PROXIES, PROXY = "127.0.4.0/24", "127.0.4.1"
#: Listening sockets: for all, and for operators.
LISTENERS = 2
#: How often a greedy client may receive and answer within one rule.
EXCHANGES = 20
#: Seconds after which a step of the world, or its end, has failed: a loop that spins or hangs is a bug as well.
PATIENCE = 60.0
#: Limits so short that even the short waits of the rules reach them.
SETTINGS: dict[str, Any] = {
    "port": 0, "log": "memory:", "per_ip": PER_ADDRESS, "evict_after": 1.0, "tls_deadline": 1.5, "head_deadline": 2.0,
    "body_deadline": 1.0, "body_deadline_max": 3.0, "keepalive_deadline": 4.0, "serving_deadline": 2.0,
    "poll_wait_max": 4.0, "heartbeat_interval": 2.0, "ping_interval": 3.0, "pong_deadline": 1.0,
    "message_deadline": 2.0, "flush_window": 2.0, "close_deadline": 0.5, "drain_timeout": 5.0, "max_fragments": 4,
    "max_rooms_per_connection": 3, "publish_rate": 20.0, "message_rate": 2.0,
    "request_rate": 5.0, "ring_messages": 16, "ring_bytes": 65_536, "send_buffer": 4096,
    "all_unfinished_bytes": 65_536, "max_empty_rooms": 2, "allow_origin": (APP,),
    "trusted_proxy": (PROXIES,), "proxy_protocol": True, "metrics_listen": "127.0.0.1:0",
}  # fmt: skip
#: Bounds so small that a handful of messages reaches them.
SMALL: list[tuple[Any, str, int]] = [
    (catch_up, "READ_PAGE", 5),
    (broadcast, "MAX_BEHIND", 30),
    (broadcast, "STEP_MEMBERS", 2),
    (broadcast, "STEP_POLLS", 1),
    (registry, "LATEST", 6),
    (conversation_module, "MAX_IN_FLIGHT", 10),
]
#: Bytes in all rings, and handshakes under way, at most: smaller than an operator could set them.
RINGS_BYTES, HALF_OPEN = 64 * 1024, 3
#: Seconds for each class in a round of the scheduler: enough for one step, so that much happens between two of them.
ONE_STEP = dict.fromkeys(Priority, 1e-9)

Result = TypeVar("Result")


class PlantedError(Exception):
    """A planted fault."""


_folder = tempfile.TemporaryDirectory()  # gone at the end of the process


@cache
def _certificate() -> tuple[str, str]:
    return certificate(Path(_folder.name))


class World:
    """Coroutines of this class are for `do`, which runs them in the world's thread."""

    def __init__(self, *, secure: bool, look: Callable[["World"], None]) -> None:
        self.secure = secure
        self.breach: AssertionError | None = None  # the first that `look` found between two steps
        self._look = look
        self._ambushes: list[tuple[int, Callable[[], None]]] = []  # rounds of the scheduler that are left
        self.clock = trio.testing.MockClock()
        self.log = MoodyLog()
        self.logs: list[Any] = []
        self.puppets: list[Puppet] = []
        self.neighbour = Neighbour()
        self.planted = 0  # faults that were ordered and met
        self.rooms_lost = False  # whether one of them may have cost a room what was under way in it
        self.draining = False
        self.exit_code: int | None = None
        self.fixed = 0  # descriptors that are no connection's
        self._really_outstanding = sockets.outstanding
        self._signals: dict[int, trio.MemorySendChannel[int]] = {}
        self._plants = contextlib.ExitStack()
        self._server: Server | None = None
        self._started: queue.SimpleQueue[trio.lowlevel.TrioToken | None] = queue.SimpleQueue()
        self._over = trio.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        token = self._started.get(timeout=PATIENCE)
        if token is None:
            self.end()
        self._token = token

    # -- the two threads --------------------------------------------------------------------------------------------

    def do(self, act: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return trio.from_thread.run(act, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            self.end()  # raises what broke the world
            raise

    def end(self) -> None:
        """Stop everything. Raises the error of the world's thread, if it had one."""
        if self._thread.is_alive() and self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the world did not end"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            trio.run(self._main, clock=self.clock)
        except BaseException as error:  # noqa: BLE001  handed to the other thread
            self._failure = error
        finally:
            self._started.put(None)

    async def _main(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(server_module, "print", create=True))
            for module, name, value in SMALL:
                stack.enter_context(mock.patch.object(module, name, value))
            stack.enter_context(mock.patch.object(server_module, "open_log", return_value=self.log))
            stack.enter_context(mock.patch.object(server_module, "Collector", CalmCollector))
            stack.enter_context(mock.patch.object(trio, "open_signal_receiver", self._receive_signals))
            stack.enter_context(mock.patch.object(sockets, "outstanding", self._outstanding))
            stack.enter_context(mock.patch.object(scheduler, "QUANTUM", ONE_STEP))
            stack.enter_context(mock.patch.object(tls_handshake, "MAX_HALF_OPEN", HALF_OPEN))
            stack.enter_context(self._plants)
            self.logs = stack.enter_context(capture_logs())
            async with trio.open_nursery() as nursery:
                cert, key = _certificate() if self.secure else ("", "")
                self._server = Server(Settings(**SETTINGS, tls_cert=cert, tls_key=key), total=PLACES)
                await nursery.start(self._serve, self._server)
                self.parts.connections.lines = Limiter(per_second=1000)  # each planted fault is looked for
                self.parts.hub.budget.most = RINGS_BYTES
                running = self.parts.connections.scheduler
                stack.enter_context(mock.patch.object(running, "round", partial(self._round, running.round)))
                nursery.start_soon(self.neighbour.live, self.address)
                await self.neighbour.joined.wait()
                await self.settle()
                self.fixed = descriptors() - 2
                self._started.put(trio.lowlevel.current_trio_token())
                await self._over.wait()
                nursery.cancel_scope.cancel()

    async def _serve(self, server: Server, *, task_status: trio.TaskStatus[None]) -> None:
        self.exit_code = await server.main(task_status=task_status)

    def _round(self, work: Callable[[], None]) -> None:
        """Run the ambushes that are due, check the invariants, then run a round of the scheduler."""
        due = [act for left, act in self._ambushes if left <= 0]
        self._ambushes = [(left - 1, act) for left, act in self._ambushes if left > 0]
        for act in due:
            act()
        if self.breach is None and self.fixed:
            try:
                self._look(self)
            except AssertionError as error:
                self.breach = error  # raised by who looks next at a quiet moment
        work()

    @contextlib.contextmanager
    def _receive_signals(self, *numbers: int) -> Iterator[AsyncIterator[int]]:
        send, receive = trio.open_memory_channel[int](10)
        self._signals |= dict.fromkeys(numbers, send)
        yield receive

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Parts:
        assert self._server is not None
        return self._server.parts

    @property
    def address(self) -> Address:
        assert self._server is not None
        return Address.of(self._server.addresses[0])

    @property
    def stopped(self) -> bool:
        """Whether the server has released all that it held for peers; its log may still run."""
        try:
            self.parts.connections._readiness.fileno()
        except ValueError:  # it is closed
            return True
        return False

    def took_all(self, connection: Connection) -> bool:
        """Whether the peer has acknowledged everything and no backlog is left."""
        return connection.backlog is None and self._outstanding(connection.descriptor) == 0

    @property
    def tls(self) -> ssl.SSLContext | None:
        return trusting_any() if self.secure else None

    # -- time -------------------------------------------------------------------------------------------------------

    async def settle(self, seconds: float = 0.0) -> None:
        """Wait until no task can run and nothing came for so many real seconds; then for the poller's nap."""
        await trio.testing.wait_all_tasks_blocked(seconds)
        if self.parts.poller.naps:
            await self.wait(PONG_NAP)
            await trio.testing.wait_all_tasks_blocked(seconds)

    async def wait(self, seconds: float) -> None:
        """Let time pass from deadline to deadline."""
        self.clock.autojump_threshold = 0.0
        await trio.sleep(seconds)
        self.clock.autojump_threshold = float("inf")

    async def stall(self, seconds: float) -> None:
        """Let time jump, as if the process had been stopped."""
        self.clock.jump(seconds)

    def _outstanding(self, descriptor: int) -> int:
        """Unacknowledged bytes, after all delayed acknowledgements were sent."""
        self.neighbour.acknowledge()
        for puppet in self.puppets:
            puppet.acknowledge()
        return self._really_outstanding(descriptor)

    # -- trouble ----------------------------------------------------------------------------------------------------

    def ambush(self, rounds: int, act: Callable[[], None]) -> None:
        """Call `act` after a number of further rounds of the scheduler, between two steps."""
        self._ambushes.append((rounds, act))

    def plant(self, owner: object, name: str, *, costs_rooms: bool = False) -> None:
        """Let the next call that is not for the neighbour raise."""
        original = getattr(owner, name)
        patch = mock.patch.object(owner, name)

        def fail(*arguments: object, **options: object) -> object:
            if any(map(_is_neighbours, arguments)):
                return original(*arguments, **options)
            patch.stop()
            self.planted += 1
            self.rooms_lost = self.rooms_lost or costs_rooms
            raise PlantedError(name)

        self._plants.callback(patch.stop)
        patch.start().side_effect = fail

    def refuse_to_accept(self, number: int, times: int) -> None:
        """Let the next accepts fail with this error."""
        left = [times]
        real = sockets.accept

        def accept(listening: Any) -> tuple[int, str]:
            if not left[0]:
                return real(listening)
            left[0] -= 1
            raise OSError(number, "ordered")

        self._plants.enter_context(mock.patch.object(sockets, "accept", accept))

    def heal(self) -> None:
        """End all trouble."""
        self._ambushes.clear()
        self._plants.close()
        self.log.delay = 0.0
        self.log.failing_reads = self.log.failing_commits = 0

    def drain(self) -> None:
        self.draining = self.neighbour.may_go = True
        self._signals[signal.SIGTERM].send_nowait(signal.SIGTERM)

    # -- peers ------------------------------------------------------------------------------------------------------

    def knock(self, source: str, *, small: bool, header: bytes = b"", operator: bool = False) -> Puppet:
        """Connect a new peer; a balancer sends a header first."""
        assert self._server is not None
        address = Address.of(self._server.metrics_address) if operator else self.address
        puppet = Puppet((address.host, address.port), source, small=small, tls=self.tls, header=header)
        self.puppets.append(puppet)
        return puppet

    async def listen(self) -> None:
        """Let greedy peers read and answer until nothing more comes."""
        for _ in range(EXCHANGES):
            await self.settle()
            heard = [puppet for puppet in self.puppets if puppet.greedy and puppet.hear()]
            for puppet in heard:
                puppet.send()
            if not heard:
                break

    async def greet(self, puppet: Puppet) -> None:
        """Do the TLS handshake, if there is one."""
        for _ in range(3 if self.secure else 0):
            puppet.send()
            await self.settle()
            puppet.hear()
        puppet.send()


def _is_neighbours(argument: object) -> bool:
    if isinstance(argument, Member):
        principal = argument.room.members.get(argument)
        return principal is not None and principal.network == NEIGHBOUR
    return isinstance(argument, Connection) and argument.address == NEIGHBOUR
