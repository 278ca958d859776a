"""How much memory this process may use, and the limits that follow from it where nobody has set them.

Owns: where the system says it, and the arithmetic. May not: import trio or our modules outside this folder.

The system kills what exceeds its container's memory, whatever it was doing. So where the usual limits would not fit,
lower ones take their place.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path, PurePosixPath

from chatserver.settings.spec import ConfigError

_MIB = 1 << 20
#: What a process takes without clients: 40 MiB of its own, and 13 MiB of program files, which Linux would otherwise
#: drop and read again and again.
OWN_BYTES = 56 * _MIB
#: With less beyond that the server would be of no use, so these are assumed.
LEAST_BYTES = 8 * _MIB
#: What seven threads reserve for stacks in the address space, whether they use it or not. They share one heap, see
#: `share_heap`. With less than 120 MiB in all some threads cannot start.
RESERVED_BYTES, LEAST_ADDRESS_SPACE = 64 * _MIB, 192 * _MIB
#: Shares of the memory beyond OWN_BYTES: of rooms, which take ROOM_BYTES without their messages, and of messages. The
#: rest is for connections.
ROOM_BYTES, ROOMS_SHARE, RINGS_SHARE = 2048, 1 / 8, 1 / 8
#: The files with the limits of a control group, and their folder: of version 2, and of the older one.
_UNIFIED = "sys/fs/cgroup", ("memory.max", "memory.high")
_OLDER = "sys/fs/cgroup/memory", ("memory.limit_in_bytes",)


def memory_limit(root: Path = Path("/")) -> int:
    """The bytes that this process may use, together with the others of its container. `root` has the system's files.

    Raises ConfigError if it may not even start.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min((physical, *_group_limits(root), *_address_space()))


def _address_space() -> Iterator[int]:
    """What RLIMIT_AS allows to be used."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        if allowed < LEAST_ADDRESS_SPACE:
            needed = f"{LEAST_ADDRESS_SPACE // _MIB} MiB of address space are needed"
            raise ConfigError("", f"{needed}, and RLIMIT_AS allows {allowed // _MIB} (see ulimit -v)")
        yield allowed - RESERVED_BYTES


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of this process's control group and of those around it.

    A container may not see its group's folder, but finds its limits at the top.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:  # another system than Linux, or no /proc
        lines = ["0::/", "1:memory:/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = _OLDER if controllers else _UNIFIED
        group = PurePosixPath(path.lstrip("/"))
        for folder, file in product((group, *group.parents), files):
            with suppress(OSError, ValueError):  # there is no such file, or it says "max"
                yield int((root / top / folder / file).read_text())


def limits_within(memory: int, workers: int) -> dict[str, int]:
    """The limits on all rooms together that this memory allows."""
    left = max(memory - OWN_BYTES * workers, LEAST_BYTES)
    return {"max_rooms": int(left * ROOMS_SHARE / ROOM_BYTES), "all_rings_bytes": int(left * RINGS_SHARE)}
