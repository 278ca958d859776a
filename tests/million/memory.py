"""The memory of the server, of the clients and of the kernel.

Owns: the choice of figures. May not: judge.

Processes are measured by Pss, which counts a shared page once; the kernel by its slabs (sockets, files, epoll entries),
its TCP buffers and its page tables. MemAvailable must fall by their sum: the table shows both, so that no memory is
missed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from loadgen.run import procfs
from tests.bench.gauges import tcp_memory
from tests.million.needs import meminfo

_KERNELS = ("Slab", "PageTables", "KernelStack")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at one moment, or between two."""

    server: int
    clients: int
    kernel: int
    taken: int  # of what was available

    @classmethod
    def read(cls, server: int, clients: Iterable[int]) -> Self:
        """Read the server's process with its descendants, and each client process."""
        info = meminfo()
        kernel = sum(info[name] for name in _KERNELS) + tcp_memory()
        return cls(pss(server), sum(map(pss, clients)), kernel, -info["MemAvailable"])

    def __sub__(self, before: "Memory") -> "Memory":
        return Memory(
            self.server - before.server, self.clients - before.clients, self.kernel - before.kernel,
            self.taken - before.taken,
        )  # fmt: skip


def pss(pid: int) -> int:
    """Bytes of a process with its descendants; 0 if it is gone."""
    usage = procfs.Process(pid).usage()
    return 0 if usage is None else usage.pss_bytes
