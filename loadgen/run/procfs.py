"""What the kernel reports of a process and of this machine: memory, CPU, descriptors, and how processors were shared.

Owns: the choice of figure. Memory is Pss without the pages of files. It is read only at the ends of a phase, because
the kernel walks the page tables for it; the timeline uses the cheap resident size. CPU is read from the kernel's clock
of a process, because /proc/PID/stat counts in ticks of 10 ms; only that of children that have ended is in ticks. May
not: judge.
"""

import errno
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from loadgen.net.target import UsageError

N = TypeVar("N", int, float)

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")

#: Errors of files and clocks of a process that has ended.
_ENDED: Final = (errno.ENOENT, errno.ESRCH, errno.EINVAL)

#: For a process with more threads, it is cheaper to ask every process on the machine for its parent.
MANY_THREADS: Final = 100

#: Threads of a server that are asked how long they waited, 40 us each: as much as its memory costs to read.
MOST_THREADS: Final = 1000


class Usage(NamedTuple):
    pss_bytes: int
    cpu_seconds: float


class Share(NamedTuple):
    """How a process's main thread has spent its time, in seconds."""

    running: float
    waiting: float  # ready to run, while another program had the CPU


class Process:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    def require(self) -> None:
        try:
            (_PROC / str(self.pid) / "smaps_rollup").read_bytes()
        except FileNotFoundError:
            raise UsageError(f"--server-pid: there is no process {self.pid}") from None
        except OSError as error:
            raise UsageError(f"--server-pid: process {self.pid} cannot be read: {error.strerror}") from None

    def require_listening(self, port: int) -> None:
        """Refuse a process that is not the server's: neither it nor a descendant listens on the target's port."""
        if self._sum(lambda pid: len(_listening(pid, port) & _sockets(pid))) == 0:  # `None` if we may not see
            raise UsageError(
                f"--server-pid: neither process {self.pid} nor a child of it listens on port {port};"
                " name the process that serves the target"
            )

    def is_alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        fields = _fields(self.pid)
        return bool(fields) and fields[0] not in {"Z", "X"}

    def usage(self) -> Usage | None:
        size, seconds = self._sum(_pss), self._sum(_cpu)
        return None if size is None or seconds is None else Usage(size, seconds)

    def share(self) -> Share | None:
        """How its main thread has spent its time, without descendants; `None` if it is gone."""
        try:
            running, waiting, _ = (_PROC / str(self.pid) / "schedstat").read_text().split()
        except OSError:
            return None
        return Share(int(running) / 1e9, int(waiting) / 1e9)

    def waits(self) -> dict[int, float]:
        """Seconds that threads of the tree were ready to run and had no CPU, by thread; empty if it is gone."""
        tasks = (task for pid in self.tree() for task in _tasks(pid))
        found = ((int(task.name), _read(task / "schedstat").split()) for task in islice(tasks, MOST_THREADS))
        return {thread: int(times[1]) / 1e9 for thread, times in found if times}

    def resident_bytes(self) -> int | None:
        """Its resident size, cheaply; `None` if it is gone."""
        return self._sum(_resident)

    def cpu_seconds(self) -> float | None:
        return self._sum(_cpu)

    def descriptors(self) -> int | None:
        """Its open descriptors; `None` if it is gone or we may not read them."""
        return self._sum(lambda pid: len(os.listdir(_PROC / str(pid) / "fd")))  # noqa: PTH208  18,000 paths

    def _sum(self, read: Callable[[int], N]) -> N | int | None:
        """Add up over the tree; a child that has ended since it was listed counts as nothing."""
        total: N | int = 0
        for pid in self.tree():
            try:
                total += read(pid)
            except OSError as error:
                if pid == self.pid or error.errno not in _ENDED:
                    return None
        return total

    def tree(self) -> list[int]:
        tree = [self.pid]
        for pid in tree:  # grows during the iteration
            tree += _children(pid)
        return tree


def _tasks(pid: int) -> list[Path]:
    folder = _PROC / str(pid) / "task"
    try:
        return [folder / thread for thread in os.listdir(folder)]  # noqa: PTH208  thousands of names
    except OSError:
        return []  # the process has ended since it was listed


