"""The tables in PostgreSQL and the identity of the log in them: migrations, and when a new epoch begins.

Owns: the schema, its versions, the epoch. May not: store or read messages. It runs in a thread.

A promoted standby begins a new timeline without what the old primary had not sent, so offsets are used again. So the
identity records the system and its timeline, and when they have changed, the first server that connects makes a new
epoch and notifies the running ones. It is random, because two standbys promoted in turn may both begin timeline 2. A
server that misses records which it has committed makes a new epoch too: a backup was restored under it.
"""

import re
from contextlib import suppress
from itertools import chain
from time import monotonic, sleep
from typing import NamedTuple

from psycopg import errors

from chatserver.log.interface import EPOCH_LENGTH, OPENED, Identity, LogOpenError, new_identity
from chatserver.log.postgres_connection import SCHEMA_NAME, Connection, sentence
from chatserver.log.postgres_news import CHANNEL, notify
from chatserver.log.words import VERSION

#: The advisory lock for migrations: "chat", as SQLite's APPLICATION_ID.
MIGRATION_LOCK = 0x63686174
#: Seconds that a migration may take: an index of words needs half a minute for a million messages, and one that is cut
#: off begins anew with the next start. And seconds that it waits for a lock, as for another server's migration.
MIGRATION_DEADLINE, MIGRATION_LOCK_DEADLINE = 86_400, 600
#: Seconds of an attempt to lock the tables for a migration, behind which all who use them wait, and then until the next
#: one: a dump may hold them for long. At SLOW_START the second attempt waits, so the line in the log has names.
LOCK_TRY, LOCK_PAUSE = 1.5, 3.0
#: Milliseconds between two looks of PostgreSQL, during a statement, whether the server that migrates is still there.
#: Else the session of a killed one goes on for minutes, with its tables locked for all others and for its next start.
LOOK_FOR_CLIENT_MS = 2_000
#: Kilobytes of the index's pending list at which a commit merges it itself, the most that there can be: one that merged
#: 64 MB took longer than a statement may, so that no message could be stored.
PENDING_KB = 2_147_483_647

# A room that another program removes or renames is made again with its first offsets, so that begins an epoch. Once for
# a statement: once for each row, to remove 10,000 rooms took 1.4 s instead of 10 ms.
_ROOM_GOES = f"""CREATE FUNCTION room_goes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM gone) THEN RETURN NULL; END IF;
    END IF;
    UPDATE {SCHEMA_NAME}.identity SET epoch = substr(md5(random()::text), 1, {EPOCH_LENGTH});
    PERFORM pg_notify('{CHANNEL}', '["", {{"{OPENED}": 0}}]');
    RETURN NULL;
END $$"""  # noqa: S608
_ROOM_CHANGES = """CREATE TRIGGER room_changes AFTER TRUNCATE OR UPDATE OF id, name ON rooms
    FOR EACH STATEMENT EXECUTE FUNCTION room_goes()"""

_SELDOM = ("version", "identity", "old_words")  # tables of one row at most, which they get at an upgrade

