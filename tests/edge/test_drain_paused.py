"""A drain does not wait for who has had an answer and waits for nothing of its own."""

import os
import signal

import pytest
import trio

from tests.support.peers import connect
from tests.support.planting import VICTIM, Scene
from tests.support.serving import serving
from tests.support.ways import a_paused_publisher

pytestmark = pytest.mark.jumping_clock


async def test_a_paused_publisher_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It went on to KEEPALIVE when its room's members had been told, and held the drain up to its end."""
    async with (
        serving(drain_timeout=60.0, serving_deadline=80.0) as server,
        connect(server.address, source=VICTIM) as peer,
    ):
        scene = Scene(server, monkeypatch)
        await a_paused_publisher(scene, peer)
        await scene.until_state("PAUSED")
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(30.0):
            assert await peer.rest() == b""
        assert server.server.parts.stats.closes
