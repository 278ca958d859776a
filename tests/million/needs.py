"""What this machine must allow before a run is worth starting, what the run will use, and when it has to stop.

Owns: the arithmetic. May not: open anything. The machine's figures are passed in, so that tests can use others.
"""

import math
import resource
from dataclasses import dataclass
from pathlib import Path

from loadgen.net.target import PER_ADDRESS
from loadgen.report import format as fmt

_PROC = Path("/proc")

#: The share of a process's descriptors that are for connections. A worker must stay below 95% of its places: above that
#: it evicts peers that are slow to ask, as a newcomer may be for a moment; and the kernel's hash gives some workers
#: 3% more than others.
HOLDER_SHARE, WORKER_SHARE = 0.95, 0.91
UNEVENNESS = 1.03
#: Descriptors for everything else: listeners of all workers, logs, epolls, pipes.
OTHER_FILES = 20_000
#: Two ends of one connection, each with a socket, a file and an entry in an epoll.
FILES_EACH = WATCHES_EACH = 2
#: Bytes that a connection takes, by measurement: both ends in the kernel, ours, and the client's.
BYTES_EACH = 9_500
#: Bytes of a worker without connections, of a client process, and of the supervisor and this program.
WORKER_BYTES, HOLDER_BYTES, OTHER_BYTES = 40 << 20, 8 << 20, 100 << 20
#: Available memory below which no more are opened. Without swap the kernel would begin to kill processes.
MARGIN_BYTES = 2 << 30
#: Seconds without any arrival after which a run stops, and seconds in which the last ones must arrive.
STUCK = 60.0
#: For the estimate: connections opened a second, seconds for a worker to start, and for what is measured at a step.
OPENED_A_SECOND, WORKER_SECONDS, STEP_SECONDS = 4_000, 0.4, 30
#: Connections at which everything is measured; beyond the last, at each further 200,000.
STEPS = (10_000, 50_000, 100_000, 200_000)
STEP_BEYOND = 200_000


class NotEnoughError(Exception):
    """The machine does not allow it; the text says what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the kernel allows and has."""

    descriptors: int  # of one process, at most
    files: int  # of all processes, less those that are open
    watches: int  # in epolls of one user
    available: int  # bytes
    ports: int  # for one pair of addresses
    tracked: int | None  # connections that the firewall can follow; None: it follows none

    @classmethod
    def read(cls) -> "Machine":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = int(_sys("fs/nr_open"))
        opened, _, files = map(int, _sys("fs/file-nr").split())
        low, high = map(int, _sys("net/ipv4/ip_local_port_range").split())
        count = _PROC / "sys/net/netfilter/nf_conntrack_count"
        tracks = count.exists() and int(count.read_text()) > 0
        return cls(
            descriptors=most if hard == resource.RLIM_INFINITY else min(hard, most),
            files=files - opened,
            watches=int(_sys("fs/epoll/max_user_watches")),
            available=available(),
            ports=high - low + 1,
            tracked=int(_sys("net/netfilter/nf_conntrack_max")) if tracks else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that the machine allows."""

    connections: int
    workers: int
    holders: int
    each: int  # connections of one holder
    bytes: int  # that all of it will take, about
    seconds: float
    steps: list[int]  # connections at which everything is measured
    note: str  # what a person should know, though it forbids nothing; may be empty


def plan(connections: int, machine: Machine, *, workers: int | None = None, final_seconds: float = 0.0) -> Plan:
    """Plan a run. Raises NotEnoughError."""
    each = int(machine.descriptors * HOLDER_SHARE)
    holders = math.ceil(connections / each)
    served = int(machine.descriptors * WORKER_SHARE)
    if workers is None:
        workers = max(math.ceil(connections / served), 2)
    for lack in _lacks(connections, workers, served, machine):
        raise NotEnoughError(lack)
    needed = connections * BYTES_EACH + workers * WORKER_BYTES + holders * HOLDER_BYTES + OTHER_BYTES
    beyond = range(STEPS[-1] + STEP_BEYOND, connections, STEP_BEYOND)
    steps = [step for step in (*STEPS, *beyond) if step < connections]
    steps.append(connections)
    seconds = connections / OPENED_A_SECOND + workers * WORKER_SECONDS + len(steps) * STEP_SECONDS + final_seconds
    note = ""
    if needed > machine.available - MARGIN_BYTES:
        fit = (machine.available - MARGIN_BYTES - (needed - connections * BYTES_EACH)) // BYTES_EACH
        note = (
            f"memory will be short: {fmt.size(needed)} wanted, {fmt.size(machine.available)} available, of which"
            f" {fmt.size(MARGIN_BYTES)} stay free; it stops at about {max(fit, 0):,} connections"
        )
    return Plan(
        connections=connections, workers=workers, holders=holders, each=each, bytes=needed, seconds=seconds,
        steps=steps, note=note,
    )  # fmt: skip


def _lacks(connections: int, workers: int, each: int, machine: Machine) -> list[str]:
    lacks = []
    if connections > workers * each:
        lacks.append(
            f"{workers} workers hold {workers * each:,} connections, {each:,} each (ulimit -Hn is"
            f" {machine.descriptors:,}): use --workers {math.ceil(connections / each)} or fewer --connections"
        )
    if connections * FILES_EACH + OTHER_FILES > machine.files:
        lacks.append(
            f"{connections:,} connections are {connections * FILES_EACH:,} open files, and fs.file-max leaves"
            f" {machine.files:,}: raise it, or use --connections {max(machine.files - OTHER_FILES, 0) // FILES_EACH}"
        )
    if connections * WATCHES_EACH > machine.watches:
        lacks.append(
            f"fs.epoll.max_user_watches is {machine.watches:,}: raise it, or use"
            f" --connections {machine.watches // WATCHES_EACH}"
        )
    if machine.ports < PER_ADDRESS:
        lacks.append(f"net.ipv4.ip_local_port_range has {machine.ports} ports; {PER_ADDRESS} are needed")
    if machine.tracked is not None and connections > machine.tracked:
        lacks.append(
            f"the firewall follows connections, {machine.tracked:,} at most (net.netfilter.nf_conntrack_max):"
            " exempt the loopback or raise it"
        )
    return lacks


def reason_to_stop(*, available: int, margin: int, lost: int, unchanged: float, seconds: float, most: float) -> str:
    """Why no more should be opened, or "". `unchanged` are the seconds since the last arrival, `seconds` all so far."""
    if available < margin:
        return f"{available / 2**30:.2f} GiB of memory are available, less than the margin of {margin / 2**30:.2f}"
    if lost:
        return f"{lost} connections were lost or refused"
    if unchanged > STUCK:
        return f"none came for {STUCK:g} s"
    return f"{most / 60:g} minutes are over" if seconds > most else ""


def available() -> int:
    """Bytes that programs can still have without swapping, as the kernel estimates them."""
    return meminfo()["MemAvailable"]


def meminfo() -> dict[str, int]:
    """The bytes in /proc/meminfo, by name."""
    lines = (line.split() for line in (_PROC / "meminfo").read_text().splitlines())
    return {name.rstrip(":"): int(value) * 1024 for name, value, *unit in lines if unit}


def _sys(name: str) -> str:
    return (_PROC / "sys" / name).read_text().strip()
