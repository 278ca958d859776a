"""The results as a table in Markdown, as in docs/measurements.

Owns: columns and notes. May not: measure.
"""

from loadgen.report import format as fmt
from loadgen.report.schema import Table
from tests.bench.figures import number
from tests.million.run import Outcome, Row

COLUMNS = (
    "connections", "as the server counts", "opened/s",
    "server, B each", "clients, B each", "kernel, B each", "available less by, B each",
    "GiB in all", "server's CPU, cores", "µs a connection-second", "pings/s", "clients' CPU, cores",
    "message to all workers: last of them, ms", "busy room: p50, p99, ms", "newcomers: p50, p99, ms",
)  # fmt: skip


def table(outcome: Outcome) -> Table:
    return Table(
        title=f"Idle WebSockets in rooms: {held(outcome):,} of {outcome.plan.connections:,}",
        columns=list(COLUMNS),
        rows=[_cells(outcome, row) for row in outcome.rows],
        notes=_notes(outcome),
    )


def held(outcome: Outcome) -> int:
    return outcome.rows[-1].clients if outcome.rows else 0


def _cells(outcome: Outcome, row: Row) -> list[str]:
    memory, idle, count = row.memory, row.idle, max(row.clients, 1)
    cores = idle.server_cpu / idle.seconds
    taken = memory.taken + (outcome.empty.taken if outcome.empty else 0)
    return [
        f"{row.clients:,}", f"{row.server:,}", number(row.opened_a_second),
        *(number(part / count) for part in (memory.server, memory.clients, memory.kernel, memory.taken)),
        f"{taken / 2**30:.2f}", f"{cores:.3f}", number(cores / count * 1e6), number(idle.pings / idle.seconds),
        f"{idle.clients_cpu / idle.seconds:.3f}", number(row.everywhere.seconds * 1e3),
        *(f"{_ms(each.at(50))}, {_ms(each.at(99))}" for each in (row.beside.deliveries, row.beside.newcomers)),
    ]  # fmt: skip


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else number(seconds * 1e3)


def _notes(outcome: Outcome) -> list[str]:
    plan, options = outcome.plan, outcome.options
    notes = []
    if outcome.stopped:
        notes.append(f"As many as fit: {held(outcome):,}, because {outcome.stopped}.")
    if outcome.interrupted:
        notes.append("Interrupted: what had been measured until then.")
    notes += [f"FAULT: {fault}." for fault in outcome.faults]
    if outcome.closes:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in outcome.closes.most_common())
        notes.append(f"Connections that the server has ended or refused, those of the probes too: {reasons}.")
    notes.append(
        f"{plan.workers} workers, {plan.holders} processes of clients, {options.room_size:,} members a room,"
        f" a ping each {options.ping_interval:g} s; {outcome.seconds:.0f} s in all."
    )
    if outcome.empty and outcome.empty_idle:
        empty, idle = outcome.empty, outcome.empty_idle
        notes.append(
            f"Before the first connection: server {fmt.size(empty.server)}, {fmt.size(empty.server / plan.workers)} a"
            f" worker, and {idle.server_cpu / idle.seconds:.3f} cores; clients {fmt.size(empty.clients)}, kernel"
            f" {fmt.size(empty.kernel)}. Bytes each are what came on top; GiB and cores have it in them."
        )
    return notes
