"""The tables in PostgreSQL, and which log they are: migrations, the identity, and what makes it another one.

Owns: the schema, its versions, the epoch. May not: store or read messages. It runs in a thread.

The epoch belongs to one history of the database. A standby that is promoted begins a new timeline, and what the old
primary had not sent is lost: offsets come again. So the identity notes the system and its timeline, and when these are
others, the first server that connects makes another epoch. It is random and not made of the timeline's number, since
two standbys that are promoted one after the other may both begin timeline 2. Servers that run are told to look at it
again whenever another one opens the database.
"""

import re
from itertools import chain
from typing import NamedTuple

import psycopg
from psycopg import errors

from chatserver.log import postgres_audit, postgres_index, postgres_markers, postgres_sanctions, postgres_signouts
from chatserver.log.interface import Identity, LogOpenError, new_identity
from chatserver.log.postgres_connection import SCHEMA_NAME, Connection, sentence
from chatserver.log.postgres_news import OPENED, notify

#: Of the advisory lock under which tables are made: "chat", as SQLite's APPLICATION_ID.
MIGRATION_LOCK = 0x63686174
#: Seconds that a migration may take, and so that another server waits for it.
MIGRATION_DEADLINE = 600

# A migration is a tuple of statements; the n-th makes version n out of version n-1. Only ever add at the end.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # cluster: the system and its timeline, of which the epoch is; empty where the server does not tell them.
        "CREATE TABLE identity (epoch text NOT NULL, secret bytea NOT NULL, cluster text NOT NULL)",
        # A room keeps the offsets behind `forgotten` up to `last`. Each group updates it, so its pages have room for
        # new versions of the row, which then need no new entries in an index.
        """CREATE TABLE rooms (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
            last bigint NOT NULL DEFAULT 0, forgotten bigint NOT NULL DEFAULT 0,
            time bigint NOT NULL DEFAULT 0  -- of the last record
        ) WITH (fillfactor = 50)""",
        # place: the offset. more: as in SQLite.
        """CREATE TABLE messages (
            room bigint NOT NULL, place bigint NOT NULL, time bigint NOT NULL,
            user_id text NOT NULL, user_name text NOT NULL, text text NOT NULL,
            kind smallint NOT NULL DEFAULT 0, target bigint NOT NULL DEFAULT 0, more text NOT NULL DEFAULT '',
            PRIMARY KEY (room, place)
        )""",
        # used: a digest of user and key, since an entry of an index has a bound.
        """CREATE TABLE keys (
            room bigint NOT NULL, used uuid NOT NULL, place bigint NOT NULL, time bigint NOT NULL,
            PRIMARY KEY (room, used)
        )""",
        "CREATE INDEX keys_by_time ON keys (time)",
        # Who has reacted with what; how many they are stands in `more` of the message.
        """CREATE TABLE reactions (
            room bigint NOT NULL, place bigint NOT NULL, emoji text NOT NULL, user_id text NOT NULL,
            PRIMARY KEY (room, place, emoji, user_id)
        )""",
        *postgres_index.SCHEMA,
        *postgres_markers.SCHEMA,
        *postgres_sanctions.SCHEMA,
        *postgres_audit.SCHEMA,
        *postgres_signouts.SCHEMA,
    ),
    (
        # Of the last record, in steps of ten seconds: rooms are listed by it. An index of `time` itself would want new
        # entries in all indexes with each message, this one wants them once in ten seconds.
        "ALTER TABLE rooms ADD COLUMN recent bigint NOT NULL GENERATED ALWAYS AS (time / 10000) STORED",
        "CREATE INDEX rooms_by_recent ON rooms (recent)",
    ),
    postgres_index.SCHEMA_OLD_WORDS,
)
_MADE = re.compile(r"CREATE TABLE (\w+)")


class Opened(NamedTuple):
    """What was found when the log was opened."""

    identity: Identity
    cluster: str
    has_old_words: bool


