"""The log in a PostgreSQL database: for servers on many machines.

Owns: which thread does what, and the order of opening and closing. May not: contain SQL; that is in `postgres_schema`,
`postgres_writer`, `postgres_readers` and `postgres_news`, and for data beside the messages in the functions given to
`change` and `ask`. The driver blocks, so it runs in threads, each with a connection of its own: one commits groups, one
makes the other changes, three read, one searches, one listens.

Other servers write to the same database and send hints of it (see `postgres_news`). No decision rests on what this
server keeps of the database in memory.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from threading import Timer
from time import monotonic

import structlog
import trio

from chatserver.log import postgres_index, postgres_markers, postgres_readers, postgres_retention
from chatserver.log.database import DatabaseLog, Opened
from chatserver.log.database_markers import DatabaseMarkers
from chatserver.log.interface import DRAIN_DEADLINE, LogOpenError, LogUnavailable, News, Record, RoomSummary
from chatserver.log.postgres_connection import Connection, Server, Session, compare_clocks, process_of
from chatserver.log.postgres_news import Listener
from chatserver.log.postgres_rows import PostgresTables
from chatserver.log.postgres_schema import MIGRATION_DEADLINE, Found, begin_epoch, is_same, migrate
from chatserver.log.postgres_writer import PostgresWriter
from chatserver.log.program import PLAIN_PROGRAM, Program
from chatserver.log.threads import ThreadPool, run_to_open

#: Seconds after which a start that is not done is logged, with the sessions that it waits for.
SLOW_START = 5.0
_OPENING = "opening the database"  # in an error
_WAITS_FOR = "SELECT pid, application_name FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(%s))"

_log = structlog.get_logger("chatserver.log")


class PostgresLog(DatabaseLog[Connection]):
    """A `Log` in the database at `url`. `wall_ms`: None means the clock of the database."""

    shared = True

    def __init__(self, url: str, *, wall_ms: Callable[[], int] | None = None) -> None:
        self._url = url
        self._wall_ms = wall_ms
        self._zero_ms = 0  # the database's time when the monotonic clock was 0, as last asked
        self._node = secrets.token_hex(4)
        super().__init__(
            postgres_readers, tables=PostgresTables, retention=postgres_retention,
            wall_ms=wall_ms or self._database_ms,
        )  # fmt: skip
        self._change_thread = ThreadPool(1)
        self.index = postgres_index.PostgresIndex(self)
        self.markers = DatabaseMarkers(self, postgres_markers)
        self._server: Server  # set by `run`

    @property
    def reachable(self) -> bool:
        return super().reachable and self._server.reachable

    async def run(
        self, news: News, program: Program = PLAIN_PROGRAM, *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """Open, commit groups and listen until cancelled, close.

        Raises LogOpenError also later; see `_end_when_replaced`.
        """
        self._on_hints = program.on_hints
        self._token = trio.lowlevel.current_trio_token()
        self._server = server = await run_to_open(Server, self._url)
        # A migration, here or in another server, may take minutes. PostgreSQL undoes it if this process ends.
        found = await run_to_open(_open, server, abandon_on_cancel=True)

        def check(connection: Connection) -> None:
            if not is_same(connection, found):
                self._note_replaced()
                raise LogUnavailable("the database has another history")

        server.opened(check)
        session, change_session = Session(server), Session(server)
        begin = partial(begin_epoch, found)
        writer = PostgresWriter(session, change_session, self._node, self._wall_ms, begin)
        readers = postgres_readers.open_readers(server, post=program.post)
        searcher = postgres_readers.open_readers(server, 1, postgres_index.SETTINGS)
        self._opened = Opened(found.identity, writer, readers, searcher)
        self.index.has_old_words = found.has_old_words
        try:
            # Before a reader connects: where the database allows too few connections, reads lack theirs.
            await _connect(self._writer_thread, session)
            await _connect(self._change_thread, change_session)
            async with trio.open_nursery() as nursery:
                pass_on = self._passing_on(check, nursery)
                await nursery.start(Listener(server, self._node, pass_on, self._note_time).run)
                nursery.start_soon(self._end_when_replaced)
                nursery.start_soon(self.index.run, program.faulted)
                await self._groups.run(partial(self._note, news), program, task_status=task_status)
        finally:
            self._opened = None
            await searcher.close()
            await readers.close()
            # Each connection in its thread. A job that hangs there ends at its deadline, or with the process.
            with trio.move_on_after(DRAIN_DEADLINE, shield=True):
                await self._change_thread.close(change_session.close)
                await self._writer_thread.close(writer.close)

    def _note_time(self, now_ms: int) -> None:
        """Called in the listener's thread with the database's time."""
        self._zero_ms = now_ms - int(monotonic() * 1000)

    def _database_ms(self) -> int:
        # This machine's clock may be minutes off, so that a ban of another server would have ended here already.
        return self._zero_ms + int(monotonic() * 1000)

    async def rooms(self, limit: int) -> list[RoomSummary]:
        return await self.ask(partial(postgres_readers.rooms, limit))

    def _note(self, news: News, records: Sequence[Record]) -> None:
        self.index.written(len(records))
        news(records)


def _open(server: Server) -> Found:
    """Connect for the first time, and create what is missing."""
    with closing(Session(server)) as session, closing(Session(server)) as other:
        try:
            # Jobs of their own, with the usual deadline.
            session.run(_OPENING, compare_clocks)
            one, two, *again = (each.run(_OPENING, process_of) for each in (session, other) * 2)
            if one == two or again != [one, two]:
                raise LogOpenError(
                    "a connection pooler in front of it is in transaction mode, which breaks LISTEN, prepared "
                    "statements and the settings of connections; use session mode, or connect without it"
                )
            with _logged_if_slow(one, other):
                return session.run(_OPENING, migrate, seconds=MIGRATION_DEADLINE)
        except LogUnavailable as error:
            raise LogOpenError(str(error)) from error


async def _connect(thread: ThreadPool, session: Session) -> None:
    try:
        await thread.run(partial(session.run, _OPENING, process_of))
    except LogUnavailable as error:
        raise LogOpenError(str(error)) from error


@contextmanager
def _logged_if_slow(process: int, other: Session) -> Iterator[None]:
    """Log if the block takes long: which sessions this process of the server waits for, if it waits for any."""

    def look(connection: Connection) -> None:
        found = connection.execute(_WAITS_FOR, (process,)).fetchall()
        _log.warning("database_opens_slowly", waits_for=[f"process {pid} ({name})" for pid, name in found])

    def run() -> None:
        with suppress(LogUnavailable):
            other.run(_OPENING, look)

    timer = Timer(SLOW_START, copy_context().run, (run,))  # the context has the field `worker` of log lines
    timer.daemon = True  # of a start that was cancelled
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
