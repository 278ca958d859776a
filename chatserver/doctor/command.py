"""The examination: each node alone, then messages among the nodes on one log.

Owns: its order, the command's exit code. May not: query a node or conclude anything itself.

Exit codes: 0 all is well (there may be warnings), 1 something is wrong, 2 bad flags.
"""

import re
import secrets
import sys
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

import msgspec
import trio
from rich.console import Console

from chatserver.client.credentials import Credentials
from chatserver.client.stream import Target
from chatserver.doctor.delivery import ENTRY_PATIENCE, EXIT_PATIENCE, Exchange, Observer
from chatserver.doctor.facts import Delivery, Node, Report, Severity, Trouble
from chatserver.doctor.findings import conclude
from chatserver.doctor.inquiry import inquire
from chatserver.doctor.report import print_report
from chatserver.exits import EXIT_CLEAN, EXIT_FAULT
from chatserver.settings.spec import ConfigError
from chatserver.terminal.arguments import read_target, read_token

#: A room's name that has room for what is added for each node.
_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")


def run(urls: Sequence[str], *, token: str, room: str, json: bool) -> int:
    """Run `chatserver doctor` and return its exit code. Raises ConfigError."""
    targets = {url: read_target(url) for url in urls}
    secret = read_token(token)
    if not _ROOM.fullmatch(room):
        raise ConfigError("room", "1 to 50 characters of a-z 0-9 . _ - that begin with a letter or digit")
    if len(set(targets.values())) < len(urls):
        raise ConfigError("", "URL: one is given twice")
    with Console(stderr=True).status("asking ..."):  # shows nothing without a terminal
        report = trio.run(examine, targets, secret, room)
    if json:
        print(msgspec.json.encode(report).decode())  # noqa: T201
    else:
        print_report(report, sys.stdout)
    return EXIT_CLEAN if report.ok else EXIT_FAULT


async def examine(targets: dict[str, Target], token: str, room: str) -> Report:
    """Examine all nodes. `targets` are keyed by the given URLs."""
    nodes = [Node(url=url) for url in targets]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(inquire, node, targets[node.url], Credentials(token=token), room)
    epoch = attrgetter("epoch")
    well = sorted((node for node in nodes if node.trouble is None), key=epoch)
    deliveries: list[Delivery] = []
    for _, group in groupby(well, key=epoch):
        deliveries += await _exchange(list(group), token, room)
    findings = conclude(nodes, deliveries)
    ok = all(finding.severity is not Severity.FAULT for finding in findings)
    return Report(ok=ok, nodes=nodes, deliveries=deliveries, findings=findings)


async def _exchange(nodes: Sequence[Node], token: str, room: str) -> list[Delivery]:
    """Send messages among nodes on one log."""
    rooms = f"{room}-{secrets.token_hex(4)}"
    observers = [Observer(node, token, room, f"{rooms}-{number}") for number, node in enumerate(nodes, 1)]
    async with trio.open_nursery() as nursery:
        for observer in observers:
            nursery.start_soon(observer.run)
        for observer in observers:
            with trio.move_on_after(ENTRY_PATIENCE) as patience:
                await observer.opened.wait()
            if patience.cancelled_caught:
                observer.node.fail(Trouble.UNAVAILABLE, f"no answer to joining a room within {ENTRY_PATIENCE:g} s")
        exchange = Exchange([observer for observer in observers if observer.node.trouble is None])
        shared = [node.shards is not None and node.shards.reachable > 0 for node in nodes]
        await exchange.run(presence=all(shared) or len(nodes) == 1)
        for observer in observers:
            observer.left.set()
        nursery.cancel_scope.deadline = trio.current_time() + EXIT_PATIENCE
    return exchange.deliveries
