"""Erasing deleted texts from the files of a database, where SQLite leaves copies of them.

Owns: when that is due, and the one descriptor besides SQLite's own, through which it writes zeros into unused parts of
pages. May not: touch a byte that is in use.

`secure_delete` overwrites deleted content in its last place only. When SQLite moves rows between pages, a copy stays in
the gap between a page's list of cells and its cells (https://www.sqlite.org/fileformat2.html, section 1.6). VACUUM
would remove these copies, but for some gigabytes no process could write for a minute.

A gap is zeroed in the file while the write-ahead log is empty and no process may write; readers never read a gap. Then
the writer drops its page cache, and the emptied write-ahead log makes the other connections read their pages again.
"""

import math
import os
import sqlite3
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from chatserver.log.interface import LogUnavailable
from chatserver.log.sqlite_file import BUSY_TIMEOUT, FILE_ERRORS, WAL_KEPT
from chatserver.log.sqlite_wal import FORMAT_AT, WAL_FORMAT

#: Seconds from the first deletion or edit to a scrub of the files, and between attempts while another program reads
#: them. That allows several attempts within the minute that is promised, and at most two scrubs a minute.
SCRUB_AFTER, SCRUB_RETRY = 30.0, 5.0
#: Seconds that the end of a server waits for a scrub, and between its attempts while other processes hold it up.
FINISH_DEADLINE, FINISH_RETRY = 1.5, 0.1
#: Seconds between two scrubs for what retention alone has removed: on a busy server it removes something each minute.
RETENTION_SCRUB = 3600.0
#: Bytes of the file in one step: 2 ms, during which commits wait.
STEP_BYTES = 4 * 1024 * 1024
#: Bytes read at a time. Once glibc has freed a buffer of 4 MiB, it keeps up to 8 MiB of free heap to itself.
READ_BYTES = 64 * 1024
#: Milliseconds that a step, and so the writer, waits for readers.
PATIENCE_MS = 200
#: Pages in a file up to which the first byte is the kind of a page: other pages begin with a page number, whose
#: first byte is then 0 or 1.
MAX_PAGES = (1 << 25) - 1

#: The first byte of each kind of b-tree page, and the length of its header.
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}

_log = structlog.get_logger("chatserver.log")


class ScrubSchedule:
    """When a log scrubs its files, on the trio loop: once for all texts that some seconds take away.

    `scrub` does it; it returns False if another process is doing it, and may raise what the use of a file raises.
    """

    def __init__(self, scrub: Callable[[], Awaitable[bool]]) -> None:
        self._scrub = scrub
        self._due = trio.Event()  # the files may still hold bytes of a text that is gone
        self._has_removed = False  # retention has removed records since the last scrub began
        self.began = -math.inf  # the last scrub
        self._is_failing = False  # and the log says so already

    def altered(self) -> None:
        self._due.set()

    def retained(self, lost: Mapping[str, int]) -> None:
        """Note that retention has run, and the rooms that lost something."""
        self._has_removed |= bool(lost)
        if self._has_removed and trio.current_time() >= self.began + RETENTION_SCRUB:
            self._due.set()

    async def run(self) -> None:
        """Scrub after the start (texts may have been deleted before a crash), and when it is due, until cancelled."""
        await trio.sleep(SCRUB_AFTER)
        while True:
            pause = SCRUB_AFTER if await self._try() else SCRUB_RETRY
            await self._due.wait()
            await trio.sleep(pause)

    async def finish(self) -> None:
        """Do the scrub that is due when `run` has been cancelled: this file may never be opened again."""
        with trio.move_on_after(FINISH_DEADLINE, shield=True):
            while self._due.is_set() and not await self._try():  # noqa: ASYNC110  each attempt may find it free
                await trio.sleep(FINISH_RETRY)

    async def _try(self) -> bool:
        self._due = trio.Event()  # this scrub may miss texts that are altered from now on
        self._has_removed, self.began = False, trio.current_time()
        done = False
        try:
            done = await self._scrub()
        except (LogUnavailable, *FILE_ERRORS, OSError) as error:
            if not self._is_failing:  # a disk may be full for a day
                self._is_failing = True
                _log.warning("scrub_failed", reason=str(error))
            return False
        finally:
            if not done:
                self._due.set()
        self._is_failing = self._is_failing and not done
        return done


class Scrubber:
    """The scrubber of one database. Made in any thread; `step` and `close` are called in the writing one."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._wal = path.with_name(f"{path.name}-wal")
        # The descriptor stays open, because closing any descriptor of the file drops SQLite's locks on it.
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor; the connection must be closed already."""
        os.close(self._file)

    @property
    def is_copied_over(self) -> bool:
        """Whether the file has become another database, such as a backup: one that has no write-ahead log."""
        with suppress(OSError):
            return os.pread(self._file, len(WAL_FORMAT), FORMAT_AT) != WAL_FORMAT
        return False

    @property
    def is_wal_long(self) -> bool:
        """Whether the write-ahead log is longer than a burst leaves it; SQLite does not say if it cannot empty it."""
        return self._wal.exists() and self._wal.stat().st_size > WAL_KEPT

    def step(self, page: int) -> int | None:
        """Empty the write-ahead log and scrub some pages from this one on; returns the next page, or 0 at the end.

        None means that another program is reading the file, and with it older images of pages.
        """
        connection = self._connection
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return self._alone(page)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")

    def _alone(self, page: int) -> int | None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            # It is not empty if another program reads, or has written since.
            return None if self._wal.stat().st_size else self._scrub_from(page)
        finally:
            self._connection.execute("COMMIT")

    def _scrub_from(self, page: int) -> int:
        size, count, auto_vacuum = self._connection.execute(
            "SELECT page_size, page_count, auto_vacuum FROM pragma_page_size, pragma_page_count, pragma_auto_vacuum"
        ).fetchone()
        if count > MAX_PAGES or auto_vacuum:
            return 0  # not a file that this server made
        begin, end = (page - 1) * size, min((page - 1) * size + STEP_BYTES, count * size)
        if sum(self._zero_gaps(at, size) for at in range(begin, end, READ_BYTES)):
            os.fsync(self._file)  # of a large file one sync at the end holds up commits for a second and more
        self._connection.execute("PRAGMA shrink_memory")
        return 0 if end == count * size else 1 + end // size

    def _zero_gaps(self, begin: int, size: int) -> int:
        """Zero the gaps in these pages of the file; returns their number."""
        gaps = dirty_gaps(os.pread(self._file, READ_BYTES, begin), size)
        for at, end in gaps:
            os.pwrite(self._file, bytes(end - at), begin + at)
        return len(gaps)


def dirty_gaps(chunk: bytes, size: int) -> list[tuple[int, int]]:
    """The ranges in these pages that are unused but not zero. The file's first page is of no kind, and has no texts."""
    found = []
    for page in range(0, len(chunk) - size + 1, size):
        header = _HEADERS.get(chunk[page])
        if header is None:
            continue
        cells, content = struct.unpack_from(">HH", chunk, page + 3)
        at, end = page + header + 2 * cells, page + content
        if at < end <= page + size and chunk.count(0, at, end) < end - at:
            found.append((at, end))
    return found
