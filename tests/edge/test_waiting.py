"""States in which an HTTP connection waits. Faults there: test_planted_faults.py; deadlines: tests/attacks/."""

import pytest

from chatserver.net.states import State
from tests.edge.planting import PATIENT, VICTIM, Scene
from tests.edge.ways import WAYS
from tests.support.peers import connect
from tests.support.serving import eventually, serving

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize(
    "state",
    [State.HEAD, State.BODY, State.KEEPALIVE, State.SERVING, State.HELD, State.STREAM],
    ids=lambda each: each.name,
)
async def test_a_step_that_was_queued_before_the_state_changes_nothing(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused publisher, for example, is resumed for its room after its time is up, when its next request waits."""
    async with serving(serving_deadline=PATIENT) as server, connect(server.address, source=VICTIM) as peer:
        scene = Scene(server, monkeypatch)
        await WAYS[state](scene, peer)
        await scene.until_state(state.name)
        victim, connections = scene.victim, scene.parts.connections
        connections.resume(victim)
        await eventually(lambda: connections.scheduler.idle)
        assert (victim.alive, victim.state) == (True, state)
        scene.go_on.set()
