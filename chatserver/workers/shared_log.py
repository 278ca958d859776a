"""What all workers share of their log: the right to its file, and the folder of their sockets.

Owns: the lock of an embedded log, which lasts as long as any process that writes; the folder. May not: open the log.

The lock is inherited by each worker. When the supervisor is killed, another server cannot have the file before the
last worker has drained.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chatserver.log.interface import LogOpenError
from chatserver.log.sqlite_file import checked_path, lock_file

SQLITE = "sqlite:"


@dataclass(frozen=True, slots=True)
class SharedLog:
    """What each worker is given of it."""

    folder: Path
    inherited: list[int] = field(default_factory=list)


@contextmanager
def shared_log(url: str) -> Iterator[SharedLog]:
    """Have it for all workers until the block ends. Raises LogOpenError."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chatserver-"))
        except OSError as error:
            raise LogOpenError(f"cannot make a folder for the workers' sockets: {error.strerror}") from error
        shared = SharedLog(Path(folder))
        if url.startswith(SQLITE):
            lock = lock_file(checked_path(url.removeprefix(SQLITE)))
            stack.callback(os.close, lock)
            shared.inherited.append(lock)
        yield shared
