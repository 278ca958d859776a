"""The running processes, not only the children of this one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

#: Places of the state, the parent, the session and the number of threads among the fields after the name in a process's
#: `stat`.
STATE, PARENT, SESSION, THREADS = 0, 1, 3, 17


def is_running(process: int) -> bool:
    """Whether the process runs; an ended one may stay a zombie until its parent waits for it."""
    try:
        return _runs(_fields(Path(f"/proc/{process}/stat")))
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_running() -> Iterator[tuple[int, Sequence[str]]]:
    """Each running process, with the fields after its name."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = _fields(folder / "stat")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if _runs(fields):
                yield int(folder.name), fields


def _runs(fields: Sequence[str]) -> bool:
    """A zombie whose other threads have not ended yet still has its files open, with their locks."""
    return fields[STATE] != "Z" or int(fields[THREADS]) > 1


def _fields(stat: Path) -> Sequence[str]:
    return stat.read_text().rpartition(") ")[2].split()
