"""What the kernel keeps for descriptors is there before the crowd is."""

import sys
from pathlib import Path

import pytest

from chatserver.net.descriptors import RESERVED_DESCRIPTORS, make_room
from tests.support.parked import descriptors
from tests.support.serving import free_flags, server_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="says so in /proc")


def table_size(process: int | str = "self") -> int:
    """Descriptors that fit the kernel's table of a process; it never shrinks."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("FDSize:")[2].split()[0])


def test_nothing_stays_open() -> None:
    before = descriptors()
    make_room(50)
    assert descriptors() == before


async def test_a_server_does_not_stop_to_make_room_while_a_crowd_comes(tmp_path: Path) -> None:
    """Each doubling stopped the loop for 9 to 20 ms."""
    async with server_process(tmp_path, *free_flags(tmp_path), "--max-connections", "3000") as server:
        assert table_size(server.process.pid) >= 3000
        assert descriptors(server.process.pid) <= RESERVED_DESCRIPTORS
