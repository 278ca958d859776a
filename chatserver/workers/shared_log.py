"""What all workers share of their log: the lock on its file, and the folder of their sockets.

Owns: the lock of an embedded log, held as long as any process writes to it; the folder. May not: open the log.

Each worker inherits the locks. If the supervisor is killed, another server cannot take the file before the last worker
has drained. If all of them are killed, their folder stays, but its lock is free, so the next supervisor removes it.
"""

import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from chatserver.log.interface import LogOpenError
from chatserver.log.sqlite_file import checked_path, lock_file
from chatserver.log.sqlite_wal import check_wal

SQLITE = "sqlite:"
#: The prefix of the folders' names, and the file that distinguishes them from other folders. Its name is longer than
#: those of the sockets there.
PREFIX, MARK = "chatserver-", "of-workers"


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
            shared = SharedLog(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX))))
            shared.inherited.append(_lock(shared.folder))
        except OSError as error:
            reason = f"{error.strerror or error}; TMPDIR can name another place"
            raise LogOpenError(f"cannot make a folder for the workers' sockets: {reason}") from error
        stack.callback(os.close, shared.inherited[0])
        if url.startswith(SQLITE):
            path = checked_path(url.removeprefix(SQLITE))
            lock = stack.enter_context(closing(lock_file(path)))
            check_wal(path)
            shared.inherited.append(lock.descriptor)
        _remove_abandoned(shared.folder.parent)
        yield shared


def _lock(folder: Path) -> int:
    """Lock the folder, then mark it, so that no other process finds it marked and unlocked.

    systemd-tmpfiles skips a locked folder with all that is in it. It would else remove the lock files of workers after
    ten days, and a worker that starts later would take its turns alone.
    """
    lock = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mark:  # no file, since a socket's path may be too long
        mark.bind(str(folder / MARK))
    return lock


def _remove_abandoned(parent: Path) -> None:
    """Remove this user's folders whose processes have all ended."""
    for folder in parent.glob(f"{PREFIX}*"):
        # Errors mean that it is in use, or another server is removing it too, or it was never one of ours.
        with suppress(OSError), ExitStack() as stack:
            lock = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            found = os.fstat(lock)
            if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700 and (folder / MARK).exists():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
