"""Log lines: structlog to standard error, without ever making the event loop wait for it.

Owns: the form of lines, the thread that writes them, what happens when they are not read, and the limit on lines of a
kind. May not: import trio or any module of ours except `exits` and settings' `LogFormat`.

Standard error may be a pipe whose reader has stopped; a blocking write would then stop every connection. So lines go
into a bounded queue, and one thread writes them. Dropped lines are counted, and the count is written later.
"""

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from chatserver.exits import is_journal, write_all
from chatserver.settings.forms import LogFormat

QUEUE_LINES = 10_000  # lines waiting for the thread: about 2 MB, more than a burst and less than a leak
STOP_PATIENCE = 1.0  # s for the last lines to be written; a full pipe must not keep the process alive
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4}  # of syslog(3); of others 6, info
LINES_PER_SECOND = 5  # of one (event, reason): enough to see what happens, too few to cost anything


@contextmanager
def configured(log_format: LogFormat, *, quiet: bool, descriptor: int | None = None) -> Iterator["Writer"]:
    """Send structlog's and the standard library's logs to standard error until the block ends."""
    target = sys.stderr.fileno() if descriptor is None else descriptor
    terminal = os.isatty(target)
    pretty = log_format is LogFormat.PRETTY or (log_format is LogFormat.AUTO and terminal)
    level = logging.WARNING if quiet else logging.INFO
    writer = Writer(target)
    looks = structlog.dev.ConsoleRenderer(
        colors=terminal and not os.environ.get("NO_COLOR"), pad_event_to=28,
        exception_formatter=structlog.dev.plain_traceback,
    )  # fmt: skip
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if pretty else "iso", utc=not pretty),
            structlog.processors.format_exc_info,
            *([_printable, looks] if pretty else [structlog.processors.JSONRenderer()]),
            *([_with_priority] if is_journal(target) else []),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,  # a cached logger would keep writing to a closed writer
    )
    handler = _Forward(level=logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield writer
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.reset_defaults()
        writer.close()


class Writer:
    """A bounded queue of lines and the daemon thread that writes them to one descriptor.

    It writes with `os.write`: a thread stuck in a write to `sys.stderr` would hold its lock and make the exit abort.
    """

    def __init__(self, descriptor: int, *, capacity: int = QUEUE_LINES) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self.dropped = 0  # lines not written since the last report of them; counted by the callers' thread
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:  # a limit of processes or of memory
            raise SystemExit(f"chatserver: no thread for log lines: {error}") from error

    def put(self, line: str) -> None:
        """Take a line for writing, or count it as dropped. Never waits."""
        try:
            if self.dropped:
                self._lines.put_nowait(_dropped(self.dropped))
                self.dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    # structlog calls the method named after the level on the object from its factory.
    debug = info = warning = error = critical = put

    def close(self, *, patience: float = STOP_PATIENCE) -> None:
        """Write the queued lines and stop; drop those that cannot be written within `patience` seconds."""
        self._closing.set()
        with suppress(queue.Full):  # full: the thread is not waiting, and sees _closing when the queue is empty
            self._lines.put_nowait(None)  # wakes a thread that waits for a line
        self._thread.join(patience)

    def _run(self) -> None:
        while not (self._closing.is_set() and self._lines.empty()):
            line = self._lines.get()
            if line is not None:
                self._write(line)
        if self.dropped:
            self._write(_dropped(self.dropped))

    def _write(self, line: str) -> None:
        """Write a line, of which nothing is left if the disk is full or the reader is gone: nobody could be told."""
        with suppress(OSError):
            write_all(self._descriptor, line.encode("utf-8", "backslashreplace") + b"\n")


def _dropped(count: int) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return f'{{"count": {count}, "event": "log lines dropped", "level": "warning", "timestamp": "{now}"}}'


class Limiter:
    """Passes at most N lines of each (event, reason) between two reports, which count those left out.

    Events and reasons are closed lists, so the table is small; never put a peer's text into either.
    """

    def __init__(self, *, per_second: int = LINES_PER_SECOND) -> None:
        self._per_second = per_second
        self._asked: dict[tuple[str, str], tuple[int, Callable[..., object]]] = {}

    def write(self, write: Callable[..., object], event: str, *, reason: str, **fields: object) -> None:
        """Call `write(event, reason=…, …)`, a logger's method, if this second's share allows."""
        asked, _ = self._asked.get((event, reason), (0, write))
        self._asked[event, reason] = (asked + 1, write)
        if asked < self._per_second:
            write(event, reason=reason, **fields)

    def report(self) -> None:
        """Called each second: write how many lines were left out, at their level, and start counting anew."""
        for (event, reason), (asked, write) in self._asked.items():
            if asked > self._per_second:
                write(event, reason=reason, left_out=asked - self._per_second)
        self._asked.clear()


class _Forward(logging.Handler):
    """Forwards log records of libraries, from the standard `logging`, to our own log."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _with_priority(_logger: object, level: str, line: Any) -> str:
    """Begin the line with its priority, by which `journalctl -p` selects; the journal removes that."""
    return f"<{_PRIORITIES.get(level, 6)}>{line}"


def _printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Escape control characters, so that a peer's text cannot control the operator's terminal.

    A traceback keeps its line breaks.
    """
    for key, value in event.items():
        if isinstance(value, str):
            kept = "\n" if key == "exception" else ""
            event[key] = "".join(c if c.isprintable() or c == kept else ascii(c)[1:-1] for c in value)
    return event
