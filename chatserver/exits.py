"""How the commands end: the exit codes of `serve`, and the one line that says why.

Owns: the numbers, the form of the line, which of several errors it names, how long it waits for a reader, writing to a
descriptor that others share, the end of standard output, and whether the terminal is gone. May not: end a process.
"""

import errno
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

EXIT_CLEAN, EXIT_FAULT, EXIT_BAD_FLAGS, EXIT_BIND, EXIT_LOG = range(5)
STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR = range(3)
#: Seconds for the reader of a full pipe to make room for a line, as for the last lines of the log.
READER_PATIENCE = 1.0


def innermost(error: BaseException) -> BaseException:
    """The first error in a group, in which a nursery wraps what ended it; a nursery in a nursery does so twice."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def is_journal(descriptor: int) -> bool:
    """Whether systemd's journal reads it. Then a line may begin with its priority: `<3>`, an error (sd-daemon(3))."""
    status = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def complain(message: str) -> None:
    """Tell the person who started us, in one line also if a database says it in several."""
    line = " ".join(message.splitlines())
    with suppress(OSError):  # a full disk or pipe: nothing is left to tell it to, and the server can still serve
        await_reader(STANDARD_ERROR)
        start = "<3>" if is_journal(STANDARD_ERROR) else ""
        print(f"{start}chatserver: {line}", file=sys.stderr, flush=True)  # noqa: T201


def await_reader(descriptor: int) -> None:
    """Return once a line can be written without waiting. Raises TimeoutError if nobody reads what fills the pipe."""
    if not select.select([], [descriptor], [], READER_PATIENCE)[1]:
        raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however long its reader takes. Raises OSError."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # those who share a descriptor share as well whether it blocks
            select.select([], [descriptor], [])


def drop_output() -> None:
    """Have what is still buffered go nowhere: the interpreter writes it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def watch_terminal() -> Callable[[], bool]:
    """What tells whether the terminal has been closed in whose foreground we start: then SIGHUP is no reload.

    It is always false for a service, and after `nohup`, `setsid` or `&`.
    """
    try:
        is_ours = os.tcgetpgrp(STANDARD_INPUT) == os.getpgrp()
    except OSError:
        is_ours = False
    return lambda: is_ours and not os.isatty(STANDARD_INPUT)
