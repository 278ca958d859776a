"""States in which a connection waits. Faults there: test_planted_faults.py; deadlines: tests/attacks/."""

import pytest
import trio

from chatserver.log.interface import LogUnavailable
from chatserver.net.states import State
from tests.edge.planting import PATIENT, VICTIM, Scene
from tests.edge.ways import WAYS
from tests.support.groups import SteppedLog
from tests.support.peers import connect, request
from tests.support.serving import eventually, serving

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize(
    "state",
    [State.HEAD, State.BODY, State.KEEPALIVE, State.SERVING, State.HELD, State.STREAM, State.MESSAGE],
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
        await trio.sleep(1.0)  # a deadline that began again would be later
        victim, connections = scene.victim, scene.parts.connections
        before = victim.state, victim.deadline
        connections.resume(victim)
        await eventually(lambda: connections.scheduler.idle)
        assert (victim.alive, victim.state, victim.deadline) == (True, *before)
        scene.go_on.set()


@pytest.mark.parametrize("waits_for", ["a commit", "a task"])
async def test_an_answer_that_comes_after_the_deadline_is_dropped(
    waits_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, go_on, done = SteppedLog(), trio.Event(), trio.Event()

    async def head(room: str) -> None:
        with trio.CancelScope(shield=True):  # as a thread that is in the middle of something
            await go_on.wait()
        done.set()
        raise LogUnavailable("too late")

    monkeypatch.setattr(log, "head", head)
    wire = (
        request("POST", "/rooms/lobby/messages", b"hi") if waits_for == "a commit" else request("GET", "/rooms/lobby")
    )
    async with serving(engine=log, serving_deadline=1.0) as server, connect(server.address) as peer:
        await peer.send(wire)
        assert (await peer.response()).status == 503
        if waits_for == "a commit":
            log.steps.release()
            await eventually(lambda: log.statistics().groups == 1)
        else:
            go_on.set()
            await done.wait()
        assert await peer.rest() == b""
        await peer.end()
        await server.counted("serving-deadline")
