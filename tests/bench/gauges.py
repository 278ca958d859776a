"""Reads another process's CPU and memory from the kernel, and the server's own numbers from /metrics.

Owns: the readings. May not: start anything.
"""

import http.client
import time
from pathlib import Path

Address = tuple[str, int]


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond.

    /proc/PID/stat counts in 10 ms, /proc/PID/schedstat counts the first thread only. This is the clock that
    clock_getcpuclockid(3) gives for a process: its number, inverted, above three bits that say "scheduler".
    """
    return time.clock_gettime((~pid << 3) | 2)


def pss_bytes(pid: int) -> int:
    """Memory of a process, shared pages counted in proportion; kernel socket memory is not in it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss in smaps_rollup of {pid}")


def metrics(address: Address) -> dict[str, float]:
    """The samples of /metrics, by name with labels."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples
