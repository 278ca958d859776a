"""Two workers beside one: connects and publishes a second, CPU of each, delivery to the other worker, memory.

How: two servers, one with `--workers 1` and one with `--workers 2`, in turns. CPU is that of all processes of a server,
with the supervisor. On two cores each worker is limited to half a core by a quota (see `quota`), so that two workers
have one core and this client has the other; without quotas rates are not judged, and only CPU is told. The supervisor
has no quota. Publishes are measured once more with the file in memory, since both workers share the disk's syncs.
Delivery: members and publishers in each worker, one message at a time, without quotas. Memory: Pss of all processes of
fresh servers, with as many idle members for each worker.
What would fool it: a client that is the bottleneck, so its share of a core is in the details; a worker that did not
use its quota, so the servers' shares are there too; a quota that stops a worker while it holds the lock on the file,
for which the other one then waits: that counts against two workers.
"""

import itertools
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeAlias

from chatserver.net.states import State
from loadgen.net.sockets import SockDiag
from loadgen.run import procfs
from tests.bench import memory, quota, wire
from tests.bench.clients import HELLO, Client, Crowd, OnData, Step, ignore, joins, must_live
from tests.bench.figures import TIMES, Figure, Result, Scale, at_least, at_most, compared, spread
from tests.bench.handshakes import rest
from tests.bench.processes import Process, chatserver
from tests.bench.publishers import Publisher, measure


def _gain(name: str) -> Figure:
    return at_least(f"two workers: {name}, of one's", TIMES, bound=1.6, aim=1.9)


def _cost(name: str) -> Figure:
    return at_most(f"two workers: CPU of {name}, of one's", TIMES, bound=1.25, aim=1.05)


CONNECT, CONNECT_CPU = _gain("connects and joins a second"), _cost("a connect and join")
PUBLISH, PUBLISH_CPU = _gain("durable publishes a second"), _cost("a durable publish")
UNSYNCED, UNSYNCED_CPU = _gain("publishes a second where no sync is needed"), _cost("a publish there")
LATER = at_most("delivery to a member of the other worker: p50, beyond that within one", " ms", bound=3, aim=1)
MEMORY = at_most("two workers: memory of an idle WebSocket, beyond that of one's", " B", bound=100, aim=25)
ROUNDS, MEMORY_ROUNDS = 5, 3
CONNECTS = 2_500
#: Idle members of each worker: heaps and tables grow in steps, so workers are compared at the same number.
HELD = 9_000
#: Enough publishers for commits of the largest size in each worker.
PUBLISHERS, ROOMS = 1_000, 20
#: A folder in memory.
NO_DISK = Path("/dev/shm")
#: The share of a core of each worker.
SHARE = 0.5
#: Seconds between two messages, at least and at most, so that they do not follow the rhythm of commits.
PAUSES = 0.002, 0.006
#: Connections opened at most until each worker has one.
TRIES = 64


@dataclass(frozen=True, slots=True)
class Turn:
    """The figures of one server in a turn."""

    cpu: float  # µs of the server's for each operation
    rate: float  # operations a second
    theirs: float  # of a core, by the server
    ours: float  # of a core, by this client


Pair: TypeAlias = tuple[Turn, Turn]  # of one worker, of two


def run(scale: Scale) -> Iterator[Result]:
    place = quota.find()
    yield _memory(scale)
    rounds, count, seconds = scale.of(ROUNDS, 1), scale.of(CONNECTS, 50), scale.of(3.0, 0.2)
    publishers = scale.of(PUBLISHERS, 20)
    with _servers() as (one, two):
        yield _delivery(one, two, scale.of(1_500, 20))
        with _limited(place, [*_workers(one), *_workers(two)]), _sides(one, two, publishers) as sides:
            connects = _turns(sides, lambda side: side.connect(count), rounds)
            publishes = _turns(sides, lambda side: side.publish(seconds), rounds)
    yield from _results(CONNECT, CONNECT_CPU, connects, limited=place is not None)
    yield from _results(PUBLISH, PUBLISH_CPU, publishes, limited=place is not None)
    if place is not None and NO_DISK.is_dir():
        with (
            _servers(NO_DISK) as (one, two), _limited(place, [*_workers(one), *_workers(two)]),
            _sides(one, two, publishers) as sides,
        ):  # fmt: skip
            publishes = _turns(sides, lambda side: side.publish(seconds), rounds)
        yield from _results(UNSYNCED, UNSYNCED_CPU, publishes, limited=True)


