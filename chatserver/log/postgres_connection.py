"""One connection to PostgreSQL: how it is made, what is checked and set on it, and when it is made again.

Owns: connections, their deadlines, the back-off, the sentences for PostgreSQL's errors. May not: know a table, or trio.
Everything here blocks, and is called in a thread.

A server that has gone without a word is the usual failure of a network. Neither a timeout of the server's nor one of
TCP's ends every such wait (a proxy in between acknowledges what it does not forward), so each wait has a deadline here.
"""

import random
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import TypeAlias, TypeVar

import psycopg
import structlog
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import TupleRow

from chatserver.log.interface import LogOpenError, LogUnavailable

#: The oldest version that the tests run against, Debian 12's.
MINIMUM_VERSION = 15_00_00
#: The schema that holds our tables, so that a database may be shared with other programs.
SCHEMA_NAME = "chatserver"
#: Seconds in which a server must accept a connection; the least that libpq takes.
CONNECT_TIMEOUT = 2
#: Seconds that one job may take in all, and less than ANSWER_DEADLINE: then the connection is given up.
JOB_DEADLINE = 4.0
#: Milliseconds after which the server gives up, in this order: on a transaction whose client is silent, which holds
#: locks; on a lock; on a statement. Each is before JOB_DEADLINE, so that its reason is known.
IDLE_IN_TRANSACTION_MS, LOCK_MS, STATEMENT_MS = 2_000, 3_000, 3_500
#: Of the database, in which every character is itself; in LATIN1 a message with an emoji would fail with its group.
ENCODING = "UTF8"
#: Seconds by which the clock of the database may differ from ours; etcd warns at as much.
CLOCK_DIFFERENCE = 1.0
#: Seconds to the second attempt to connect, and at most between two; each time is twice the one before, less a part.
RETRY_FIRST, RETRY_MOST = 0.1, 2.0

#: Of libpq, to see soon that the server is gone. What the URL says goes before these.
_PARAMETERS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": int(JOB_DEADLINE * 1000),
    "application_name": "chatserver",
    "client_encoding": "utf8",
}

_log = structlog.get_logger("chatserver.log")

T = TypeVar("T")


