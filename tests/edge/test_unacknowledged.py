"""A peer that acknowledges nothing is judged by its flush window, whatever its state expects of it."""

from typing import Any

import pytest

from chatserver.net.states import State
from tests.edge.planting import VICTIM, Scene
from tests.edge.ways import WAYS
from tests.support.peers import connect
from tests.support.serving import serving

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize("state", [State.STREAM, State.PINGED])
async def test_a_peer_that_has_vanished(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats would be sent to it until TCP gives up; and a pong may come late behind what is not yet taken."""
    limits: dict[str, Any] = {"heartbeat_interval": 1.0, "pong_deadline": 1.0, "flush_window": 3.0}
    async with serving(**limits) as server, connect(server.address, source=VICTIM) as peer:
        scene = Scene(server, monkeypatch)
        await WAYS[state](scene, peer)
        await scene.until_state(state.name)
        lost = scene.victim.descriptor
        monkeypatch.setattr("chatserver.net.sockets.outstanding", lambda each: 100 if each == lost else 0)
        await server.counted("flush-deadline")
        assert await server.closes("pong-deadline") == 0
        assert [line["reason"] for line in server.logs if line["event"] == "misbehaved"] == ["flush-deadline"]
