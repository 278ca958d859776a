"""Hints from other servers on the same database: LISTEN and NOTIFY.

Owns: the channel, the form of its messages, the connection that listens. May not: trust a notification, which is only a
hint to read the log.

PostgreSQL queues notifications for listeners, but not for a server that has lost its connection. So after a new LISTEN,
every room written since the old connection was last known to work is a hint, and so are all other data.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import msgspec
import psycopg
import trio

from chatserver.log.interface import DRAIN_DEADLINE, SANCTIONS_CHANGED, SIGNOUTS_CHANGED, TEXTS_CHANGED, LogUnavailable
from chatserver.log.postgres_connection import JOB_DEADLINE, NOW_MS, RETRY_FIRST, Connection, Server, unavailable
from chatserver.log.program import OnHints
from chatserver.log.threads import ThreadPool

CHANNEL = "chatserver"
BESIDE_MESSAGES = {SANCTIONS_CHANGED: 0, SIGNOUTS_CHANGED: 0, TEXTS_CHANGED: 0}
#: Bytes of one notification; PostgreSQL allows less than 8,000.
MAX_PAYLOAD = 7_900
#: Seconds between two checks of the connection, and for one: if it hangs, messages and bans of other servers come so
#: much later. A database that is too slow for a check costs one more connection of each server.
CHECK_INTERVAL, CHECK_DEADLINE = 1.0, 1.0
#: Milliseconds by which a room's last record may be older than its commit: several times the longest commit.
MARGIN_MS = 60_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, dict[str, int]]).decode
_WRITTEN = "SELECT name, last FROM rooms WHERE recent >= %s::bigint / 10000"  # `recent` has an index


def notify(connection: Connection, node: str, hints: Mapping[str, int]) -> None:
    """Send rooms with their last offsets to the other servers, when the current transaction commits.

    A name that begins with `*` is no room; it means that data other than messages should be read again.
    """
    payload = _encode((node, hints)).decode()
    if len(payload.encode()) <= MAX_PAYLOAD:
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        return
    items = list(hints.items())
    assert len(items) > 1, "the name of a room is short"
    for half in (items[: len(items) // 2], items[len(items) // 2 :]):
        notify(connection, node, dict(half))


class Listener:
    """The connection that listens; it is made again when lost. `on_hints` is called on the loop.

    `note_time` is called in the thread, with the database's time in ms.
    """

    def __init__(self, server: Server, node: str, on_hints: OnHints, note_time: Callable[[int], None]) -> None:
        self._server = server
        self._node = node
        self._on_hints = on_hints
        self._tell_time = note_time
        self._thread = ThreadPool(1)
        self._connection: Connection | None = None
        self._whole_until = 0  # ms by the database's clock until which no hint was missed; 0: never connected
        self._arrived: list[str] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; reports that it has started once it listens."""
        try:
            while True:
                try:
                    await self._listen(task_status)
                except (LogUnavailable, OSError):  # OSError: the kernel has no room to watch one more descriptor
                    await self._thread.close(self._close)
                    # Not for the whole back-off: once another connection is made, messages are stored again, and bans
                    # of other servers must not come later than these.
                    await trio.sleep(RETRY_FIRST)
        finally:
            with trio.move_on_after(DRAIN_DEADLINE, shield=True):
                await self._thread.close(self._close)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        is_first = not self._whole_until
        connection, missed = await self._thread.run(self._connect)
        if is_first:
            task_status.started()
        self._on_hints(missed)
        self._hint_arrived()
        check_at = trio.current_time() + CHECK_INTERVAL
        while True:
            with trio.move_on_at(check_at):
                await trio.lowlevel.wait_readable(connection.fileno())
            if trio.current_time() < check_at:
                self._read(connection)
            else:
                await self._thread.run(self._check)
                self._hint_arrived()
                check_at = trio.current_time() + CHECK_INTERVAL

    def _read(self, connection: Connection) -> None:
        try:
            connection.pgconn.consume_input()
        except psycopg.Error as error:
            raise unavailable("listening", error) from error
        payloads = []
        while (notification := connection.pgconn.notifies()) is not None:
            payloads.append(notification.extra)
        self._hint(payloads)

    def _hint_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._hint(arrived)

    def _hint(self, payloads: Sequence[str | bytes]) -> None:
        hints: dict[str, int] = {}
        for payload in payloads:
            try:
                node, rooms = _decode(payload)
            except msgspec.MsgspecError:  # from another program
                continue
            if node != self._node:
                hints |= rooms
        self._on_hints(hints)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _connect(self) -> tuple[Connection, dict[str, int]]:
        """Connect and listen; returns also the rooms that were written while there was no connection."""
        self._connection = connection = self._server.connect(JOB_DEADLINE)
        # The driver consumes notifications that arrive while it waits for an answer, and hands them to this.
        connection.add_notify_handler(lambda notification: self._arrived.append(notification.payload))
        try:
            connection.execute(f"LISTEN {CHANNEL}")
            missed = {}
            if self._whole_until:
                found = connection.execute(_WRITTEN, (self._whole_until - MARGIN_MS,)).fetchall()
                missed = dict(found) | BESIDE_MESSAGES
            self._note_time(connection)
        except psycopg.Error as error:
            raise unavailable("listening", error) from error
        return connection, missed

    def _check(self) -> None:
        """Check that the connection works. Raises LogUnavailable."""
        assert self._connection is not None
        self._connection.deadline = monotonic() + CHECK_DEADLINE
        try:
            self._note_time(self._connection)
        except psycopg.Error as error:
            raise unavailable("listening", error) from error

    def _note_time(self, connection: Connection) -> None:
        [self._whole_until] = connection.row(f"SELECT {NOW_MS}")
        self._tell_time(self._whole_until)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
