"""`python -m tests.cluster`: a cluster on this machine, to try: nodes with workers, on PostgreSQL and Valkey servers.

Everything is on the loopback, and in a folder that is removed. Unknown flags are passed to `chatserver serve`.

Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 it could not start, or a node has ended by itself.
"""

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from chatserver.client.stream import parse_target
from chatserver.doctor.command import examine
from chatserver.doctor.facts import Report
from chatserver.doctor.report import print_report
from chatserver.exits import innermost
from tests.support.peers import ask
from tests.support.postgres import private_server
from tests.support.serving import ServerProcess, eventually, sample, server_process
from tests.support.valkeys import url_of, valkeys

#: Seconds for the nodes to drain: the default of `serve`, and a margin for its workers.
DRAIN = 20.0
SHARDS = 2
#: Characters of a node's log that are shown when it has ended.
FAREWELL_SHARE = 2_000


class NodeEndedError(Exception):
    """A node has ended or has not started; the argument is its log."""


def main(words: Sequence[str]) -> int:
    """Run a cluster as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of each node (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8001, help="of the first node; 0: any (default: %(default)s)")
    arguments, flags = parser.parse_known_args(words)
    code = 0
    try:
        run(arguments.nodes, arguments.port, ["--workers", str(arguments.workers), *flags])
    # tests/support has the message for a missing program.
    except* (NodeEndedError, AssertionError, pytest.skip.Exception, pytest.fail.Exception) as group:
        sys.stderr.write(f"cluster: {innermost(group)}\n")
        code = 1
    except* KeyboardInterrupt:
        pass
    return code


def run(count: int, port: int, flags: Sequence[str]) -> None:
    """Run the cluster until a signal."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-cluster-")))
        say(f"starting PostgreSQL and {SHARDS} Valkey shards")
        database = stack.enter_context(private_server())
        database.start()
        shards = stack.enter_context(valkeys(folder, SHARDS))
        shared = ("--log", database.url(), "--shared", url_of(shards))
        say(f"starting {count} nodes: chatserver serve {' '.join((*flags, *shared))}")
        ports = [port and port + number for number in range(count)]
        trio.run(show, folder, ports, (*flags, *shared))


async def show(folder: Path, ports: Sequence[int], flags: Sequence[str]) -> None:
    """Start the nodes, examine them once, and run until a signal. A second signal has no effect."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_at_signal, signals, nursery.cancel_scope)
            async with nodes(folder, ports, flags) as running:
                say("\n".join(("", *map(url_of_node, running), "")))
                print_report(await examined(running), sys.stdout)
                say(f"\nOpen them in two windows: they are one chat. Logs are in {folder}; Ctrl-C ends everything.")
                for node in running:
                    nursery.start_soon(watch, node)
                await trio.sleep_forever()


async def end_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    say("ending")
    scope.cancel()


async def examined(running: Sequence[ServerProcess]) -> Report:
    """The report of `chatserver doctor` about the nodes."""
    return await examine({url: parse_target(url) for url in map(url_of_node, running)}, "", "doctor")


def url_of_node(node: ServerProcess) -> str:
    return node.lines[0].removeprefix("listening on ")


async def watch(node: ServerProcess) -> None:
    code = await node.process.wait()
    raise NodeEndedError(f"a node has ended with code {code}: {node.errors[-FAREWELL_SHARE:].strip()}")


@asynccontextmanager
async def nodes(folder: Path, ports: Sequence[int], flags: Sequence[str]) -> AsyncIterator[list[ServerProcess]]:
    """Servers with these flags, ready and connected to the shards; drained concurrently after the block."""
    running: list[ServerProcess] = []
    async with AsyncExitStack() as stack:
        try:
            for number, port in enumerate(ports, 1):
                home = folder / f"node-{number}"
                home.mkdir()
                # In the caller's folder, so that all nodes read the same files of the flags.
                start = server_process(home, "--port", str(port), *flags, life=math.inf, group=0, cwd=Path.cwd())
                node = await stack.enter_async_context(start)
                if not node.lines:
                    raise NodeEndedError(f"node {number} did not start: {node.errors[-FAREWELL_SHARE:].strip()}")
                running.append(node)
            for node in running:
                await eventually(partial(has_shards, node))
            yield running
        finally:
            with trio.move_on_after(DRAIN, shield=True):
                for node in running:
                    node.process.terminate()
                for node in running:
                    await node.process.wait()


async def has_shards(node: ServerProcess) -> bool:
    """Whether all workers of the node have found all shards, which a server does not wait for."""
    return sample((await ask(node.address, "GET", "/metrics")).body, "chatserver_shard_up") == SHARDS


def say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
