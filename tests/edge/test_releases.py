"""A context is released once, also when a step finds that the peer has gone."""

from collections.abc import Callable
from typing import Any

import pytest

from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.edge.planting import VICTIM, Scene
from tests.edge.ways import WAYS
from tests.support.peers import connect
from tests.support.serving import serving

pytestmark = pytest.mark.jumping_clock

#: Steps that may run before the poller reports that the peer has gone, and the states in which they detect it.
FOUND_BY = {
    "_expire": (State.OPEN, State.PINGED, State.MESSAGE, State.STREAM, State.HELD, State.BODY),
    "_resume": (State.OPEN, State.STREAM, State.HELD, State.PAUSED, State.REPLYING),
}


@pytest.mark.parametrize(("act", "state"), [(act, state) for act, states in FOUND_BY.items() for state in states])
async def test_a_step_for_a_peer_that_has_gone(act: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping that finds the peer gone releases the session; setting it again would release it twice."""
    async with serving(serving_deadline=60.0) as server, connect(server.address, source=VICTIM) as peer:
        scene = Scene(server, monkeypatch)
        await WAYS[state](scene, peer)
        await scene.until_state(state.name)
        victim = scene.victim
        connections = scene.parts.connections
        released: list[object] = []
        for handler in set(connections._handlers):
            monkeypatch.setattr(handler, "released", noting(handler.released, released))
        context = victim.context
        connections.wheel.watch(victim, connections.wheel.current)
        peer.reset()
        getattr(connections, act)(victim)
        connections.close(victim, Reason.PEER_RESET)
        assert released.count(context) == 1


def noting(original: Callable[..., Any], released: list[object]) -> Callable[..., Any]:
    def note(connection: Connection, context: object) -> None:
        released.append(context)
        original(connection, context)

    return note