@contextmanager
def _servers(folder: Path | None = None) -> Iterator[tuple[Process, Process]]:
    """Servers with one worker and with two, each with its own log."""
    with (
        TemporaryDirectory(prefix="chatserver-bench-", dir=folder) as logs,
        chatserver("--workers", "1", log=f"sqlite:{logs}/one.db") as one,
        chatserver("--workers", "2", log=f"sqlite:{logs}/two.db") as two,
    ):
        yield one, two


def _results(gain: Figure, cost: Figure, turns: Sequence[Pair], *, limited: bool) -> Iterator[Result]:
    shares = [f"{median([pair[side].theirs for pair in turns]):.0%}" for side in (1, 0)]
    ours = max(median([pair[side].ours for pair in turns]) for side in (0, 1))
    if limited:
        how = f"each worker had {SHARE:g} of a core by a quota, so that the client has a core beside two of them"
    else:
        how = f"no quotas can be set here, and workers and client share {os.cpu_count()} cores: the rate is not judged"
    more = f"; the servers used {shares[0]} and {shares[1]} of a core, the client {ours:.0%}; {how}"
    rates = compared(gain, *([pair[side].rate for pair in turns] for side in (1, 0)), unit="/s", more=more)
    if limited:
        yield rates
    others = "" if limited else f"; {rates.details}"
    yield compared(cost, *([pair[side].cpu for pair in turns] for side in (1, 0)), unit=" µs", more=others)


def _limited(place: quota.Place | None, pids: list[int]) -> AbstractContextManager[None]:
    return nullcontext() if place is None else quota.limited(place, SHARE, pids)


def _workers(server: Process) -> list[int]:
    """The processes of the workers: the server itself if it has one, else its children."""
    found = procfs.Process(server.pid).tree()
    return found[1:] or found


# -- rates ------------------------------------------------------------------------------------------------------------


class Rooms(Publisher):
    """Publishes to several rooms in turn."""

    def __init__(self, rooms: int) -> None:
        super().__init__(b"")
        self._next = itertools.cycle([wire.publish(f"room-{number}", wire.TEXT) for number in range(rooms)])

    def frames(self, count: int) -> bytes:
        return b"".join(itertools.islice(self._next, count))


class Side:
    def __init__(self, server: Process, crowd: Crowd, publishers: int) -> None:
        self._server = server
        self._crowd = crowd
        self._publisher = Rooms(ROOMS)
        self._publishers = crowd.open(publishers, [HELLO], self._publisher)
        self._rooms = (f"joined-{number}" for number in itertools.count())

    def connect(self, count: int) -> Turn:
        """Open WebSockets that join a room, then close them."""
        script = [HELLO, joins(next(self._rooms))]
        cpu, shares, began = self._server.cpu(), Shares(self._server), time.perf_counter()
        opened = self._crowd.open(count, script, ignore)
        turn = Turn((self._server.cpu() - cpu) / count * 1e6, count / (time.perf_counter() - began), *shares.taken())
        self._crowd.hang_up(opened)
        rest(self._server)
        return turn

    def publish(self, seconds: float) -> Turn:
        shares = Shares(self._server)
        cpu, rate = measure(self._server, self._crowd, self._publisher, self._publishers, seconds)
        return Turn(cpu, rate, *shares.taken())


class Shares:
    """The shares of a core that a server and this client use from now on."""

    def __init__(self, server: Process) -> None:
        self._server = server
        self._began = self._now()

    def taken(self) -> tuple[float, float]:
        """The server's share and ours."""
        elapsed, theirs, ours = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return theirs / elapsed, ours / elapsed

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), self._server.cpu(), time.process_time()


@contextmanager
def _sides(one: Process, two: Process, publishers: int) -> Iterator[tuple[Side, Side]]:
    with Crowd(one.address) as crowd, Crowd(two.address) as other:
        yield Side(one, crowd, publishers), Side(two, other, publishers)


