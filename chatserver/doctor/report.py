"""The report for people: two tables and the findings.

Owns: its form, with colours on terminals only. May not: judge, or print a node's words as they are: they could be
markup, or control the terminal.
"""

import shutil
from collections.abc import Sequence
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatserver.doctor.facts import Delivery, Node, Report, Severity, Trouble
from chatserver.doctor.findings import span
from chatserver.terminal.render import printable

#: Columns without a terminal.
PIPE_WIDTH = 160
_SIGNS = {Severity.FAULT: ("✗", "bold red"), Severity.WARNING: ("!", "yellow")}
_NONE = "-"


def print_report(report: Report, file: IO[str]) -> None:
    width = shutil.get_terminal_size().columns if file.isatty() else PIPE_WIDTH
    console = Console(file=file, width=width, highlight=False)
    console.print(_nodes(report.nodes))
    if any(delivery.attempted for delivery in report.deliveries):
        console.print()
        console.print(_matrix(report.nodes, report.deliveries))
    console.print()
    for finding in report.findings:
        sign, style = _SIGNS[finding.severity]
        console.print(Text.assemble((f"{sign} ", style), printable(finding.what)), soft_wrap=True)
        console.print(Text(f"  {finding.advice}", style="dim"), soft_wrap=True)
    if report.ok:
        console.print(Text.assemble(("✓ ", "bold green"), _verdict(report)), soft_wrap=True)


def _verdict(report: Report) -> str:
    if len(report.nodes) == 1:
        return "the node is well: what is published there arrives and can be read"
    return f"{len(report.nodes)} nodes are one chat: what is published on one arrives at each"


def _nodes(nodes: Sequence[Node]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "node", "ready", "version", "log", "epoch", "shared", "clock"):
        table.add_column(column, overflow="fold", justify="right" if column == "clock" else "left")
    for number, node in enumerate(nodes, 1):
        is_ready = node.answer_ms is not None and node.trouble is not Trouble.NOT_READY
        ready = Text("yes", "green") if is_ready else Text("no", "red")
        shards = f"{node.shards.reachable} of {node.shards.of}" if node.shards else _NONE
        columns = (Text(printable(text) or _NONE) for text in (node.version, node.log, node.epoch))
        table.add_row(str(number), Text(node.url), ready, *columns, shards, _clock(node))
    return table


def _matrix(nodes: Sequence[Node], deliveries: Sequence[Delivery]) -> Table:
    """Rows are senders, columns receivers, by the numbers in the first table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("messages")
    table.add_column("acknowledged", justify="right")
    for number in range(1, len(nodes) + 1):
        table.add_column(f"at {number}", justify="right")
    found = {(each.sender, each.receiver): each for each in deliveries}
    for number, sender in enumerate(nodes, 1):
        cells = (found.get((sender.url, receiver.url)) for receiver in nodes)
        table.add_row(f"from {number}", _span(sender.publish_ms), *map(_cell, cells))
    return table


def _cell(delivery: Delivery | None) -> Text:
    if delivery is None or not delivery.attempted:
        return Text(_NONE)
    if delivery.pushed_ms is None:
        return Text("never", "red")
    hidden = delivery.present is False
    return Text(_span(delivery.pushed_ms) + (", unseen" if hidden else ""), "red" if hidden else "")


def _clock(node: Node) -> str:
    if node.clock_ms is None:
        return _NONE
    return f"{'-' if node.clock_ms < 0 else '+'}{span(abs(node.clock_ms))}"


def _span(ms: float | None) -> str:
    return _NONE if ms is None else span(ms)
