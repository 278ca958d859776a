"""The troubles of a cluster, one at a time: each ends with everything restored that it took away.

Owns: the list, and how often each is chosen. May not: judge the consequences.
"""

import random
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
import trio

from tests.soak.clients import Client
from tests.soak.cluster import Cluster
from tests.soak.nodes import Node
from tests.support.valkeys import Valkey

KILL, TERM, STOP, GO, HANG_UP = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP
#: Seconds: the shortest and the longest stop, and the time in which a supervisor replaces a stopped worker (ten checks,
#: a second apart) with a margin.
STILL, REPLACED = (0.3, 3.0), 14.0
#: Seconds for which a database or the way to it is away: below and above the deadline of one of the nodes' statements.
AWAY = (1.0, 7.0)


@dataclass
class Scene:
    """The cluster under its clients, and the dice that choose."""

    cluster: Cluster
    clients: Sequence[Client]
    dice: random.Random
    signals: Counter[str] = field(default_factory=Counter)  # by name of the signal, each process

    def node(self) -> Node:
        return self.dice.choice(self.cluster.nodes)

    def worker(self, node: Node) -> list[int]:
        """One of a node's workers, if it has any now."""
        workers = node.workers()
        return [self.dice.choice(workers)] if workers else []

    def workers(self, node: Node) -> list[int]:
        return node.workers()

    def supervisor(self, node: Node) -> list[int]:
        return [node.main]

    def everybody(self, node: Node) -> list[int]:
        return node.processes()

    def send(self, node: Node, number: signal.Signals, processes: Sequence[int]) -> None:
        self.signals[number.name] += len(processes)
        node.send(number, *processes)

    async def hold(self, node: Node, processes: Sequence[int], seconds: float) -> None:
        """Stop these processes for `seconds`."""
        self.send(node, STOP, processes)
        try:
            await trio.sleep(seconds)
        finally:
            node.send(GO, *processes)

    def between(self, bounds: tuple[float, float]) -> float:
        """Random seconds."""
        return self.dice.uniform(*bounds)

    async def execute(self, statement: str) -> None:
        """Execute a statement on a new connection to the database."""
        assert self.cluster.database is not None
        database = self.cluster.database
        with suppress(psycopg.OperationalError):  # it is away: another trouble is under way
            await trio.to_thread.run_sync(database.execute, statement)


Do = Callable[[Scene], Awaitable[None]]


# -- processes --------------------------------------------------------------------------------------------------------

Whom = Callable[[Scene, Node], Sequence[int]]


def _send(number: signal.Signals, whom: Whom, *, everywhere: bool = False) -> Do:
    """Send a signal to some processes of a node, or of all nodes."""

    async def do(it: Scene) -> None:
        for node in it.cluster.nodes if everywhere else [it.node()]:
            it.send(node, number, whom(it, node))

    return do


def _hold(whom: Whom, bounds: tuple[float, float] = STILL) -> Do:
    """Stop some processes of a node for a while."""

    async def do(it: Scene) -> None:
        node = it.node()
        await it.hold(node, whom(it, node), it.between(bounds))

    return do


async def _replace_workers(it: Scene) -> None:
    node = it.node()
    await node.up.wait()  # before it listens for signals, this one would end it
    it.send(node, HANG_UP, [node.main])


async def _kill_worker_beside_one_that_stands_still(it: Scene) -> None:
    node = it.node()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.hold, node, it.worker(node), it.between(STILL))
        await trio.sleep(it.between((0.0, 0.3)))
        it.send(node, KILL, it.worker(node))


# -- connections ------------------------------------------------------------------------------------------------------


async def _cut_clients(it: Scene) -> None:
    for client in it.clients:
        if it.dice.random() < 0.5:
            client.cut()


async def _cut_database(it: Scene) -> None:
    link = it.dice.choice(it.cluster.links)
    link.cut()
    await trio.sleep(it.between(AWAY))
    link.mend()


