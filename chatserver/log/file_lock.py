"""Turns among processes on one machine: an `flock` on a file, which the kernel releases when its process ends.

Owns: the descriptor. May not: know what is done in a turn.

The kernel wakes a waiting thread; a waiter for SQLite's own lock sleeps up to 0.1 s, and a busy neighbour has it again
by then. A process that is stopped in its turn looks to the others like a disk that hangs, until the supervisor ends it.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from chatserver.log.interface import LogOpenError, LogUnavailable


class FileLock:
    """A lock between processes. Entering it blocks; `try_acquire` does not. Both raise LogUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"cannot open {path}: {error.strerror}; check its owner, and that its directory may be written"
            raise LogOpenError(message) from error

    def try_acquire(self) -> bool:
        """Take the lock unless another process holds it; harmless if this one does. Returns whether it is held here."""
        try:
            self._acquire(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def _acquire(self, how: int) -> None:
        try:
            fcntl.flock(self.descriptor, how)
        except BlockingIOError:
            raise
        except OSError as error:  # a file system without locks, or a kernel without memory for one
            raise LogUnavailable(f"cannot lock {self._path}: {error.strerror}") from error

    def __enter__(self) -> None:
        self._acquire(fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def close(self) -> None:
        """Release the lock for good."""
        os.close(self.descriptor)
