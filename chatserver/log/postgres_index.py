"""Full-text search in PostgreSQL: a column of words and a GIN index over it.

Owns: the words in the index, when its pending list is merged, and the thread that searches. May not: hold up a commit,
or the reading threads.

The words are those of `words`, since PostgreSQL's parser takes anything like an address for one word. They are written
in the message's own transaction, so every server finds a message as soon as it is durable.

A commit only appends to the index's pending list, which searches read too. It is merged into the tree here, beside the
commits: 10 µs a message together, against 14 µs if commits merged it. Words of an older version are stored anew.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
from psycopg import errors

from chatserver.log.database_index import DatabaseIndex
from chatserver.log.index import CANDIDATES, MAX_HITS, Found, Question, ranked
from chatserver.log.interface import Record
from chatserver.log.postgres_connection import Connection
from chatserver.log.postgres_rows import plain_array, text_array
from chatserver.log.program import Faulted
from chatserver.log.rows import COLUMNS, HIGHEST, OF_MESSAGES, OFFSET_BITS, record_of
from chatserver.log.words import words_of

#: Messages whose words are stored anew in one transaction: about 10 ms, during which commits to their rooms wait.
RENEW_STEP = 500
#: Characters of a word that are indexed: PostgreSQL allows 2,046 bytes, and a question has 256 characters.
MAX_WORD = 256
#: Messages after which the list is merged, and seconds after which it is merged if there are fewer.
MERGE_AFTER, MERGE_INTERVAL = 5_000, 10.0
#: Seconds of pause for each second of merging, and seconds until another attempt after a failure.
MERGE_PAUSE, MERGE_RETRY = 2.0, 10.0
#: Milliseconds of one merge, for which other changes wait, and memory for it, the least that there can be. A merge that
#: is cut short keeps only what it has merged whenever that memory was full: with more, a long list is never merged.
MERGE_MS, MERGE_MEMORY = 2_000, "1MB"
#: Milliseconds that each statement of a search may last, on a busy machine too. There is one connection for it, and one
#: search at a time.
SLOWEST_SEARCH_MS = 900
#: Settings of the connection that searches. The planner can estimate the cost of a word only from that word; scanning
#: the whole table is never cheaper; and one search may use one core. By default the planner also takes most pages for
#: cached after the first messages, and an index of words for free: it read the messages in their order too often.
SETTINGS = (
    f"statement_timeout = {SLOWEST_SEARCH_MS}",
    "plan_cache_mode = force_custom_plan",
    "enable_seqscan = off",
    "max_parallel_workers_per_gather = 0",
    "effective_cache_size = '8kB'",
    "random_page_cost = 0.05",
    "seq_page_cost = 0.05",
)
#: Matches, as the planner estimates, from which on they are first looked for in the newest messages of each room.
FREQUENT = 20_000
#: Messages among which they are looked for, of one room and in all: 0.1 s.
NEWEST_OF_EACH, NEWEST = 1_000, 20_000
#: The advisory lock for merging, "word".
_LOCK = 0x776F7264

_ROOM = "SELECT id FROM rooms WHERE name = %s"
_ESTIMATE = "EXPLAIN (FORMAT JSON) SELECT FROM messages WHERE words @@ %(words)s::tsquery AND {where}"
# The names are joined last: with all matches, the planner would read the ids of all rooms even for a search in one.
_FIND = f"""
    WITH found AS MATERIALIZED (
        SELECT room, place, {COLUMNS} FROM {{messages}} WHERE words @@ %(words)s::tsquery AND {{where}}
        {{order}} LIMIT %(most)s
    )
    SELECT name, room, place, {OF_MESSAGES} FROM found AS messages JOIN rooms ON rooms.id = room
    ORDER BY room DESC, place DESC
