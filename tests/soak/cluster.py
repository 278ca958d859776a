"""The nodes and their storage: one file, or a PostgreSQL server and two Valkey shards.

Owns: the engines, and how each is started and ended. May not: choose the troubles.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.soak.ledger import Violation
from tests.soak.nodes import Node
from tests.support.partition import Link
from tests.support.postgres import PostgresServer, private_server
from tests.support.valkeys import Valkey, url_of, valkeys

SHARDS, NODES = 2, 2
#: Lines of faults from the nodes' logs that are shown: enough for a traceback or two.
FAULT_LINES = 120


@dataclass
class Cluster:
    """The nodes and all that they depend on."""

    nodes: list[Node]
    database: PostgresServer | None = None
    links: list[Link] = field(default_factory=list)  # of each node to the database
    shards: list[Valkey] = field(default_factory=list)

    async def until_up(self) -> None:
        for node in self.nodes:
            await node.up.wait()


@asynccontextmanager
async def one_machine(folder: Path, *, workers: int) -> AsyncIterator[Cluster]:
    """A supervisor whose workers share one file."""
    node = Node("node-1", folder, "--log", f"sqlite:{folder / 'chat.db'}", workers=workers)
    async with _running(Cluster([node])) as it:
        yield it


@asynccontextmanager
async def two_machines(folder: Path, *, workers: int) -> AsyncIterator[Cluster]:
    """Nodes on one database, each behind its own link, and shards."""
    with ExitStack() as stack:
        database = stack.enter_context(private_server())
        await trio.to_thread.run_sync(database.start)
        shards = stack.enter_context(valkeys(folder, SHARDS))
        async with trio.open_nursery() as nursery:
            links = [Link(database.port) for _ in range(NODES)]
            for link in links:
                await nursery.start(link.run)
            nodes = [
                Node(
                    f"node-{number}", folder, "--log", database.url("postgres", port=link.port),
                    "--shared", url_of(shards), workers=workers,
                )
                for number, link in enumerate(links, 1)
            ]  # fmt: skip
            cluster = Cluster(nodes, database, links, shards)
            async with _running(cluster):
                yield cluster
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _running(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The nodes run during the block, and have ended after it."""
    try:
        async with trio.open_nursery() as nursery:
            for node in cluster.nodes:
                nursery.start_soon(node.run)
            await cluster.until_up()
            yield cluster
            async with trio.open_nursery() as ends:
                for node in cluster.nodes:
                    ends.start_soon(node.stop)
        faults = [line for node in cluster.nodes for line in node.faults()]
        if faults:
            raise Violation(f"{len(faults)} lines in the logs are faults:\n{''.join(faults[:FAULT_LINES])}")
    finally:
        with trio.CancelScope(shield=True):
            for node in cluster.nodes:
                await node.kill()
