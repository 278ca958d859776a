"""A PostgreSQL server for the tests: one for all workers of a run. Each worker keeps a database with empty tables, and
one without tables, since creating one for each test takes longer than most tests.

Without PostgreSQL its tests are skipped, which is an error when REQUIRE_SERVERS is set. initdb refuses root, so root
runs it as the user `postgres`, in a folder that this user may enter. It does not sync to disk, which makes it five
times as fast.
"""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.ports import steady_port

#: Seconds for the server to start or stop on a busy machine.
PATIENCE = 60

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "log_min_messages": "fatal",
}


def find_programs() -> Path | None:
    """The folder of initdb and postgres: the newest of those that Debian installs beside each other."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None


class PostgresServer:
    """A server in a folder. `start` also starts it again."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port
        programs = find_programs()
        assert programs is not None
        self._programs = programs

    def url(self, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def make(self, like: "PostgresServer | None" = None) -> None:
        """Make an empty cluster in the folder. A copy of another new one takes a tenth of the time.

        Members of the role `locked` must show a password.
        """
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        if like is not None:
            self.run("/bin/cp", "-R", str(like.made), str(self.data))
            return
        self.run("initdb", "-D", str(self.data), "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8",
                 "--locale=C", "--wal-segsize=1")  # fmt: skip
        rules = self.data / "pg_hba.conf"
        rules.write_text(f"host all +locked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")

    @property
    def made(self) -> Path:
        """A copy of the cluster before its first start, if `keep_made` made one."""
        return self.folder / "made"

    def keep_made(self) -> None:
        """Keep a copy, from which other servers can be made."""
        self.run("/bin/cp", "-R", str(self.data), str(self.made))

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL, or another by its path, as the owner of the folder."""
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            as_user = {"user": "postgres", "group": "postgres", "extra_groups": ()}
        done = subprocess.run(
            [self._programs / program, *arguments], cwd=self.folder, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, env={"PATH": "/usr/bin:/bin"},
            start_new_session=True, **as_user,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout.decode()}\n{self.log}"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def start(self, **settings: str) -> None:
        self.port = self.port or steady_port()
        options = " ".join(f"-c {name}='{value}'" for name, value in ({**_SETTINGS, **settings}).items())
        self.run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", str(PATIENCE),
                 "-o", f"-p {self.port} {options}", "start")  # fmt: skip

    def add_standby(self, folder: Path) -> "PostgresServer":
        """A standby of this server, not started."""
        standby = PostgresServer(folder)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        self.run("pg_basebackup", "-D", str(standby.data), "-d", self.url(), "-c", "fast", "-R", "--no-sync")
        return standby

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash."""
        self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", str(PATIENCE), "stop")

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def private_server(like: PostgresServer | None = None) -> Iterator[PostgresServer]:
    """A server for one test, which may stop it; made and not started."""
    skip_without_programs()
    folder = Path(tempfile.mkdtemp(prefix="chat-postgres-"))
    server = PostgresServer(folder)
    try:
        server.make(like)
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            with suppress(AssertionError):
                server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def skip_without_programs() -> None:
    if find_programs() is None:
        reason = "PostgreSQL is not installed; on Debian: apt install postgresql"
        if os.environ.get("REQUIRE_SERVERS"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server of this run: the first worker that needs it starts it, the last one stops it."""
    skip_without_programs()
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    note = shared / "postgres.json"
    with (shared / "postgres.lock").open("w") as lock, (shared / "postgres.users").open("w") as users:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if note.exists():
            noted = json.loads(note.read_text())
            server = PostgresServer(Path(noted["folder"]), noted["port"])
        else:
            server = PostgresServer(Path(tempfile.mkdtemp(prefix="chat-postgres-")))
            server.make()
            server.keep_made()
            server.start()
            server.execute("CREATE ROLE locked")
            note.write_text(json.dumps({"folder": str(server.folder), "port": server.port}))
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(lock, fcntl.LOCK_UN)
        yield server
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note.unlink()
            server.stop("immediate")
            shutil.rmtree(server.folder, ignore_errors=True)


#: The name of the connection that clears a database: a test that kills all others must spare it.
KEEPER = "keeper"
_END_OTHERS = f"""
    SELECT pg_terminate_backend(pid, {PATIENCE}000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid != pg_backend_pid()
"""
#: Statements that make the tables as after a first start. TRUNCATE would create new files, and take ten times as long.
_MADE = """
    SELECT CASE relkind WHEN 'S' THEN format('SELECT setval(%L, 1, false)', oid::regclass)
                        ELSE format('DELETE FROM %s', oid::regclass) END
    FROM pg_class
    WHERE relnamespace = to_regnamespace('chatserver') AND relkind IN ('r', 'S') AND relname != 'version'
"""
_numbers = count(1)


class KeptDatabase:
    """A database that one worker's tests use one after the other, and the connection that clears it between them."""

    def __init__(self, server: PostgresServer) -> None:
        self.name = f"chat_{os.getpid()}_{next(_numbers)}"
        server.execute(f"CREATE DATABASE {self.name} STRATEGY file_copy")
        self.url = server.url(self.name)
        self._connection = psycopg.connect(self.url, autocommit=True, application_name=KEEPER)

    def clear(self) -> None:
        """Leave the tables as a first start makes them."""
        self._connection.execute(_END_OTHERS)
        if made := self._connection.execute(_MADE).fetchall():
            self._connection.execute("; ".join(statement for (statement,) in made))

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def empty(self) -> None:
        """Leave no tables, and no settings."""
        self._connection.execute(_END_OTHERS)
        self._connection.execute("SET client_min_messages = error; SET default_transaction_read_only = off")
        self._connection.execute(f"ALTER DATABASE {self.name} RESET ALL")
        self._connection.execute("DROP SCHEMA IF EXISTS chatserver CASCADE")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"chat_{os.getpid()}_{next(_numbers)}"
    postgres_server.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def cleared_database(postgres_server: PostgresServer) -> Iterator[KeptDatabase]:
    with closing(KeptDatabase(postgres_server)) as kept:
        yield kept


@pytest.fixture(scope="session")
def emptied_database(postgres_server: PostgresServer) -> Iterator[KeptDatabase]:
    with closing(KeptDatabase(postgres_server)) as kept:
        yield kept


@pytest.fixture
def postgres_tables(cleared_database: KeptDatabase) -> Iterator[str]:
    """The URL of a database with empty tables, which the first log makes. A test must not alter the tables."""
    yield cleared_database.url
    cleared_database.clear()


@pytest.fixture
def postgres_schema(emptied_database: KeptDatabase) -> Iterator[str]:
    """The URL of a database without tables, for tests of the tables themselves."""
    yield emptied_database.url
    emptied_database.empty()