# A migration is a tuple of statements; the n-th makes version n out of version n-1. Only ever add at the end.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # cluster: the system and timeline that the epoch belongs to; empty where the server does not tell them.
        "CREATE TABLE identity (epoch text NOT NULL, secret bytea NOT NULL, cluster text NOT NULL)",
        # A room keeps the offsets after `forgotten` up to `last`. Each group updates its row, so pages have free space
        # for new versions of a row, which then need no new index entries (HOT updates).
        """CREATE TABLE rooms (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
            last bigint NOT NULL DEFAULT 0, forgotten bigint NOT NULL DEFAULT 0,
            time bigint NOT NULL DEFAULT 0  -- of the last record
        ) WITH (fillfactor = 50)""",
        # place: the offset. more: as in SQLite. The collation of `user_id` is that of the database in tables of servers
        # before version 10: to make its index anew takes a minute for a million messages.
        """CREATE TABLE messages (
            room bigint NOT NULL, place bigint NOT NULL, time bigint NOT NULL,
            user_id text COLLATE "C" NOT NULL, user_name text NOT NULL, text text NOT NULL,
            kind smallint NOT NULL DEFAULT 0, target bigint NOT NULL DEFAULT 0, more text NOT NULL DEFAULT '',
            words tsvector, PRIMARY KEY (room, place)
        )""",
        # used: a digest of user and key, since the size of an index entry is limited.
        """CREATE TABLE keys (
            room bigint NOT NULL, used uuid NOT NULL, place bigint NOT NULL, time bigint NOT NULL,
            PRIMARY KEY (room, used)
        )""",
        "CREATE INDEX keys_by_time ON keys (time)",
        # Who has reacted with what; the counts are in `more` of the message.
        """CREATE TABLE reactions (
            room bigint NOT NULL, place bigint NOT NULL, emoji text NOT NULL, user_id text NOT NULL,
            PRIMARY KEY (room, place, emoji, user_id)
        )""",
        # How far each user has read. The oldest markers are searched for so rarely that an index does not pay.
        """CREATE TABLE markers (
            user_id text NOT NULL, room bigint NOT NULL, read bigint NOT NULL, moved bigint NOT NULL,
            PRIMARY KEY (user_id, room)
        ) WITH (fillfactor = 80)""",
        # An identity column never reuses the id of a sanction that was lifted.
        """CREATE TABLE sanctions (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room text NOT NULL, kind text NOT NULL,
            "user" text NOT NULL, network text NOT NULL, until bigint NOT NULL, reason text NOT NULL,
            by_id text NOT NULL, by_name text NOT NULL, time bigint NOT NULL, UNIQUE (room, kind, "user", network)
        )""",
        "CREATE INDEX sanctions_by_end ON sanctions (until)",
        """CREATE TABLE audit (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time bigint NOT NULL, by_id text NOT NULL,
            by_name text NOT NULL, network text NOT NULL, action text NOT NULL, room text NOT NULL,
            target text NOT NULL, detail text NOT NULL, minor boolean NOT NULL
        )""",
        "CREATE INDEX audit_by_weight ON audit (minor, id)",
        # id: ascends in the order of the sign-outs.
        """CREATE TABLE signouts (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint NOT NULL UNIQUE, guest boolean NOT NULL,
            time bigint NOT NULL, until bigint NOT NULL
        )""",
        "CREATE INDEX signouts_by_end ON signouts (until)",
    ),
    (
        # The time of the last record in steps of ten seconds, by which rooms are listed. An index on `time` itself
        # would need new entries in all indexes with each message; this one needs them once in ten seconds.
        "ALTER TABLE rooms ADD COLUMN recent bigint NOT NULL GENERATED ALWAYS AS (time / 10000) STORED",
        "CREATE INDEX rooms_by_recent ON rooms (recent)",
    ),
    (
        # The position up to which old words are stored anew; without a row there is nothing to do.
        "CREATE TABLE old_words (room bigint NOT NULL, place bigint NOT NULL)",
    ),
    # words: the version of `words` that made the words of the messages.
    ("ALTER TABLE identity ADD COLUMN words text NOT NULL DEFAULT ''",),
    (
        "ALTER TABLE sanctions ADD COLUMN user_name text NOT NULL DEFAULT ''",
        "ALTER TABLE audit ADD COLUMN target_name text NOT NULL DEFAULT ''",
    ),
    (),  # changed the index that the next one makes anew
    (
        # Earlier servers made it without the authors. `messages_unused`: what an attempt to make it anew has left.
        "DROP INDEX IF EXISTS messages_words, messages_unused",
        f"""CREATE INDEX messages_words ON messages USING gin (words, (ARRAY[user_id]))
            WITH (fastupdate = on, gin_pending_list_limit = {PENDING_KB}) WHERE words IS NOT NULL""",
    ),
    (),  # made the trigger that the next one makes anew
    (
        # Earlier servers' began an epoch after a DELETE of no room, too.
        "DROP TRIGGER IF EXISTS room_goes ON rooms",
        "DROP FUNCTION IF EXISTS room_goes",
        _ROOM_GOES,
        """CREATE TRIGGER room_goes AFTER DELETE ON rooms REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION room_goes()""",
        _ROOM_CHANGES,
    ),
    (
        # A key, without which no row can be changed once a publication names all tables (blue/green, Debezium). The
        # second row that the restore of a dump's data left goes, and the key refuses another.
        *(
            statement.format(table)
            for table in _SELDOM
            for statement in (
                "ALTER TABLE {} ADD COLUMN one integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                "DELETE FROM {} WHERE one > 1",
                "ALTER TABLE {} ALTER one DROP IDENTITY, ALTER one SET DEFAULT 1, ADD CHECK (one = 1)",
            )
        ),
        # An index in the order of the database's collation, which comes from the operating system, does not find what
        # was stored under another system's: rooms were made again with the offsets that they had.
        "DROP TRIGGER room_changes ON rooms",
        'ALTER TABLE rooms ALTER name TYPE text COLLATE "C"',
        _ROOM_CHANGES,
        'ALTER TABLE reactions ALTER emoji TYPE text COLLATE "C", ALTER user_id TYPE text COLLATE "C"',
        'ALTER TABLE markers ALTER user_id TYPE text COLLATE "C"',
        """ALTER TABLE sanctions
            ALTER room TYPE text COLLATE "C", ALTER kind TYPE text COLLATE "C",
            ALTER "user" TYPE text COLLATE "C", ALTER network TYPE text COLLATE "C"
        """,
    ),
)
# Logical replication copies rows, and no sequence: ids that rows have would be given again. Only the owner may set one.
_SEQUENCES = tuple(
    f"""SELECT setval('{table}_id_seq', max(id)) FROM {table}
        HAVING has_sequence_privilege('{table}_id_seq', 'UPDATE') AND max(id) > (
            SELECT coalesce(last_value, 0) FROM pg_sequences
            WHERE schemaname = '{SCHEMA_NAME}' AND sequencename = '{table}_id_seq'
        )"""  # noqa: S608
    for table in ("rooms", "sanctions", "audit", "signouts")
)
# With another version of `words` the words of all messages are stored anew, in the background.
_WORDS_ANEW = ("DELETE FROM old_words", "INSERT INTO old_words SELECT 0, 0 WHERE EXISTS (SELECT FROM messages)")
_LET_OWN = f"let this user own the database, or the schema {SCHEMA_NAME} in it"
_MADE = re.compile(r"CREATE TABLE (\w+)")


