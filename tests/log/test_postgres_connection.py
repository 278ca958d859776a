"""Connections to PostgreSQL by themselves; test_postgres_faults.py has what a log makes of their failures."""

import errno
from contextlib import closing
from time import monotonic, sleep
from typing import Any
from unittest.mock import Mock

import pytest

from chatserver.log import postgres_connection as connection_module
from chatserver.log.interface import LogUnavailable
from tests.support.postgres import PATIENCE


def test_addresses_that_do_not_answer_leave_time_for_the_one_that_does(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver waits at each for two seconds: behind two of them no time was left, and no attempt ever succeeded."""
    waited = 0.0
    connect = connection_module.Connection.connect

    def connect_late(*values: Any, **options: Any) -> connection_module.Connection:
        nonlocal waited
        waited += PATIENCE
        return connect(*values, **options)

    monkeypatch.setattr(connection_module.Connection, "connect", connect_late)
    monkeypatch.setattr(connection_module, "monotonic", lambda: monotonic() + waited)
    with closing(connection_module.Session(connection_module.Server(postgres_tables))) as session:
        found = session.run("a test", lambda connection: connection.row("SELECT 1"), seconds=PATIENCE)
    assert (found, waited) == ((1,), PATIENCE)


def test_a_connection_for_which_there_is_no_descriptor_is_tried_again(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error ended the task that listens, and the server with it."""
    server = connection_module.Server(postgres_tables)
    server.opened(lambda connection: None)
    with monkeypatch.context() as patch:
        patch.setattr("psycopg.waiting.DefaultSelector", Mock(side_effect=OSError(errno.EMFILE, "no descriptor left")))
        with pytest.raises(LogUnavailable, match="no descriptor left"):
            server.connect(PATIENCE)
    assert not server.reachable
    sleep(connection_module.RETRY_FIRST)
    server.connect(PATIENCE).close()


def test_a_wait_that_the_system_refuses_costs_one_connection(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver raises no error of its own then: the server ended, with exit code 1, where it listens for others."""

    def ask() -> tuple[Any, ...]:
        return session.run("a test", lambda connection: connection.row("SELECT 1"), seconds=PATIENCE)

    with closing(connection_module.Session(connection_module.Server(postgres_tables))) as session:
        assert ask() == (1,)
        with monkeypatch.context() as patch:
            patch.setattr("psycopg.waiting.wait", Mock(side_effect=OSError(errno.ENOMEM, "Cannot allocate memory")))
            with pytest.raises(LogUnavailable, match="Cannot allocate memory"):
                ask()
        assert ask() == (1,)
