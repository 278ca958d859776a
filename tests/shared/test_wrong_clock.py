"""A server whose machine has a wrong clock: what it stores in a shared log has the database's time."""

from pathlib import Path
from time import time_ns

import pytest

from chatserver.log import interface
from tests.support.moderating import moderated, sanction, say, signed_in
from tests.support.postgres import KeptDatabase

EVE, BOB = signed_in("u_eve"), signed_in("u_bob")


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_server_with_a_wrong_clock_ends_no_sanction_early_or_late(
    postgres_tables: str, cleared_database: KeptDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """One that was ahead removed all sanctions of other servers that ended soon, with the first one that it made."""
    async with moderated(tmp_path, log=postgres_tables) as server:
        await sanction(server.address, kind="ban", user="u_eve", seconds=300)
        monkeypatch.setattr(interface, "time_ns", lambda: time_ns() + minutes * 60 * 10**9)
        await sanction(server.address, kind="mute", user="u_bob", seconds=300)
        for who in (EVE, BOB):
            assert (await say(server.address, who)).status == 403
        now = "extract(epoch FROM clock_timestamp()) * 1000"
        ends = cleared_database.execute(f"SELECT until - {now} FROM chatserver.sanctions ORDER BY id")
        assert [0 < left <= 300_000 for (left,) in ends] == [True, True]