class Found(NamedTuple):
    """What opening the log found."""

    identity: Identity
    cluster: str
    has_old_words: bool


def migrate(connection: Connection) -> Found:
    """Bring the tables up to date in one transaction; servers take turns at it. Raises LogOpenError."""
    try:
        cluster = cluster_of(connection)
        with suppress(errors.InvalidParameterValue):  # PostgreSQL on Windows cannot look
            connection.execute(f"SET client_connection_check_interval = {LOOK_FOR_CLIENT_MS}")
        connection.execute("BEGIN")
        connection.execute(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_DEADLINE}s'")
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(f"SET LOCAL {setting} = '{MIGRATION_DEADLINE}s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        _migrate(connection)
        for statement in _SEQUENCES:
            connection.execute(statement)
        identity = _identify(connection, cluster)
        if connection.execute("UPDATE identity SET words = %s WHERE words <> %s", (VERSION, VERSION)).rowcount:
            for statement in _WORDS_ANEW:
                connection.execute(statement)
        _check_rights(connection)
        has_old_words = connection.execute("SELECT FROM old_words").fetchone() is not None
        notify(connection, "", {OPENED: 0})
        connection.execute("COMMIT")
    except errors.InsufficientPrivilege as error:
        raise LogOpenError(f"its tables cannot be made or used: {sentence(error)}; {_LET_OWN}") from error
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.DuplicateTable) as error:
        raise LogOpenError(
            f"its schema {SCHEMA_NAME} has not the tables that a server makes: {sentence(error)}; restore it whole, or "
            "name another database"
        ) from error
    return Found(identity, cluster, has_old_words)