def _children(pid: int) -> list[int]:
    """A process's children; the kernel lists them by thread, which is slow with thousands of threads."""
    tasks = _tasks(pid)
    if len(tasks) > MANY_THREADS:
        processes = map(int, filter(str.isdecimal, os.listdir(_PROC)))  # noqa: PTH208
        return [child for child in processes if _fields(child)[1:2] == [str(pid)]]
    lists = (_read(task / "children") for task in tasks)
    return [int(child) for children in lists for child in children.split()]


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, its state and its parent; empty if it has ended."""
    # the second is the command in brackets, which may itself contain brackets and spaces
    return _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    """Read a file of a thread or a process; empty if that has ended since it was listed."""
    try:
        return path.read_text()
    except OSError:
        return ""


#: A socket among the links of /proc/PID/fd, and a listening one in a line of /proc/PID/net/tcp: the port, the state
#: (0A is LISTEN), the inode.
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_LISTENING: Final = re.compile(r"\d+: \w+:(\w{4}) \w+:0000 0A (?:\S+ +){5}(\d+)")


def _sockets(pid: int) -> set[str]:
    """Inodes of its sockets."""
    folder, inodes = f"{_PROC}/{pid}/fd", set()
    for fd in os.listdir(folder):  # noqa: PTH208  18,000 paths
        with suppress(FileNotFoundError):  # closed since it was listed
            found = _SOCKET.fullmatch(os.readlink(f"{folder}/{fd}"))  # noqa: PTH115
            inodes |= {found[1]} if found else set()
    return inodes


def _listening(pid: int, port: int) -> set[str]:
    """Inodes of the sockets that listen on a port, in the network that this process sees."""
    tables = "".join(_read(_PROC / str(pid) / "net" / name) for name in ("tcp", "tcp6"))
    return {inode for where, inode in _LISTENING.findall(tables) if int(where, 16) == port}


def _resident(pid: int) -> int:
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE


#: `cutime` and `cstime` among the fields from the third on (proc_pid_stat(5)).
_OF_CHILDREN: Final = slice(13, 15)
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

#: Not Pss_File: a server's share of the pages of its libraries changes by megabytes when another program that uses them
#: starts or ends.
_OWN: Final = re.compile(r"^Pss_(?:Anon|Shmem): +(\d+) kB$", re.MULTILINE)


def _pss(pid: int) -> int:
    found = _OWN.findall((_PROC / str(pid) / "smaps_rollup").read_text())
    return 1024 * sum(map(int, found))  # 0 for a zombie


def _cpu(pid: int) -> float:
    """What a process has used, and its children that have ended."""
    # the clock id of clock_getcpuclockid(3): the inverted pid above three bits, CPUCLOCK_SCHED of a whole process
    own = time.clock_gettime((~pid << 3) | 2)
    return own + sum(map(int, _fields(pid)[_OF_CHILDREN])) / _TICKS_PER_S


_STAT: Final = Path("/proc/stat")
_PRESSURE: Final = Path("/proc/pressure/cpu")
_SOME: Final = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)

#: user nice system idle iowait irq softirq steal. A guest's time, which follows, is in `user` and `nice` already.
_FIELDS: Final = 8
_IDLE: Final = slice(3, 5)


class Ticks(NamedTuple):
    """Processor time so far, of all processors together, in the kernel's ticks, mostly of 10 ms."""

    total: int
    stolen: int
    idle: int = 0  # also while a disc is waited for


def ticks() -> Ticks:
    try:
        together = _STAT.read_text().partition("\n")[0]
    except OSError:  # systemd's ProcSubset=pid hides it
        return Ticks(0, 0)
    found = [int(field) for field in together.split()[1 : _FIELDS + 1]]
    return Ticks(sum(found), found[-1], sum(found[_IDLE]))


def busy_seconds(before: Ticks, after: Ticks) -> float | None:
    """CPU that all programs used between two readings; `None` without a tick in between."""
    if after.total <= before.total:
        return None
    unused = after.stolen + after.idle - before.stolen - before.idle
    return (after.total - before.total - unused) / _TICKS_PER_S


def stolen_percent(before: Ticks, after: Ticks) -> float | None:
    """The share of processor time that the host took between two readings; `None` without a tick in between."""
    if after.total <= before.total:
        return None
    return round(100 * (after.stolen - before.stolen) / (after.total - before.total), 2)


def pressure() -> float | None:
    """Seconds so far in which a program was ready to run and had no processor; `None` on older kernels."""
    try:
        found = _SOME.search(_PRESSURE.read_text())
    except OSError:
        return None
    return int(found[1]) / 1e6 if found else None
