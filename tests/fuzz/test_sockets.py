"""Invariant: hundreds of random peers leave a real server as it was, and its healthy neighbours do not notice them.

`make fuzz` does this for five minutes, with a new seed. What each peer does is in tests/fuzz/scripts.py, what must hold
afterwards in tests/fuzz/sockets.py.
"""

from pathlib import Path

import pytest

from tests.fuzz.scripts import script
from tests.fuzz.sockets import Assault, campaigns
from tests.support.transports import TRANSPORTS

#: Peers for each of two servers; by count and not by time, so that a slow machine tests as much as a fast one.
PEERS = 120


@pytest.mark.slow
async def test_random_peers_leave_nothing_behind(tmp_path: Path) -> None:
    for report in await campaigns(tmp_path, Assault(seed=4, peers=PEERS)):
        assert report.peers == PEERS
        assert set(report.heard) == set(TRANSPORTS)
        assert len(set(report.heard.values())) == 1, "the neighbours received different numbers of messages"
        assert sum(report.ended.values()) > PEERS / 2, "less than half of the peers connected"


def test_a_script_depends_on_its_seed_and_number_only() -> None:
    assert script(1, 2) == script(1, 2)
    assert len({script(1, 2), script(1, 3), script(2, 2)}) == 3