def _migrate(connection: Connection) -> None:
    lacks_schema, is_empty = connection.row(
        "SELECT to_regnamespace(%s) IS NULL, to_regclass(%s) IS NULL", (SCHEMA_NAME, f"{SCHEMA_NAME}.version")
    )
    version = 0
    if lacks_schema:  # CREATE ... IF NOT EXISTS would need the right to create one even where it exists
        connection.execute(f"CREATE SCHEMA {SCHEMA_NAME}")
    if is_empty:
        connection.execute("CREATE TABLE version (version integer NOT NULL)")
        connection.execute("INSERT INTO version VALUES (0)")
    else:
        version = connection.row("SELECT max(version) FROM version")[0] or 0
    if version > len(MIGRATIONS):
        raise LogOpenError(
            f"its tables have version {version}, this server knows up to {len(MIGRATIONS)}: a newer server has changed "
            "them; start that version here"
        )
    if 0 < version < len(MIGRATIONS):
        _lock_tables(connection, ", ".join(("version", *_tables(version))))
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute("UPDATE version SET version = %s", (len(MIGRATIONS),))


def _lock_tables(connection: Connection, names: str) -> None:
    """Lock all that a migration may change, so that nothing of it waits for another lock. Raises LockNotAvailable."""
    ends = monotonic() + MIGRATION_LOCK_DEADLINE
    while True:
        try:
            with connection.transaction():  # a savepoint
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TRY}s'")
                connection.execute(f"LOCK TABLE {names}")
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            if monotonic() > ends:
                raise
            sleep(LOCK_PAUSE)
        else:
            return


def _tables(version: int) -> list[str]:
    return [name for statement in chain(*MIGRATIONS[:version]) for name in _MADE.findall(statement)]


def _check_rights(connection: Connection) -> None:
    """Raise LogOpenError if this user may only read, as one that was given rights before a new version's tables.

    Raises errors.UndefinedTable for a table that was dropped, which would else be noticed only when it is needed.
    """
    names = [name for name in _tables(len(MIGRATIONS)) if name not in _SELDOM]
    query = "SELECT name FROM unnest(%s::text[]) AS name WHERE NOT has_table_privilege(name, 'INSERT')"
    if found := connection.execute(query, (names,)).fetchall():
        raise LogOpenError(f"this user may not write its tables {', '.join(name for (name,) in found)}; {_LET_OWN}")


def _identify(connection: Connection, cluster: str) -> Identity:
    """The identity, with a new epoch if the database has another history."""
    row = connection.execute("SELECT epoch, secret, cluster FROM identity").fetchone()
    made = new_identity()
    if row is None:
        connection.execute("INSERT INTO identity VALUES (%s, %s, %s)", (made.epoch, made.secret, cluster))
        return made
    epoch, secret, known = row
    if cluster and cluster != known:
        if known:
            epoch = made.epoch
        connection.execute("UPDATE identity SET epoch = %s, cluster = %s", (epoch, cluster))
    return Identity(epoch=epoch, secret=secret)


def begin_epoch(found: Found, connection: Connection) -> None:
    """Make a new epoch, unless another server has, and have all servers compare theirs. Ends the open transaction."""
    connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    connection.execute("UPDATE identity SET epoch = %s WHERE epoch = %s", (new_identity().epoch, found.identity.epoch))
    notify(connection, "", {OPENED: 0})
    connection.execute("COMMIT")


def is_same(connection: Connection, found: Found) -> bool:
    """Whether this is still the database that was opened."""
    try:
        row = connection.execute("SELECT epoch FROM identity").fetchone()
    except errors.UndefinedTable:
        return False
    return row == (found.identity.epoch,) and cluster_of(connection) == found.cluster


def cluster_of(connection: Connection) -> str:
    """The system and its timeline; empty if this user may not ask for them, or the server has none."""
    # pg_control_checkpoint() would give the old timeline until the first checkpoint after a promotion.
    asked = (
        "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)",
        "SELECT system_identifier::text FROM pg_control_system()",
    )
    return "/".join(filter(None, (_ask(connection, query) for query in asked)))


def _ask(connection: Connection, query: str) -> str:
    try:
        return str(connection.row(query)[0])
    except (
        errors.InsufficientPrivilege, errors.UndefinedFunction, errors.FeatureNotSupported,
        errors.ObjectNotInPrerequisiteState,  # the server has become a standby
    ):  # fmt: skip
        return ""
