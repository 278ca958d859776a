"""Connections to PostgreSQL: how one is made, what is checked and set on it, and when it is made again.

Owns: connections, their deadlines, the back-off, the wording of PostgreSQL's errors. May not: know a table, or trio.
Everything here blocks, and is called in a thread.

Each wait has a deadline here. Timeouts of the server and of TCP do not end every wait for a server that falls silent,
since a proxy in between may acknowledge data that it cannot forward.
"""

import logging
import random
import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import monotonic, time
from typing import TypeAlias, TypeVar

import psycopg
import structlog
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from chatserver.log.interface import LogOpenError, LogUnavailable

#: The oldest version that the tests run against, Debian 12's.
MINIMUM_VERSION = 15_00_00
#: The schema that holds our tables, so that a database may be shared with other programs.
SCHEMA_NAME = "chatserver"
#: Seconds in which a server must accept a connection; the least that libpq allows.
CONNECT_TIMEOUT = 2
#: Seconds for one job, after which its connection is given up; less than ANSWER_DEADLINE.
JOB_DEADLINE = 4.0
#: Milliseconds after which the server gives up on a transaction whose client is silent (it holds locks), on waiting for
#: a lock, and on a statement. All are shorter than JOB_DEADLINE, so that the error names the cause. The database's own
#: settings of these, which may be meant for other programs, are overruled.
IDLE_IN_TRANSACTION_MS, LOCK_MS, STATEMENT_MS = 2_000, 3_000, 3_500
#: Seconds between two looks whether a caller still waits, where that is known.
IN_VAIN_LOOK = 0.02
#: The encoding that the database must have, for the same reason as the connection.
ENCODING = "UTF8"
#: Seconds by which the clock of the database may differ from ours; etcd warns at the same difference.
CLOCK_DIFFERENCE = 1.0
#: Seconds from the first failed attempt to connect to the next, and the most between two; they double, with jitter.
RETRY_FIRST, RETRY_MOST = 0.1, 2.0

#: Parameters of libpq that detect a dead server soon. Those in the URL override them, but for the encoding: in LATIN1 a
#: message with an emoji would fail, and its whole group with it.
_PARAMETERS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": int(JOB_DEADLINE * 1000),
    "application_name": "chatserver",
    "target_session_attrs": "read-write",  # of several hosts, or of a name's addresses, some may be standbys
}
#: What libpq says of a server that it skips for that, and what we add.
_READ_ONLY = "session is read-only"
_READ_ONLY_CAUSES = (
    "; either it is a standby, then name the primary, or all of them: host1,host2; or default_transaction_read_only is "
    "on, also behind a connection pooler that is not in session mode"
)

#: Errors after which a connection is closed: the server refuses a statement as such. If the tables have changed since
#: the driver prepared it, or a pooler has removed it, the driver would use it again for ever.
_REFUSALS = psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.errors.InternalError_

#: In statements: the time by the server's clock, in ms since 1970.
NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

_log = structlog.get_logger("chatserver.log")
# psycopg logs the errors that follow from the one it raises: a line or two for each group that failed.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

T = TypeVar("T")


