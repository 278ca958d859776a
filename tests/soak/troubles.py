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
from functools import partial

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
            await trio.to_thread.run_sync(partial(database.execute, statement, database=self.cluster.name))


# -- processes --------------------------------------------------------------------------------------------------------


async def kill_worker(it: Scene) -> None:
    node = it.node()
    it.send(node, KILL, it.worker(node))


async def kill_all_workers(it: Scene) -> None:
    for node in it.cluster.nodes:
        it.send(node, KILL, node.workers())


async def stop_worker(it: Scene) -> None:
    node = it.node()
    await it.hold(node, it.worker(node), it.between(STILL))


async def stop_worker_until_replaced(it: Scene) -> None:
    node = it.node()
    await it.hold(node, it.worker(node), REPLACED)


async def drain_worker(it: Scene) -> None:
    node = it.node()
    it.send(node, TERM, it.worker(node))


async def kill_supervisor(it: Scene) -> None:
    node = it.node()
    it.send(node, KILL, [node.main])


async def kill_node(it: Scene) -> None:
    node = it.node()
    it.send(node, KILL, node.processes())


async def kill_everything(it: Scene) -> None:
    for node in it.cluster.nodes:
        it.send(node, KILL, node.processes())


async def drain_node(it: Scene) -> None:
    node = it.node()
    it.send(node, TERM, [node.main])


async def replace_workers(it: Scene) -> None:
    node = it.node()
    await node.up.wait()  # before it listens for signals, this one would end it
    it.send(node, HANG_UP, [node.main])


async def stop_supervisor(it: Scene) -> None:
    node = it.node()
    await it.hold(node, [node.main], it.between(STILL))


async def stop_node(it: Scene) -> None:
    node = it.node()
    await it.hold(node, node.processes(), it.between(STILL))


async def kill_worker_beside_one_that_stands_still(it: Scene) -> None:
    node = it.node()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.hold, node, it.worker(node), it.between(STILL))
        await trio.sleep(it.between((0.0, 0.3)))
        it.send(node, KILL, it.worker(node))


# -- connections ------------------------------------------------------------------------------------------------------


async def cut_clients(it: Scene) -> None:
    for client in it.clients:
        if it.dice.random() < 0.5:
            client.cut()


async def cut_database(it: Scene) -> None:
    link = it.dice.choice(it.cluster.links)
    link.cut()
    await trio.sleep(it.between(AWAY))
    link.mend()


async def cut_behind_commit(it: Scene) -> None:
    """Cut the link after a commit: the database gets it, and the node gets no answer."""
    link = it.dice.choice(it.cluster.links)
    link.cut_behind(b"COMMIT")
    await trio.sleep(it.between(AWAY))
    link.mend()


# -- the database -----------------------------------------------------------------------------------------------------

_BACKENDS = "FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"


async def kill_backend(it: Scene) -> None:
    await it.execute(f"SELECT pg_terminate_backend(pid) {_BACKENDS} ORDER BY random() LIMIT 1")


async def kill_writing_backend(it: Scene) -> None:
    await it.execute(f"SELECT pg_terminate_backend(pid) {_BACKENDS} AND xact_start IS NOT NULL")


async def kill_all_backends(it: Scene) -> None:
    await it.execute(f"SELECT pg_terminate_backend(pid) {_BACKENDS}")


async def kill_listening_backends(it: Scene) -> None:
    await it.execute(
        f"SELECT pg_terminate_backend(pid) {_BACKENDS} AND (query LIKE 'LISTEN%' OR query LIKE 'SELECT (extract%')"
    )


async def crash_database(it: Scene) -> None:
    await _restart_database(it, "immediate", 0.0)


async def restart_database(it: Scene) -> None:
    await _restart_database(it, "fast", 0.0)


async def crash_database_for_a_while(it: Scene) -> None:
    await _restart_database(it, "immediate", it.between(AWAY))


async def _restart_database(it: Scene, mode: str, seconds: float) -> None:
    database = it.cluster.database
    assert database is not None
    await trio.to_thread.run_sync(database.stop, mode)
    await trio.sleep(seconds)
    await trio.to_thread.run_sync(database.start)


# -- shards -----------------------------------------------------------------------------------------------------------


async def restart_shard(it: Scene) -> None:
    shard = it.dice.choice(it.cluster.shards)
    shard.kill()
    await trio.sleep(it.between(STILL))
    await trio.to_thread.run_sync(shard.start)


async def stop_shard(it: Scene) -> None:
    with it.dice.choice(it.cluster.shards).held_up():
        await trio.sleep(it.between(STILL))


async def forget_all(it: Scene) -> None:
    for shard in it.cluster.shards:
        await trio.to_thread.run_sync(_flush, shard)


def _flush(shard: Valkey) -> None:
    with socket.create_connection(("127.0.0.1", shard.port), timeout=60.0) as peer:
        peer.sendall(b"FLUSHALL\r\n")
        assert peer.recv(64) == b"+OK\r\n"


# -- the list ---------------------------------------------------------------------------------------------------------

Do = Callable[[Scene], Awaitable[None]]

#: With the weight of each.
EVERYWHERE: dict[Do, int] = {
    kill_worker: 12,
    kill_all_workers: 2,
    stop_worker: 4,
    stop_worker_until_replaced: 1,
    drain_worker: 2,
    kill_supervisor: 2,
    kill_node: 2,
    kill_everything: 1,
    drain_node: 1,
    replace_workers: 2,
    stop_supervisor: 1,
    stop_node: 2,
    kill_worker_beside_one_that_stands_still: 2,
    cut_clients: 3,
}
ON_A_DATABASE: dict[Do, int] = {
    cut_database: 2,
    cut_behind_commit: 3,
    kill_backend: 4,
    kill_writing_backend: 4,
    kill_all_backends: 2,
    kill_listening_backends: 2,
}
ON_OUR_DATABASE: dict[Do, int] = {crash_database: 3, restart_database: 1, crash_database_for_a_while: 1}
ON_SHARDS: dict[Do, int] = {restart_shard: 2, stop_shard: 1, forget_all: 1}


def troubles_of(cluster: Cluster) -> dict[Do, int]:
    """The troubles that this cluster can have."""
    found = dict(EVERYWHERE)
    if cluster.database is not None:
        found |= ON_A_DATABASE
    if cluster.is_ours:
        found |= ON_OUR_DATABASE
    if cluster.shards:
        found |= ON_SHARDS
    return found