def _turns(sides: tuple[Side, Side], turn: Callable[[Side], Turn], rounds: int) -> list[Pair]:
    """Turns of both servers; the first one only warms up."""
    one, two = sides
    return [(turn(one), turn(two)) for _ in range(rounds + 1)][1:]


# -- delivery ---------------------------------------------------------------------------------------------------------


class Heard:
    """Records when each member of a room has received the message with `text`."""

    def __init__(self) -> None:
        self.text = b""
        self.at: dict[Client, float] = {}

    def __call__(self, client: Client, data: bytes) -> None:
        must_live(client, data)
        client.inbox += data
        if self.text in client.inbox:
            self.at[client] = time.perf_counter()
            client.inbox = b""


def _delivery(one: Process, two: Process, messages: int) -> Result:
    (alone, _), (within, across) = _latencies(one, messages), _latencies(two, messages)
    p50, p99 = (
        [statistics.quantiles(times, n=100)[rank] * 1e3 for times in (alone, within, across)] for rank in (49, 98)
    )
    return Result(
        figure=LATER,
        samples=[p50[2] - p50[1]],
        details=f"p50 {p50[2]:.2f} ms across, {p50[1]:.2f} within, {p50[0]:.2f} of one worker alone; p99"
        f" {p99[2]:.2f}, {p99[1]:.2f}, {p99[0]:.2f}; {messages:,} durable messages, one at a time, no quotas",
    )


def _latencies(server: Process, messages: int) -> tuple[list[float], list[float]]:
    """Seconds until a member has a message: on its publisher's worker, and on another."""
    within: list[float] = []
    across: list[float] = []
    chance = random.Random(1)
    heard = Heard()
    with Crowd(server.address) as crowd, closing(SockDiag()) as kernel:
        workers = _workers(server)
        members = _one_each(crowd, kernel, workers, [HELLO, joins("delivery")], heard)
        publishers = _one_each(crowd, kernel, workers, [HELLO], ignore)
        for number in range(messages):
            worker = workers[number % len(workers)]
            heard.text, heard.at = f"message {number} of".encode(), {}
            frame = wire.publish("delivery", f"message {number} of {messages}")
            sent = time.perf_counter()
            publishers[worker].socket.send(frame)
            while len(heard.at) < len(members):
                if not crowd.turn(5.0):
                    raise TimeoutError("a member did not hear a message")
            for its, member in members.items():
                (within if its == worker else across).append(heard.at[member] - sent)
            crowd.run(chance.uniform(*PAUSES))
    return within, across


def _one_each(
    crowd: Crowd, kernel: SockDiag, workers: Sequence[int], script: Sequence[Step], on_data: OnData
) -> dict[int, Client]:
    """A client on each worker."""
    found: dict[int, Client] = {}
    for _ in range(TRIES):
        [client] = crowd.open(1, script, on_data)
        found_there = kernel.ask(client.socket.family, client.socket.getpeername(), client.socket.getsockname())
        assert found_there is not None, "this kernel has both ends"
        worker = next(pid for pid in workers if f"socket:[{found_there.inode}]" in _open_files(pid))
        if worker in found:
            crowd.hang_up([client])
        found.setdefault(worker, client)
        if len(found) == len(workers):
            return found
    raise RuntimeError(f"{TRIES} connections came to {len(found)} of {len(workers)} workers")


def _open_files(pid: int) -> Iterator[str]:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            yield str(each.readlink())


# -- memory -----------------------------------------------------------------------------------------------------------


def _memory(scale: Scale) -> Result:
    [kind] = [each for each in memory.KINDS if each.state is State.OPEN and each.steps is None]
    count, settle = scale.of(HELD, 100), scale.of(memory.SETTLE, 0.3)
    bytes_each: list[list[float]] = []
    for _ in range(scale.of(MEMORY_ROUNDS, 1)):
        with _servers() as servers:
            bytes_each.append([])
            for workers, server in enumerate(servers, 1):
                with Crowd(server.address) as crowd:
                    measured = memory.measure(kind, server, crowd, workers * count, settle=settle)
                    bytes_each[-1].append(measured.value)
    one, two = zip(*bytes_each, strict=True)
    return Result(
        figure=MEMORY,
        samples=[both - alone for alone, both in bytes_each],
        details=f"{spread(two)} B against {spread(one)} B; {count:,} held for each worker",
    )
