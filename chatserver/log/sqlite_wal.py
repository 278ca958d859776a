"""Whether a write-ahead log that a crash has left behind still has all commits, and its database.

Owns: reading that file. May not: change it, or be called while a process has the database open.

SQLite drops the commits after the first damaged frame without an error, and the server would use their offsets again;
without the database it drops them all. A loss of power damages the last commit alone, which was not acknowledged,
because each is synced before the next is written. The format: https://www.sqlite.org/fileformat2.html, section 4.
"""

import struct
from contextlib import suppress
from functools import partial
from pathlib import Path
from shlex import quote

from chatserver.log.interface import LogOpenError

_HEADER = struct.Struct(">8I")  # magic, version, size of a page, checkpoint, two salts, two checksums
_FRAME = struct.Struct(">6I")  # page, pages of the database after a commit or else 0, two salts, two checksums
#: The first number; its last bit is the order of bytes in the words of checksums.
_MAGIC = 0x377F0682
_WORD = 0xFFFFFFFF
#: In the first page of a database: where its format is, for writers and for readers, and that of one with such a log.
FORMAT_AT, WAL_FORMAT = 18, b"\2\2"
#: Opening the database drops the lost commits; without a new epoch their offsets would be used again.
_NEW_EPOCH = "UPDATE identity SET epoch = lower(hex(randomblob(3)))"


def check_wal(database: Path) -> None:
    """Refuse a database whose write-ahead log has lost commits, and one that has lost its database, or has another.

    Raises LogOpenError.
    """
    wal = database.with_name(f"{database.name}-wal")
    lost = size = 0
    with suppress(OSError):  # there is none, or SQLite will say why it cannot be read
        lost, size = lost_commits(wal), wal.stat().st_size
    if size > _HEADER.size and not (database.exists() and database.stat().st_size):
        raise LogOpenError(
            f"{database} is missing or empty, but {wal} has commits of it, which SQLite would delete; bring the two "
            "together again, or remove that file to begin a new log"
        )
    if size > _HEADER.size and not _has_wal(database):
        raise LogOpenError(
            f"{wal} has commits of another database, which would damage {database}; if that is a backup that you "
            "restore, remove the first file"
        )
    if lost:
        raise LogOpenError(
            f"{wal} is damaged, and at least {lost:,} of its commits would be lost; restore a backup, or go on without "
            f'them, as a new log for clients: sqlite3 {quote(str(database))} "{_NEW_EPOCH}"'
        )


def _has_wal(database: Path) -> bool:
    with suppress(OSError), database.open("rb") as file:
        return file.read(FORMAT_AT + len(WAL_FORMAT))[FORMAT_AT:] == WAL_FORMAT
    return True  # SQLite will say why it cannot be read


def lost_commits(wal: Path) -> int:
    """The number of acknowledged commits after a damaged place; 1 if the whole file cannot be read."""
    with wal.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return 0
        magic, _, size, _, *salts, first, second = _HEADER.unpack(header)
        order = "<>"[magic & 1]  # of the bytes in the words of checksums
        sums = _checksum(header[:24], order, (0, 0))
        if magic | 1 != _MAGIC | 1 or sums != (first, second):
            # The header was synced before the first frame was written. Zeros are what another program leaves that
            # empties the file while a server writes: the frames after that are behind them.
            return int(any(part.strip(b"\0") for part in iter(partial(file.read, 1 << 16), b"")))
        # Behind the damage, the first commit of a run of frames that continue each other was not acknowledged: it is
        # torn, or its sync failed and the next commit was written over its beginning. Those after it were.
        intact = belongs = True
        run = lost = 0
        before = [sums]  # the frame's before: as it has them, and as its content gives them if it is damaged
        while len(frame := file.read(_FRAME.size + size)) == _FRAME.size + size:
            _, commits, *frame_salts, first, second = _FRAME.unpack_from(frame)
            computed = [_checksum(frame[:8] + frame[_FRAME.size :], order, sums) for sums in before]
            continues, is_current = (first, second) in computed, frame_salts == salts
            intact = intact and continues and is_current
            belongs = is_current or (continues and belongs)  # others are left from before the file was last begun anew
            run = run if continues else 0
            if commits and belongs and not intact:
                run += 1
                lost += run > 1
            before = [(first, second), *computed[: computed[0] != (first, second)]]
        return lost


def _checksum(content: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite's checksum, continued from `sums`; 50 µs for a page of 4 KiB."""
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    first, second = sums
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second