def migrate(connection: Connection) -> Opened:
    """Bring the tables up to date, in one transaction, one server after the other. Raises LogOpenError."""
    try:
        cluster = cluster_of(connection)
        connection.execute("BEGIN")
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(f"SET LOCAL {setting} = '{MIGRATION_DEADLINE}s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        _migrate(connection)
        identity = _identify(connection, cluster)
        has_old_words = connection.execute("SELECT FROM old_words").fetchone() is not None
        notify(connection, "", {OPENED: 0})
        connection.execute("COMMIT")
    except errors.InsufficientPrivilege as error:
        raise LogOpenError(
            f"its tables cannot be made or used: {sentence(error)}; let this user own the database, or the schema "
            f"{SCHEMA_NAME} in it"
        ) from error
    except (
        errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.DuplicateTable
    ) as error:  # fmt: skip
        raise _foreign(sentence(error)) from error
    return Opened(identity, cluster, has_old_words)


def _foreign(what: str) -> LogOpenError:
    return LogOpenError(
        f"its schema {SCHEMA_NAME} has not the tables that a server makes: {what}; restore it whole, or name another "
        "database"
    )


def _migrate(connection: Connection) -> None:
    row = connection.execute(
        "SELECT to_regnamespace(%s) IS NULL, to_regclass(%s) IS NULL", (SCHEMA_NAME, f"{SCHEMA_NAME}.version")
    ).fetchone()
    assert row is not None
    lacks_schema, is_empty = row
    version = 0
    if lacks_schema:  # without this look a user would need the right to make one
        connection.execute(f"CREATE SCHEMA {SCHEMA_NAME}")
    if is_empty:
        connection.execute("CREATE TABLE version (version integer NOT NULL)")
        connection.execute("INSERT INTO version VALUES (0)")
    else:
        found = connection.execute("SELECT max(version) FROM version").fetchone()
        assert found is not None
        version = found[0] or 0
    if version > len(MIGRATIONS):
        raise LogOpenError(
            f"its tables have version {version}, this server knows up to {len(MIGRATIONS)}: a newer server has changed "
            "them; start that version here"
        )
    _check_tables(connection, version)
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute("UPDATE version SET version = %s", (len(MIGRATIONS),))


def _check_tables(connection: Connection, version: int) -> None:
    """Some may have been dropped by hand, and only who needs one would notice."""
    names = [name for statement in chain(*MIGRATIONS[:version]) for name in _MADE.findall(statement)]
    found = connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(%s || '.' || name) IS NULL", (names, SCHEMA_NAME)
    ).fetchall()
    if found:
        raise _foreign(f"{', '.join(name for (name,) in found)} missing")


def _identify(connection: Connection, cluster: str) -> Identity:
    """The identity, and another epoch if the database has another history."""
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


def is_same(connection: Connection, opened: Opened) -> bool:
    """Whether this is still the database that was opened."""
    try:
        row = connection.execute("SELECT epoch FROM identity").fetchone()
    except errors.UndefinedTable:
        return False
    return row == (opened.identity.epoch,) and cluster_of(connection) == opened.cluster


def cluster_of(connection: Connection) -> str:
    """The system and its timeline; empty if this user may ask for neither, or the server knows none."""
    # Not the timeline of pg_control_checkpoint(), which is the old one until the first checkpoint after a promotion.
    asked = (
        "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)",
        "SELECT system_identifier::text FROM pg_control_system()",
    )
    return "/".join(filter(None, (_ask(connection, query) for query in asked)))


def _ask(connection: Connection, query: str) -> str:
    try:
        row = connection.execute(query).fetchone()
    except (errors.InsufficientPrivilege, errors.UndefinedFunction, errors.FeatureNotSupported):
        return ""
    except psycopg.errors.ObjectNotInPrerequisiteState:  # it has become a standby
        return ""
    assert row is not None
    return str(row[0])
