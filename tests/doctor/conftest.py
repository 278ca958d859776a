"""The servers of a cluster, and a doctor with time enough on a busy machine."""

import pytest

from chatserver.doctor import command, delivery, inquiry
from tests.support.peers import PATIENCE
from tests.support.postgres import postgres_server, postgres_url
from tests.support.valkeys import patient_shards, servers

__all__ = ["patient_shards", "postgres_server", "postgres_url", "servers"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long deadlines; a test of a deadline sets a short one."""
    monkeypatch.setattr(command, "ENTRY_PATIENCE", PATIENCE)
    for module in (delivery, inquiry):
        monkeypatch.setattr(module, "PATIENCE", PATIENCE)
