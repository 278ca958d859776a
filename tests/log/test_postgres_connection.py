"""Connections to PostgreSQL by themselves; test_postgres_faults.py has what a log makes of their failures."""

from contextlib import closing
from time import monotonic
from typing import Any

import pytest

from chatserver.log import postgres_connection as connection_module
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