class Connection(psycopg.Connection[TupleRow]):
    """A connection whose every wait ends at `deadline`, by the clock of `time.monotonic`."""

    deadline = 0.0
    skipped_standby = False  # a synchronous standby may lack a commit
    is_in_vain: Callable[[], bool] | None = None  # whether no caller waits for the present statement any more

    def note(self, notice: Diagnostic) -> None:
        """Called with warnings: COMMIT succeeds with one if an administrator has cancelled its wait for a standby."""
        self.skipped_standby |= notice.source_function == "SyncRepWaitForLSN"

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server until the deadline, or for the driver's own timeout if that is shorter."""
        left = max(self.deadline - monotonic(), 0.0)
        try:
            if self.is_in_vain is not None:
                gen, interval = self._until_in_vain(gen, self.is_in_vain), IN_VAIN_LOOK
            return super().wait(gen, interval, left if timeout is None else min(left, timeout))
        except (psycopg.Error, OSError) as error:
            with suppress(RuntimeError):  # the end of a pipeline waits again; left to itself it prints a traceback
                gen.close()
            if isinstance(error, OSError):  # there is no memory, or no descriptor, for the wait
                raise psycopg.OperationalError(str(error)) from error
            raise

    def _until_in_vain(self, gen: PQGen[RV], is_in_vain: Callable[[], bool]) -> PQGen[RV]:
        """The same, but it cancels the statement once no caller waits. The driver resumes it at each interval."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and is_in_vain():
                    self.cancel_safe(timeout=CONNECT_TIMEOUT)
                wanted = gen.send(ready)
        except StopIteration as done:
            found: RV = done.value
            return found

    def row(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> TupleRow:
        """The first row of a result that has one."""
        found = self.execute(query, values).fetchone()
        assert found is not None
        return found

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """A pipeline that closes the connection if it fails.

        The server skips what follows a failed statement, but the driver takes it for prepared and would fail for ever.
        """
        try:
            with super().pipeline() as pipeline:
                yield pipeline
        except BaseException:
            self.close()
            raise


#: Called with a new connection; may raise LogOpenError, or an error of the driver's.
Check: TypeAlias = Callable[[Connection], None]


class Server:
    """The server that a URL names. It makes connections, with a back-off that all of them share."""

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # The driver's message may contain parts of a password.
            raise LogOpenError(
                "it is no URL of a database, or has a parameter that libpq does not know; one looks like "
                "postgresql://USER@HOST:5432/DATABASE, and in a password the characters @ : / ? # % are written "
                "%40 %3A %2F %3F %23 %25"
            ) from None
        named = {name: value for name, value in given.items() if value is not None}
        self._conninfo = make_conninfo("", **{**_PARAMETERS, **named, "client_encoding": "utf8"})
        self._lock = threading.Lock()
        self._failures = 0
        self._not_before = 0.0  # by the monotonic clock
        self._reason = ""
        self._check: Check | None = None
        #: Whether the last attempt to connect, or the last job since then, succeeded. One refused connection (there are
        #: too many) does not mean that those which are open do not work.
        self.reachable = True

    def opened(self, check: Check) -> None:
        """Call `check` with new connections from now on, and treat a connection's refusal as temporary."""
        self._check = check

    def connect(self, seconds: float, prepare: Check | None = None) -> Connection:
        """Make a connection, and check and prepare it within `seconds`. Raises LogUnavailable, at once in the back-off.

        Making it takes CONNECT_TIMEOUT for each address before the primary's at which no server answers.
        """
        with self._lock:
            if monotonic() < self._not_before:
                raise LogUnavailable(f"the database cannot be reached: {self._reason}")
        try:
            connection = self._connect(seconds, prepare)
        except LogOpenError as error:
            self._failed(str(error))
            raise LogUnavailable(f"the database cannot be used: {error}") from error
        except psycopg.Error as error:
            reason = sentence(error)
            self._failed(reason + _READ_ONLY_CAUSES * (_READ_ONLY in reason))
            raise LogUnavailable(f"the database cannot be reached: {self._reason}") from error
        with self._lock:
            was_lost, self._failures, self._not_before = self._failures > 0, 0, 0.0
        self.reachable = True
        if was_lost:
            _log.info("database_reached")
        return connection

    def _connect(self, seconds: float, prepare: Check | None) -> Connection:
        # The driver prepares statements that are used often. At first use that would be a second round trip of each.
        try:
            connection, refusal = self._open()
        except OSError as error:  # the driver waits with a descriptor of its own, and there may be none left
            raise psycopg.OperationalError(str(error)) from error
        try:
            connection.deadline = monotonic() + seconds
            if refusal is not None and connection.row("SHOW transaction_read_only") != ("off",):
                raise refusal
            connection.add_notice_handler(connection.note)
            _set_up(connection)
            for step in filter(None, (self._check, prepare)):
                step(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> tuple[Connection, psycopg.Error | None]:
        """A connection, and the error if the database seems to be read-only.

        A pooler repeats what the database told it once, and a standby may have been promoted since.
        """
        try:
            return Connection.connect(self._conninfo, autocommit=True), None
        except psycopg.OperationalError as error:
            if _READ_ONLY not in str(error):
                raise
            return Connection.connect(self._conninfo, autocommit=True, target_session_attrs="any"), error

    def _failed(self, reason: str) -> None:
        self.reachable = False
        with self._lock:
            most = min(RETRY_FIRST * 2.0**self._failures, RETRY_MOST)
            self._failures = min(self._failures + 1, 16)
            self._not_before = monotonic() + most * random.uniform(0.5, 1.0)  # noqa: S311  not a secret
            was_lost, self._reason = self._failures > 1, reason
        if not was_lost and self._check is not None:  # at the start the program exits with the reason instead
            _log.warning("database_lost", reason=reason)


class Session:
    """A connection that is made when first needed, and again after it was lost. For one thread at a time.

    `prepare` is called with each new connection.
    """

    def __init__(self, server: Server, prepare: Check | None = None) -> None:
        self._server = server
        self._prepare = prepare
        self._connection: Connection | None = None

    def run(self, doing: str, work: Callable[[Connection], T], *, seconds: float | None = None) -> T:
        """Run `work` within JOB_DEADLINE or `seconds`, and leave no transaction open. Raises LogUnavailable.

        Connecting has as many seconds of its own: to a far server both together would take too long, each time.
        """
        seconds = JOB_DEADLINE if seconds is None else seconds
        deadline = monotonic() + seconds
        try:
            connection = self._connected(seconds)
            connection.deadline = deadline = monotonic() + seconds
            done = work(connection)
            if connection.skipped_standby:
                self.close()
                raise LogUnavailable(f"{doing} failed: its wait for the synchronous standby was cancelled")
        except psycopg.Error as error:
            if isinstance(error, _REFUSALS):
                self.close()
            if monotonic() >= deadline:  # the driver's own message is about its clean-up, not about the deadline
                raise LogUnavailable(f"{doing} failed: the database did not answer in {seconds:g} s") from error
            raise unavailable(doing, error) from error
        else:
            self._server.reachable = True
            return done
        finally:
            self._tidy()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, seconds: float) -> Connection:
        if self._connection is not None and not _is_idle(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._server.connect(seconds, self._prepare)
        return self._connection

    def _tidy(self) -> None:
        """Roll back an open transaction, or close the connection if that fails."""
        connection = self._connection
        if connection is None:
            return
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            return
        with suppress(psycopg.Error):  # closing the connection rolls back too
            connection.execute("ROLLBACK")
            return
        self.close()


def _is_idle(connection: Connection) -> bool:
    """Whether the server has sent nothing since its last answer; what it sends then mostly says why it closes."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _set_up(connection: Connection) -> None:
    """Refuse a server that cannot be used, and apply the settings of the session."""
    version = connection.info.server_version
    if version < MINIMUM_VERSION:
        raise LogOpenError(
            f"PostgreSQL {version // 10_000} is too old, {MINIMUM_VERSION // 10_000} is needed; upgrade the server"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != ENCODING:
        raise LogOpenError(
            f"its encoding is {encoding}, {ENCODING} is needed; make one with CREATE DATABASE ... TEMPLATE template0 "
            f"ENCODING '{ENCODING}'"
        )
    settings = {
        "search_path": SCHEMA_NAME,
        "statement_timeout": STATEMENT_MS,
        "lock_timeout": LOCK_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "idle_session_timeout": 0,
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }
    if version >= 17_00_00:
        settings["transaction_timeout"] = 0
    names = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    connection.execute(
        "SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'),"
        f"false), {names}"
    )


def compare_clocks(connection: Connection) -> None:
    """Warn if the clocks differ: tokens end by this machine's, and all that is stored by the database's."""
    began = time()
    [now_ms] = connection.row(f"SELECT {NOW_MS}")
    ended = time()
    ahead = now_ms / 1000 - (began + ended) / 2
    if abs(ahead) - (ended - began) / 2 > CLOCK_DIFFERENCE:
        _log.warning("clocks_differ", database_ahead=round(ahead, 1))


def process_of(connection: Connection) -> int:
    """The server's process of this connection: its own until it ends, unless a pooler shares it with others."""
    return int(connection.row("SELECT pg_backend_pid()")[0])


def unavailable(doing: str, error: psycopg.Error) -> LogUnavailable:
    """The error of an open log for an error of PostgreSQL."""
    return LogUnavailable(f"{doing} failed: {sentence(error)}")


def sentence(error: psycopg.Error) -> str:
    """The driver's message on one line, with the name of the error if it came from the server."""
    message = error.diag.message_primary or " ".join(str(error).split())
    return f"{message} ({type(error).__name__})" if error.sqlstate else message
