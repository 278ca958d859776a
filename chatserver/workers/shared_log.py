"""What all workers share of their log: the lock on its file, and the folder of their sockets.

Owns: the lock of an embedded log, held as long as any process writes to it; the folder. May not: open the log.

Each worker inherits the locks. If the supervisor is killed, another server cannot take the file before the last worker
has drained. If all of them are killed, their folder stays until something clears the place for temporary files.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chatserver.log.interface import LogOpenError
from chatserver.log.sqlite_file import checked_path, lock_file
from chatserver.log.sqlite_wal import check_wal
from chatserver.log.threads import run_to_open

SQLITE = "sqlite:"
#: The name of a socket that nobody uses, longer than those of the workers' sockets.
LONGEST = "of-workers"


@dataclass(frozen=True, slots=True)
class SharedLog:
    """The parts for each worker."""

    folder: Path
    inherited: list[int] = field(default_factory=list)


@contextmanager
def shared_log(url: str) -> Iterator[SharedLog]:
    """Lock the log and make the folder, until the block ends. Raises LogOpenError."""
    with ExitStack() as stack:
        try:
            shared = SharedLog(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatserver-"))))
            shared.inherited.append(_lock(shared.folder))
        except OSError as error:
            reason = f"{error.strerror or error}; TMPDIR can name another place"
            raise LogOpenError(f"cannot make a folder for the workers' sockets: {reason}") from error
        stack.callback(os.close, shared.inherited[0])
        if url.startswith(SQLITE):
            path = checked_path(url.removeprefix(SQLITE))
            lock = stack.enter_context(closing(lock_file(path)))
            shared.inherited.append(lock.descriptor)
        yield shared


async def check_log(url: str) -> None:
    """Refuse an embedded log that has lost commits; called before any worker opens it. Raises LogOpenError.

    In a thread, since a long write-ahead log takes seconds.
    """
    if url.startswith(SQLITE):
        await run_to_open(check_wal, checked_path(url.removeprefix(SQLITE)), abandon_on_cancel=True)


def _lock(folder: Path) -> int:
    """Lock the folder. Raises OSError also if its path is too long for sockets.

    systemd-tmpfiles skips a locked folder with all that is in it. It would else remove the lock files of workers after
    ten days, and a worker that starts later would take its turns alone.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
        trial.bind(str(folder / LONGEST))
    lock = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