"""  # noqa: S608
# In the order of the rooms, and of each room's messages.
_NEWEST = f"""(
    SELECT newest.* FROM rooms CROSS JOIN LATERAL (
        SELECT room, place, {COLUMNS}, words FROM messages WHERE room = rooms.id AND {{bounds}}
        ORDER BY place DESC LIMIT %(each)s
    ) AS newest
    WHERE rooms.id {{rooms}} %(room)s ORDER BY rooms.id DESC LIMIT {NEWEST}
) AS newest"""  # noqa: S608
_ANYWHERE, _IN_ROOM = "(room, place) <= (%(room)s, %(high)s)", "room = %(room)s AND place <= %(high)s"
_OF_USER = " AND ARRAY[user_id] @> %(users)s::text[]"  # as in the index
_RENEW_BEHIND = "SELECT room, place FROM old_words FOR UPDATE"
_OLD_TEXTS = """
    SELECT room, place, text FROM messages WHERE (room, place) > (%s, %s) AND words IS NOT NULL
    ORDER BY room, place LIMIT %s
"""
#: In the order of their ids, as groups lock them.
LOCK_ROOMS = "SELECT FROM rooms WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE"
_RENEW = """
    UPDATE messages SET words = renewed.words::tsvector
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) AS renewed (room, place, text, words)
    WHERE messages.room = renewed.room AND messages.place = renewed.place AND messages.text = renewed.text
        AND messages.words <> renewed.words::tsvector
