"""How many connections this process can hold: the descriptor limit, and the size of the kernel's descriptor table.

Owns: RLIMIT_NOFILE, and that size. May not: import trio, or know what the descriptors are for.
"""

import fcntl
import os
import resource
from pathlib import Path

from chatserver.settings.spec import ConfigError

RESERVED_DESCRIPTORS = 64  # listeners, poller, log and its readers, standard streams, one spare
#: More are not used: the usual fs.nr_open of Linux. macOS's hard limit is infinite, and many containers have 2^30, for
#: which the kernel's table would take 8 GB.
MAX_DESCRIPTORS = 1 << 20


def raise_descriptor_limit() -> int:
    """Raise the soft RLIMIT_NOFILE towards the hard one, and return how many descriptors may be used.

    The soft limit is low (1,024 on Debian) for the sake of `select()`, which this program does not use;
    Go's runtime does the same at start.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (
        MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS) for limit in limits
    )
    while soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, limits[1]))
        except (ValueError, OSError):  # macOS: more than kern.maxfilesperproc, whatever the hard limit says
            hard //= 2
        else:
            return hard
    return soft


def connection_limit(configured: int, *, descriptors: int) -> int:
    """Return how many connections to hold: `max_connections`, or with 0 all that descriptors allow."""
    available = descriptors - RESERVED_DESCRIPTORS
    if available < 1 or configured > available:
        raise ConfigError(
            "max-connections",
            f"{max(configured, 1)} needs {max(configured, 1) + RESERVED_DESCRIPTORS} descriptors,"
            f" RLIMIT_NOFILE allows {descriptors} (see ulimit -n)",
        )
    return configured or available


def grow_table(connections: int) -> None:
    """Grow the kernel's descriptor table of this process once, at start, and not while peers connect.

    Linux doubles the table when a number does not fit, and a process with threads then waits for all processors
    (`synchronize_rcu` in fs/file.c): 9 to 20 ms, four times on the way to 8,000 connections. The table never shrinks.
    """
    with Path(os.devnull).open("rb") as any_file:
        os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, connections))
