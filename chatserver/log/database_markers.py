"""Read markers in SQLite and PostgreSQL: what is counted in which steps, and which markers are dropped.

Owns: the budget of a count, and the statements that both databases speak. May not: know a database; `MarkerQueries` has
the statements that differ, because there speed counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from random import randrange
from typing import Generic, Protocol, TypeVar

from chatserver.log.database import DatabaseLog
from chatserver.log.markers import MAX_MARKED_ROOMS, MAX_MARKERS, Marker, Span, Unread, spans
from chatserver.log.tables import Tables

#: Markers moved between two counts of how many there are. A count reads all of them, in a reading thread.
COUNT_EVERY = 10_000
#: Of this many moved markers, one has the markers of its user counted, which takes 50 µs for 1,000 rooms. Until then a
#: user may have some dozens more than MAX_MARKED_ROOMS, and these are not shown.
COUNT_ONE_IN = 32
#: Records read at a time, and seconds of such reading for one answer. Records with 20 mentions or long texts take ten
#: times as long as plain ones.
COUNT_STEP, COUNT_BUDGET = 1_000, 0.03

_TRIM_USER = """
    DELETE FROM markers WHERE user_id = ? AND room IN
        (SELECT room FROM markers WHERE user_id = ? ORDER BY moved LIMIT ?)
"""
_TRIM = "DELETE FROM markers WHERE (user_id, room) IN (SELECT user_id, room FROM markers ORDER BY moved LIMIT ?)"

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
Counts = tuple[str, int, int]  # of a room: messages and mentions


class MarkerQueries(Protocol[C_contra]):
    """The statements of a database, as a module. `move` is called in a transaction, and the others only read."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of COUNT_BUDGET, in seconds."""

    @property
    def removed_at_once(self) -> int:
        """The most markers above MAX_MARKERS that one move removes; at least twice as many as it may add."""

    def move(self, markers: Sequence[Marker], now_ms: int, connection: C_contra, /) -> None:
        """Move markers."""

    def of_user(self, user_id: str, most: int, connection: C_contra, /) -> dict[str, int]:
        """See `Markers.of_user`; the rooms whose markers moved last."""

    def count(self, user_id: str, step: Sequence[Span], connection: C_contra, /) -> Iterable[Counts]:
        """Count the messages of others, and those that mention the user, by room; at will without zeros."""


class DatabaseMarkers(Generic[C]):
    def __init__(self, log: DatabaseLog[C], queries: MarkerQueries[C]) -> None:
        self._log = log
        self._queries = queries
        self._since_count = 0
        self._excess = 0  # markers above MAX_MARKERS at the last count that no move has begun to remove

    async def move(self, markers: Sequence[Marker]) -> None:
        removed = min(self._excess, self._queries.removed_at_once)
        self._excess -= removed  # before the change, since another move may begin meanwhile
        now_ms = self._log.wall_ms()

        def move(connection: C) -> None:
            self._queries.move(markers, now_ms, connection)
            _trim(markers, removed, self._log.tables(connection))

        await self._log.change("storing read markers", move)
        self._since_count += len(markers)
        if self._since_count >= COUNT_EVERY:
            self._since_count = 0
            ((count,),) = await self._log.ask_tables(lambda tables: tables.run("SELECT count(*) FROM markers"))
            self._excess = max(0, count - MAX_MARKERS)

    async def of_user(self, user_id: str) -> dict[str, int]:
        return await self._log.ask(partial(self._queries.of_user, user_id, MAX_MARKED_ROOMS))

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        queries, heads = self._queries, self._log.queries.heads

        def find(connection: C) -> dict[str, Unread]:
            wanted = list(spans(places, heads(list(places), connection)))
            return count_spans(wanted, lambda step: queries.count(user_id, step, connection), queries.clock)

        return await self._log.ask(find)


def count_spans(
    wanted: Sequence[Span], count: Callable[[Sequence[Span]], Iterable[Counts]], clock: Callable[[], float]
) -> dict[str, Unread]:
    """Have messages and mentions counted, some spans at a time, until COUNT_BUDGET is used up.

    The records left then count as messages.
    """
    counts: dict[str, tuple[int, int]] = {}
    ends = clock() + COUNT_BUDGET
    for step in _steps(span for span in wanted if span.low <= span.high):
        if clock() >= ends:
            break
        counts |= {span.room: (0, 0) for span in step}
        counts |= {room: (messages, mentions) for room, messages, mentions in count(step)}
    return {span.room: span.unread(*counts.get(span.room, (span.high - span.low + 1, 0))) for span in wanted}


def _steps(wanted: Iterable[Span]) -> Iterator[list[Span]]:
    """Spans with COUNT_STEP records together, or up to twice as many."""
    step: list[Span] = []
    records = 0
    for span in wanted:
        step.append(span)
        records += span.high - span.low + 1
        if records >= COUNT_STEP:
            yield step
            step, records = [], 0
    if step:
        yield step


def _trim(markers: Sequence[Marker], removed: int, tables: Tables) -> None:
    """Remove what a user has above MAX_MARKED_ROOMS, and of all users this many that moved longest ago.

    The users to check are taken at random, so that no user can stay uncounted.
    """
    for user_id in sorted({marker.user_id for marker in markers[randrange(COUNT_ONE_IN) :: COUNT_ONE_IN]}):  # noqa: S311
        ((count,),) = tables.run("SELECT count(*) FROM markers WHERE user_id = ?", user_id)
        if count > MAX_MARKED_ROOMS:
            tables.run(_TRIM_USER, user_id, user_id, count - MAX_MARKED_ROOMS)
    if removed:
        tables.run(_TRIM, removed)
