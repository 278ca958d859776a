"""Hundreds of random peers leave a real server as it was, and its healthy neighbours do not notice them.

`make fuzz` does this for five minutes, with a new seed. What must hold is in tests/fuzz/sockets.py.
"""

from pathlib import Path

import pytest

from tests.fuzz.sockets import campaigns


@pytest.mark.slow
async def test_random_peers_leave_nothing_behind(tmp_path: Path) -> None:
    """By count and not by time, so that a slow machine tests as much as a fast one."""
    assert len(await campaigns(tmp_path, 4, peers=120)) == 2