async def _cut_behind_commit(it: Scene) -> None:
    """Cut the link after a commit: the database gets it, and the node gets no answer."""
    link = it.dice.choice(it.cluster.links)
    link.cut_behind(b"COMMIT")
    await trio.sleep(it.between(AWAY))
    link.mend()


# -- the database -----------------------------------------------------------------------------------------------------


def _kill_backends(which: str = "") -> Do:
    """End connections of the database, chosen by this end of a query."""

    async def do(it: Scene) -> None:
        await it.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = current_database() AND pid != pg_backend_pid() {which}"
        )

    return do


def _restart_database(mode: str, bounds: tuple[float, float] = (0.0, 0.0)) -> Do:
    async def do(it: Scene) -> None:
        database = it.cluster.database
        assert database is not None
        await trio.to_thread.run_sync(database.stop, mode)
        await trio.sleep(it.between(bounds))
        await trio.to_thread.run_sync(database.start)

    return do


# -- shards -----------------------------------------------------------------------------------------------------------


async def _restart_shard(it: Scene) -> None:
    shard = it.dice.choice(it.cluster.shards)
    shard.kill()
    await trio.sleep(it.between(STILL))
    await trio.to_thread.run_sync(shard.start)


async def _stop_shard(it: Scene) -> None:
    with it.dice.choice(it.cluster.shards).held_up():
        await trio.sleep(it.between(STILL))


async def _forget_all(it: Scene) -> None:
    for shard in it.cluster.shards:
        await trio.to_thread.run_sync(_flush, shard)


def _flush(shard: Valkey) -> None:
    with socket.create_connection(("127.0.0.1", shard.port), timeout=60.0) as peer:
        peer.sendall(b"FLUSHALL\r\n")
        assert peer.recv(64) == b"+OK\r\n"


# -- the list ---------------------------------------------------------------------------------------------------------

#: Each trouble with its weight.
EVERYWHERE: dict[str, tuple[int, Do]] = {
    "kill worker": (12, _send(KILL, Scene.worker)),
    "kill all workers": (2, _send(KILL, Scene.workers, everywhere=True)),
    "stop worker": (4, _hold(Scene.worker)),
    "stop worker until replaced": (1, _hold(Scene.worker, (REPLACED, REPLACED))),
    "drain worker": (2, _send(TERM, Scene.worker)),
    "kill supervisor": (2, _send(KILL, Scene.supervisor)),
    "kill node": (2, _send(KILL, Scene.everybody)),
    "kill everything": (1, _send(KILL, Scene.everybody, everywhere=True)),
    "drain node": (1, _send(TERM, Scene.supervisor)),
    "replace workers": (2, _replace_workers),
    "stop supervisor": (1, _hold(Scene.supervisor)),
    "stop node": (2, _hold(Scene.everybody)),
    "kill worker beside one that stands still": (2, _kill_worker_beside_one_that_stands_still),
    "cut clients": (3, _cut_clients),
}
ON_A_DATABASE: dict[str, tuple[int, Do]] = {
    "cut database": (2, _cut_database),
    "cut behind commit": (3, _cut_behind_commit),
    "kill backend": (4, _kill_backends("ORDER BY random() LIMIT 1")),
    "kill writing backend": (4, _kill_backends("AND xact_start IS NOT NULL")),
    "kill all backends": (2, _kill_backends()),
    "kill listening backends": (
        2, _kill_backends("AND (query LIKE 'LISTEN%' OR query LIKE 'SELECT (extract%')"),
    ),
    "crash database": (3, _restart_database("immediate")),
    "restart database": (1, _restart_database("fast")),
    "crash database for a while": (1, _restart_database("immediate", AWAY)),
}  # fmt: skip
ON_SHARDS: dict[str, tuple[int, Do]] = {
    "restart shard": (2, _restart_shard),
    "stop shard": (1, _stop_shard),
    "forget all": (1, _forget_all),
}


def troubles_of(cluster: Cluster) -> dict[str, tuple[int, Do]]:
    """The troubles that this cluster can have."""
    found = dict(EVERYWHERE)
    if cluster.database is not None:
        found |= ON_A_DATABASE
    if cluster.shards:
        found |= ON_SHARDS
    return found
