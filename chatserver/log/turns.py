"""Turns that processes on one machine take: an `flock` on a file, which the kernel gives back when its process ends.

Owns: the descriptor. May not: know what is done in a turn.

SQLite's own lock would do, but who waits for it sleeps up to 0.1 s between two looks, and a busy neighbour has it again
by then. Here the kernel wakes a thread that waits.

A wait for a turn has no end of its own. A process that is stopped in its turn looks to the others like a disk that
hangs: what waits is refused at its deadline, and goes on when the supervisor has ended that process.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from chatserver.log.interface import LogOpenError


class FileLock:
    """One lock of one process. To take it blocks, except for `try_acquire`."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LogOpenError(f"cannot make {path}: {error.strerror}") from error

    def try_acquire(self) -> bool:
        """Take it unless another process has it; harmless when we have it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give it back."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def close(self) -> None:
        """Give it back for good."""
        os.close(self._file)
