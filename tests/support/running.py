"""The running processes, not only the children of this one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

#: Places of the state, the parent and the session among the fields after the name in a process's `stat`.
STATE, PARENT, SESSION = 0, 1, 3


def is_running(process: int) -> bool:
    """Whether the process runs; an ended one may stay a zombie until its parent waits for it."""
    try:
        return _fields(Path(f"/proc/{process}/stat"))[STATE] != "Z"
    except FileNotFoundError:
        return False


def all_running() -> Iterator[tuple[int, Sequence[str]]]:
    """Each running process, with the fields after its name."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = _fields(folder / "stat")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[STATE] != "Z":
                yield int(folder.name), fields


def _fields(stat: Path) -> Sequence[str]:
    return stat.read_text().rpartition(") ")[2].split()
