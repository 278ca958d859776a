"""What a connection carries is released once, also when its end is found while something is done for it."""

from collections.abc import Callable
from typing import Any

import pytest

from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.peers import connect
from tests.support.planting import VICTIM, Scene
from tests.support.serving import serving
from tests.support.ways import WAYS, Bring

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize("state", [State.OPEN, State.PINGED, State.MESSAGE, State.STREAM, State.HELD, State.BODY])
async def test_a_peer_that_has_gone_when_its_time_is_up(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ping found that it was gone, and released its session; then the session was put back, and released again."""
    await check(WAYS[state], state, monkeypatch, lambda scene: scene.parts.connections._expire)


@pytest.mark.parametrize("state", [State.OPEN, State.STREAM, State.HELD, State.PAUSED, State.REPLYING])
async def test_a_peer_that_has_gone_when_it_may_go_on(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(WAYS[state], state, monkeypatch, lambda scene: scene.parts.connections._resume)


async def check(
    bring: Bring, state: State, patch: pytest.MonkeyPatch, act: Callable[[Scene], Callable[[Connection], Any]]
) -> None:
    async with serving(serving_deadline=60.0) as server, connect(server.address, source=VICTIM) as peer:
        scene = Scene(server, patch)
        await bring(scene, peer)
        await scene.until_state(state.name)
        victim = scene.victim
        connections = scene.parts.connections
        released: list[object] = []
        for handler in set(connections._handlers):
            patch.setattr(handler, "released", noting(handler.released, released))
        context = victim.context
        connections.wheel.watch(victim, connections.wheel.current)
        peer.reset()
        act(scene)(victim)  # before the poller hears of it
        connections.close(victim, Reason.PEER_RESET)
        assert released.count(context) == 1


def noting(original: Callable[..., Any], released: list[object]) -> Callable[..., Any]:
    def note(connection: Connection, context: object) -> None:
        released.append(context)
        original(connection, context)

    return note