"""
_MERGE_SETTINGS = "SELECT set_config('statement_timeout', %s, true), set_config('maintenance_work_mem', %s, true)"
_MERGE = "SELECT gin_clean_pending_list('messages_words') WHERE pg_try_advisory_xact_lock(%s)"


class PostgresIndex(DatabaseIndex[Connection]):
    lag = 0.0  # words are stored together with their message
    has_old_words = False  # the words of some messages are of an earlier version

    async def _search(self, question: Question) -> Found:
        is_in_vain = False  # no caller waits any more, and the next search would wait for this one

        def find(connection: Connection) -> Found:
            connection.is_in_vain = lambda: is_in_vain  # until the next search, which is all that this connection does
            return _find(question, self._log.wall_ms(), connection)

        try:
            return await self._log.search(find)
        finally:
            is_in_vain = True

    def written(self, messages: int) -> None:
        """Note that this server has committed this many messages."""
        self._note(messages, MERGE_AFTER)

    async def run(self, faulted: Faulted) -> None:
        """Merge the list from time to time, until cancelled."""
        self._faulted = faulted
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            while True:
                await self._wait(MERGE_INTERVAL)
                self._begin_round()
                while await self._beside_commits("merging the index", _merge):
                    pass

    async def _renew(self) -> None:
        """Store the words of old messages anew, if a new version of `words` may have changed them."""
        while self.has_old_words:
            self.has_old_words = await self._beside_commits("indexing", _renew)

    async def _beside_commits(self, doing: str, work: Callable[[Connection], bool]) -> bool:
        """Work, then pause for longer than that took, to leave the database to commits. Returns whether to go on.

        For a user that does not own the tables, it is tried again with the next messages, and not before.
        """
        began = trio.current_time()
        try:
            more = await self._log.change(doing, work)
        except Exception as error:  # noqa: BLE001
            self._note_failure(error)
            await trio.sleep(MERGE_RETRY)
            return not isinstance(error.__cause__, errors.InsufficientPrivilege)
        self._is_failing = False
        await trio.sleep(MERGE_PAUSE * (trio.current_time() - began))
        return more


# -- in threads --------------------------------------------------------------------------------------------------------


def vectors(records: Sequence[Record]) -> str:
    """The words of each record as an array of texts that convert to `tsvector`; empty for records of other kinds.

    Words consist of letters and digits, so they need no quotation marks.
    """
    return text_array(["" if record.kind else _words(record.text) for record in records])


def _words(text: str) -> str:
    return " ".join([word[:MAX_WORD] for word in words_of(text)])


def _merge(connection: Connection) -> bool:
    """Merge the list for MERGE_MS, unless another server is merging it; returns whether there may be more."""
    connection.execute(_MERGE_SETTINGS, (str(MERGE_MS), MERGE_MEMORY))
    try:
        connection.execute(_MERGE, (_LOCK,))
    except errors.QueryCanceled:
        return True
    return False


def _renew(connection: Connection) -> bool:
    """Store the words of the next old messages anew; returns whether there may be more."""
    behind = connection.execute(_RENEW_BEHIND).fetchone()
    if behind is None:
        return False  # another server has finished
    rows = connection.execute(_OLD_TEXTS, (*behind, RENEW_STEP)).fetchall()
    if not rows:
        connection.execute("DELETE FROM old_words")
        return False
    foreign = [(room, place, text) for room, place, text in rows if not text.isascii()]
    if foreign:
        rooms, places, texts = zip(*foreign, strict=True)
        ids = plain_array(rooms)
        connection.execute(LOCK_ROOMS, (ids,))
        connection.execute(_RENEW, (ids, plain_array(places), text_array(texts), text_array([*map(_words, texts)])))
    connection.execute("UPDATE old_words SET room = %s, place = %s", rows[-1][:2])
    return True


def _find(question: Question, now_ms: int, connection: Connection) -> Found:
    bounds, author = _ANYWHERE, ""
    parameters: dict[str, Any] = {"room": HIGHEST, "high": HIGHEST, "most": CANDIDATES, "each": NEWEST_OF_EACH}
    if question.room is not None:
        bounds = _IN_ROOM
        row = connection.execute(_ROOM, (question.room,)).fetchone()
        if row is None:
            return Found([], None)
        high = HIGHEST if question.before is None else question.before - 1
        parameters |= {"room": row[0], "high": high, "each": NEWEST}
    if question.user is not None:
        author = _OF_USER
        parameters["users"] = text_array([question.user])
    if question.go_on is not None:
        parameters["room"], parameters["high"] = divmod(question.go_on - 1, 1 << OFFSET_BITS)
    rows: Sequence[tuple[Any, ...]] = ()
    more: int | None = None
    # First with the last word as a whole word: if that finds enough, the costlier search by prefix is not needed.
    for words in _expressions(question):
        rows, has_more = _matches(bounds, author, {**parameters, "words": words}, connection)
        if has_more:
            _, room, place, *_ = rows[-1]
            more = (room << OFFSET_BITS) + place
            break
    records = [record_of(name, place, *row) for name, _, place, *row in rows]
    return Found(ranked(records, question, now_ms), more)


def _matches(
    bounds: str, author: str, parameters: Mapping[str, object], connection: Connection
) -> tuple[list[tuple[Any, ...]], bool]:
    """The newest matches, and whether there may be more.

    The index of words has matches in no order, so all of them are read: too many of a frequent word. The planner takes
    the messages in their order instead, as if each word were in all rooms alike, and may read millions of a room that
    does not have it. So a frequent word is first looked for among the newest messages of each room.
    """

    def find(messages: str, order: str) -> list[tuple[Any, ...]]:
        statement = _FIND.format(messages=messages, where=where, order=order)
        return connection.execute(statement, parameters).fetchall()

    where = bounds + author
    [[plan]] = connection.row(_ESTIMATE.format(where=where), parameters)
    if plan["Plan"]["Plan Rows"] >= FREQUENT:
        found = find(_NEWEST.format(bounds=bounds, rooms="=" if bounds is _IN_ROOM else "<="), "")
        if len(found) >= MAX_HITS:
            return found, True
    try:
        found = find("messages", "ORDER BY room DESC, place DESC")
    except errors.QueryCanceled:
        found = find("messages", "ORDER BY room + 0 DESC, place DESC")  # the order of no index
    return found, len(found) == CANDIDATES


def _expressions(question: Question) -> list[str]:
    """The question as a `tsquery`, and as one in which the last word is a prefix."""
    whole = " & ".join(f"'{word[:MAX_WORD]}'" for word in question.words)
    return [whole, f"{whole}:*"] if question.prefix else [whole]
