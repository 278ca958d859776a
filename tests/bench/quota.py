"""Limits processes to a share of a core, each by its own cgroup with a CPU quota.

Owns: the cgroups, and their removal. Version 1 has a separate hierarchy for the controller `cpu`. In version 2 a group
with children has no processes itself, so the nearest ancestor is used that already enables `cpu` for its children.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

#: Microseconds. The kernel's default of 100 ms would stop a server for 50 ms at a time.
PERIOD = 10_000
#: The beginning of a group's name, before the number of the process that made it.
NAME = "chatserver-bench"
#: Seconds until the kernel lets a group be removed.
PATIENCE = 5.0

_numbers = count()


@dataclass(frozen=True, slots=True)
class Place:
    """A cgroup in which groups can be made; processes of a removed group go to `home`."""

    parent: Path
    home: Path
    unified: bool  # version 2

    def settings(self, share: float) -> dict[str, str]:
        """The files that set a group's share, in the order in which they are written."""
        quota = int(PERIOD * share)
        if self.unified:
            return {"cpu.max": f"{quota} {PERIOD}"}
        return {"cpu.cfs_period_us": f"{PERIOD}", "cpu.cfs_quota_us": f"{quota}"}


def places(mounts: str, groups: str) -> Iterator[Place]:
    """Candidates by texts like /proc/mounts and /proc/self/cgroup, the nearest first."""
    ours = {
        controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in groups.splitlines())
    }
    for line in mounts.splitlines():
        _, folder, kind, options, *_ = line.split()
        root = Path(folder)
        if kind == "cgroup" and "cpu" in options.split(","):
            path = next((path for controllers, path in ours.items() if "cpu" in controllers.split(",")), "")
            yield Place(root / path, root / path, unified=False)
            yield Place(root, root, unified=False)
        elif kind == "cgroup2":
            home = root / ours.get("", "")
            for parent in (home, *(each for each in home.parents if each.is_relative_to(root))):
                yield Place(parent, home, unified=True)


def find() -> Place | None:
    """A place where a group can be made now; None if this machine or this user has none."""
    try:
        mounts, groups = Path("/proc/mounts").read_text(), Path("/proc/self/cgroup").read_text()
    except OSError:
        return None  # not on Linux
    for place in places(mounts, groups):
        try:
            if place.unified and "cpu" not in (place.parent / "cgroup.subtree_control").read_text().split():
                continue
            _remove_left_behind(place)
            with _group(place, 1.0):
                return place
        except OSError:
            continue
    return None


@contextmanager
def limited(place: Place, share: float, pids: list[int]) -> Iterator[None]:
    """Limit each of these processes to this share of a core until the block ends."""
    with ExitStack() as stack:
        for pid in pids:
            group = stack.enter_context(_group(place, share))
            (group / "cgroup.procs").write_text(str(pid))
        yield


@contextmanager
def _group(place: Place, share: float) -> Iterator[Path]:
    folder = place.parent / f"{NAME}-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        for name, value in place.settings(share).items():
            (folder / name).write_text(value)
        yield folder
    finally:
        _remove(folder, place.home)


def _remove_left_behind(place: Place) -> None:
    """Remove the groups of a bench that was killed."""
    for folder in place.parent.glob(f"{NAME}-*-*"):
        if not Path("/proc", folder.name.split("-")[-2]).exists():
            with suppress(FileNotFoundError):  # another bench removes it as well
                _remove(folder, place.home)


def _remove(folder: Path, home: Path) -> None:
    for pid in (folder / "cgroup.procs").read_text().split():
        try:
            (home / "cgroup.procs").write_text(pid)
        except ProcessLookupError:
            continue  # it has ended meanwhile
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)
        else:
            return
