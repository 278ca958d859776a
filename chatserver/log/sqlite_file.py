"""One SQLite file as a log: the lock on it, its connections, and the error messages for what can be wrong with it.

Owns: the lock, the pragmas, the wording of SQLite's errors. May not: know a table, or store or read messages.
Everything here blocks, and is called in a thread.
"""

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from shlex import quote
from time import time_ns

import msgspec

from chatserver.log.file_lock import FileLock
from chatserver.log.interface import Identity, LogOpenError, LogUnavailable
from chatserver.log.sqlite_schema import APPLICATION_ID, MIGRATIONS, migrate
from chatserver.log.words import spaced_words

#: The first SQLite with STRICT tables.
MINIMUM_SQLITE = (3, 37, 0)
#: Seconds that another program (a backup, a shell) may lock the file before a call fails.
BUSY_TIMEOUT = 2.0
#: KiB of page cache of each of the four connections. SQLite's 2,000 are no faster, and cost 4 MB more after a burst.
PAGE_CACHE = 512
#: Bytes of write-ahead log left on disk after a burst.
WAL_KEPT = 64 * 1024 * 1024
#: Bytes up to which a file is checked whole when it is opened, in about 0.3 s.
MAX_CHECKED_AT_OPEN = 64 * 1024 * 1024
#: Bytes of the longest path that SQLite opens: with the ending of a journal it has 512.
LONGEST_PATH = 504
#: On Linux, the mounts that this process sees.
MOUNTS = Path("/proc/self/mountinfo")
#: Errors for damage that SQLite does not notice, in JSON and in UTF-8.
_DAMAGE = (msgspec.DecodeError, UnicodeDecodeError)
#: Nanoseconds after which a change of a file gets another time: FAT keeps times to 2 s, and the kernel takes that of
#: its last clock tick.
TIME_STEP = 2_100_000_000
#: What the use of a file raises. Python turns SQLITE_NOMEM into a MemoryError without words.
FILE_ERRORS = (sqlite3.Error, MemoryError, *_DAMAGE)


def lock_file(database: Path) -> FileLock:
    """Lock a database for this server alone, until the lock is closed: an `flock` on a second file.

    A second file, because closing any descriptor of the database drops SQLite's own locks on it. It holds the owner's
    process id, which the next server names in its error.
    """
    path = database.with_name(f"{database.name}-lock")
    lock = FileLock(path)
    with ExitStack() as undo:
        undo.callback(lock.close)
        try:
            is_ours = lock.try_acquire()
        except LogUnavailable as error:
            raise LogOpenError(f"{error}; put it on a local disk") from error
        if not is_ours:
            owner = os.pread(lock.descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            message = f"{database} is in use by another server (process {owner}); stop that one or choose another --log"
            raise LogOpenError(message)
        undo.pop_all()
    # On a full disk the number cannot be written; the lock works without it.
    with suppress(OSError):
        number = f"{os.getpid():<19}\n"  # of one length, so that nothing stays of the last one
        os.pwrite(lock.descriptor, number.encode(), 0)
    return lock


def checked_path(name: str) -> Path:
    """The absolute path of a database, if it can be one."""
    try:
        path = Path(name).expanduser().resolve()
        if path.is_symlink():  # since Python 3.13 this is what is left of a loop
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except (OSError, RuntimeError, ValueError) as error:  # an unknown user, a loop of links, no working directory, NUL
        raise LogOpenError(f"cannot open {name}: {error}") from error
    if path.is_dir():
        raise LogOpenError(f"{path} is a directory; name a file in it, as in sqlite:{name.rstrip('/')}/chat.db")
    if not path.parent.is_dir():
        raise LogOpenError(f"the directory {path.parent} does not exist; make it or choose another path")
    if (length := len(os.fsencode(path))) > LONGEST_PATH:
        raise LogOpenError(f"{path} has {length} bytes, SQLite takes up to {LONGEST_PATH}; choose a shorter path")
    return path


def create_private(path: Path) -> None:
    """Make an empty database that only its owner can read, since it holds messages and the secret.

    SQLite gives its side files the same permissions. Opening for writing finds a missing permission now, and not at the
    first message; called only under the lock (see `lock_file`). A second name of the file would have a lock of its own,
    and a write-ahead log: two servers would use the same offsets. So would a container into which the file alone is
    mounted, and the last commits would go with that container.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        names = path.stat().st_nlink
    except OSError as error:
        raise LogOpenError(f"cannot open {path}: {error.strerror}; check its owner and permissions") from error
    if names > 1:
        message = f"{path} has {names} names (hard links), and SQLite keeps the last commits of each apart"
        raise LogOpenError(f"{message}; keep one name, that of the latest -wal file")
    if _is_mount(path):
        message = f"{path} is mounted alone, and SQLite keeps the last commits beside it, in another file system"
        raise LogOpenError(f"{message}; mount its folder, and move {path.name}-wal there if there is one")


def _is_mount(path: Path) -> bool:
    where = re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(path))  # as the kernel writes it
    try:
        return any(line.split()[4] == where for line in MOUNTS.read_bytes().splitlines())
    except OSError:  # another system, or no /proc
        return False


def connect_writer(path: Path, turn: AbstractContextManager[None] | None = None) -> tuple[sqlite3.Connection, Identity]:
    """The connection that writes, to a database with our schema. With a `turn`, other processes have one too."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        wanted = ".".join(map(str, MINIMUM_SQLITE))
        raise LogOpenError(f"SQLite {sqlite3.sqlite_version} is too old, {wanted} is needed; use another Python")
    with _connected(path) as connection:
        _refuse_foreign(connection, path)
        small = path.stat().st_size <= MAX_CHECKED_AT_OPEN
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if small else "ok"
        if found != "ok":
            raise _damaged(path, found)
        with turn or nullcontext():
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise LogOpenError(f"{path} cannot use a write-ahead log (got {mode}); put it on a local disk")
            connection.execute("PRAGMA synchronous = FULL")  # a commit survives loss of power, not only kill -9
            connection.execute("PRAGMA fullfsync = ON")  # on macOS too, whose fsync leaves it in the drive's cache
            connection.execute("PRAGMA secure_delete = ON")  # deleted content is overwritten, not only unlinked
            connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
            connection.execute("PRAGMA trusted_schema = ON")  # lets triggers call this function
            connection.create_function("spaced_words", 1, spaced_words, deterministic=True)
            identity = migrate(connection)
            if identity is None:
                raise _damaged(path, "the log's identity is missing")
    return connection, identity


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, with all its files open.

    SQLite would open the write-ahead log only at the first read, when an attack may have taken the last descriptor.
    """
    with _connected(path) as connection:
        # The entries of the index, by word and message.
        connection.execute("CREATE VIRTUAL TABLE temp.search_entries USING fts5vocab(main, search, instance)")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM rooms WHERE id = 0").fetchone()
    return connection


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that is closed if the block fails."""
    with ExitStack() as undo:
        # With these arguments the module begins no transactions, and any thread may use the connection.
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        undo.callback(connection.close)
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE}")
        connection.execute("PRAGMA temp_store = MEMORY")  # the disk of /tmp may be full, and gets no deleted text
        yield connection
        undo.pop_all()