class Connection(psycopg.Connection[TupleRow]):
    """A connection whose every wait ends at `deadline`, by the clock of `time.monotonic`."""

    deadline = 0.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server. What the driver asks for itself is shorter than the deadline, or has none."""
        left = max(self.deadline - monotonic(), 0.0)
        return super().wait(gen, interval, left if timeout is None else min(left, timeout))


#: Called with a new connection; may raise LogOpenError, or an error of the driver's.
Check: TypeAlias = Callable[[Connection], None]


class Server:
    """The server that a URL names: makes connections to it, with a back-off that all of them share."""

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # The driver's message may have parts of a password.
            raise LogOpenError(
                "it is no URL of a database; one looks like postgresql://USER@HOST:5432/DATABASE, and in a password "
                "the characters @ : / ? # % are written %40 %3A %2F %3F %23 %25"
            ) from None
        parameters = {**_PARAMETERS, **{name: value for name, value in given.items() if value is not None}}
        if "," in str(given.get("host", "")):  # of a primary and its standbys the one that may be written to
            parameters.setdefault("target_session_attrs", "read-write")
        self._conninfo = make_conninfo("", **parameters)
        self._lock = threading.Lock()
        self._failures = 0
        self._not_before = 0.0  # by the monotonic clock
        self._reason = ""
        self._check: Check | None = None

    def opened(self, check: Check) -> None:
        """From now on what a new connection is refused for may pass; `check` looks at it as well."""
        self._check = check

    @property
    def reachable(self) -> bool:
        """Whether the last attempt to connect has succeeded."""
        return not self._failures

    @property
    def retry_in(self) -> float:
        """Seconds until the next attempt to connect makes sense."""
        return max(self._not_before - monotonic(), 0.0)

    def connect(self, deadline: float) -> Connection:
        """A new connection, checked by then; LogUnavailable at once while the back-off lasts."""
        with self._lock:
            if monotonic() < self._not_before:
                raise LogUnavailable(f"the database cannot be reached: {self._reason}")
        try:
            connection = self._connect(deadline)
        except LogOpenError as error:
            self._failed(str(error))
            if self._check is None:
                raise
            raise LogUnavailable(f"the database cannot be used: {error}") from error
        except psycopg.Error as error:
            self._failed(sentence(error))
            raise LogUnavailable(f"the database cannot be reached: {self._reason}") from error
        with self._lock:
            was_lost, self._failures, self._not_before = self._failures > 0, 0, 0.0
        if was_lost:
            _log.info("database_reached")
        return connection

    def _connect(self, deadline: float) -> Connection:
        connection = Connection.connect(self._conninfo, autocommit=True, prepare_threshold=0)
        try:
            connection.deadline = deadline
            _set_up(connection)
            if self._check is not None:
                self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _failed(self, reason: str) -> None:
        with self._lock:
            most = min(RETRY_FIRST * 2.0**self._failures, RETRY_MOST)
            self._failures = min(self._failures + 1, 16)
            self._not_before = monotonic() + most * random.uniform(0.5, 1.0)  # noqa: S311  not a secret
            was_lost, self._reason = self._failures > 1, reason
        if not was_lost and self._check is not None:  # at the start the reason is what the server ends with
            _log.warning("database_lost", reason=reason)


class Session:
    """One connection of a server's, made when it is first needed and again when it was lost. For one thread at a time.

    `prepare` is called with each new connection.
    """

    def __init__(self, server: Server, prepare: Check = lambda connection: None) -> None:
        self._server = server
        self._prepare = prepare
        self._connection: Connection | None = None

    def run(self, doing: str, work: Callable[[Connection], T], *, seconds: float | None = None) -> T:
        """Do this within JOB_DEADLINE, and leave no transaction open. Raises LogUnavailable."""
        seconds = JOB_DEADLINE if seconds is None else seconds
        deadline = monotonic() + seconds
        try:
            return work(self._connected(deadline))
        except psycopg.Error as error:
            if monotonic() >= deadline:  # the driver's own words are about what it could not tidy up
                raise LogUnavailable(f"{doing} failed: the database did not answer in {seconds:g} s") from error
            raise unavailable(doing, error) from error
        finally:
            self._tidy()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, deadline: float) -> Connection:
        if self._connection is not None and not _is_idle(self._connection):
            self.close()
        if self._connection is None:
            connection = self._server.connect(deadline)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        self._connection.deadline = deadline
        return self._connection

    def _tidy(self) -> None:
        """Roll back what was begun; a connection on which that fails is of no use any more."""
        connection = self._connection
        if connection is None:
            return
        pgconn = connection.pgconn
        if pgconn.pipeline_status == PipelineStatus.OFF:
            if pgconn.transaction_status == TransactionStatus.IDLE:
                return
            if pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                with suppress(psycopg.Error):  # to close the connection rolls back as well
                    connection.execute("ROLLBACK")
                    return
        self.close()


def _is_idle(connection: Connection) -> bool:
    """Whether the server has said nothing since the last answer; what it says then is mostly why it closes."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _set_up(connection: Connection) -> None:
    """Refuse a server that cannot be used, and set what holds for the session."""
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
    names = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    row = connection.execute(
        f"SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', "
        "set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false),"
        f"{names}"
    ).fetchone()
    assert row is not None
    if row[0]:
        raise LogOpenError("it is a standby, which cannot be written; name the primary, or all of them: host1,host2")
    if row[1]:
        raise LogOpenError("it is read-only (default_transaction_read_only); name a database that may be written")


def compare_clocks(connection: Connection) -> None:
    """Warn of a difference. Messages have the database's times, and tokens and sanctions end by this machine's."""
    began = time()
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    ended = time()
    assert row is not None
    ahead = row[0] - (began + ended) / 2
    if abs(ahead) - (ended - began) / 2 > CLOCK_DIFFERENCE:
        _log.warning("clocks_differ", database_ahead=round(ahead, 1))


def unavailable(doing: str, error: psycopg.Error) -> LogUnavailable:
    """An error of PostgreSQL's as an error of an open log."""
    return LogUnavailable(f"{doing} failed: {sentence(error)}")


def sentence(error: psycopg.Error) -> str:
    """What the driver says, on one line, with the name of the error if the server gave one."""
    message = error.diag.message_primary or " ".join(str(error).split())
    return f"{message} ({type(error).__name__})" if error.sqlstate else message
