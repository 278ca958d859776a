"""How the generator's own processes are started."""

from __future__ import annotations

import os

import pytest

from loadgen import workers


@pytest.fixture(autouse=True, scope="module")
def workers_start() -> None:
    """As the program starts them."""


async def test_ctrl_c_does_not_reach_a_worker_that_is_starting() -> None:
    """It died in its imports with a traceback, and the run was invalid, not interrupted; a scorecard went on."""
    process = await workers.start("crowd")
    try:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    finally:
        process.kill()
        await process.wait()