class OpenFiles:
    """The files of an open database: whether they are still those that were opened.

    SQLite goes on writing to a file that was removed or replaced, and what it commits there is gone with the process.
    Processes that have not the same -shm file do not know of each other, and overwrite each other's commits. If the
    file of the lock was removed, another server may have made one since (see `lock_file`), and write as well.

    To remove or replace a file changes its directory, at a time that no program can set (ctime). So the files are
    looked at only if that time is another one, or so recent that a later change may have the same.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        # As bytes, since the name of a directory need not be UTF-8.
        [name] = connection.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list").fetchone()
        self._path = path = os.fsdecode(name)
        self._directory = str(Path(path).parent)
        self._files = [f"{path}{suffix}" for suffix in ("", "-wal", "-shm", "-lock")]
        self._opened = self._found()
        self._checked = (0, 0, 0)  # the directory, as it was before the files were looked at

    def _found(self) -> list[tuple[int, int] | None]:
        return [found and found[:2] for found in map(_stamp, self._files)]

    def check(self, doing: str) -> None:
        """Raises LogUnavailable. Takes 2 µs."""
        directory = _stamp(self._directory)
        if directory == self._checked:
            return
        *files, lock = self._found()
        *opened, own_lock = self._opened
        if files != opened or lock not in (own_lock, None):
            raise LogUnavailable(
                f"{doing} failed: {self._path}, its -wal, -shm or -lock was removed or replaced; restart the server"
            )
        if directory and time_ns() - directory[2] > TIME_STEP:
            self._checked = directory

    @property
    def belong_to_others(self) -> bool:
        """Whether processes that began later have another -shm file."""
        return self._found()[2] not in (self._opened[2], None)


def _stamp(file: str) -> tuple[int, int, int] | None:
    """Which file this is, and when it was last changed."""
    try:
        found = os.stat(file)  # noqa: PTH116  half as long as with a Path
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse the databases of other programs, and of servers newer than this one."""
    version, application, tables = connection.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema) "
        "FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise LogOpenError(f"{path} is the database of another program; choose another path")
    if version > len(MIGRATIONS):
        raise LogOpenError(
            f"{path} has schema {version}, this server knows up to {len(MIGRATIONS)}; "
            "use the newer server that wrote it"
        )


def _damaged(path: Path, what: str) -> LogOpenError:
    file = quote(str(path))  # SQLite 3.53's `.dump` stops at the damage without an error, Debian 12's has no `.recover`
    command = f"sqlite3 {file} '.recover --ignore-freelist' || sqlite3 {file} .dump"
    return LogOpenError(f"{path} is damaged ({what}); restore a backup, or save what is left with: {command}")


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """FILE_ERRORS of the block become the error for the operator who starts the server."""
    try:
        yield
    except FILE_ERRORS as error:
        raise _open_error(path, error) from error


def _open_error(path: Path, error: Exception) -> LogOpenError:
    name = _name_of(error)
    if name.startswith("SQLITE_NOTADB"):
        return LogOpenError(f"{path} is not an SQLite database; move it away or choose another path")
    if name.startswith("SQLITE_CORRUPT") or isinstance(error, _DAMAGE):
        return _damaged(path, str(error))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LogOpenError(f"{path} is locked by another program; find it with: fuser {quote(str(path))}")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN", "SQLITE_AUTH")):
        return LogOpenError(f"{path} cannot be written ({error}); check owner and permissions of file and directory")
    if name in {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}:  # the second: no room for the file of its shared memory
        return LogOpenError(f"{path} cannot be opened: its disk is full ({name}); free space there")
    return LogOpenError(f"{path} cannot be opened: {_sentence(error)}")


def unavailable(doing: str, error: Exception) -> LogUnavailable:
    """The error of an open log for one of FILE_ERRORS."""
    return LogUnavailable(f"{doing} failed: {_sentence(error)}")


def _sentence(error: Exception) -> str:
    return "no memory is left" if isinstance(error, MemoryError) else f"{error} ({_name_of(error)})"


def _name_of(error: Exception) -> str:
    # Errors that the Python module raises itself, such as use after close, have no name.
    return str(getattr(error, "sqlite_errorname", type(error).__name__))
