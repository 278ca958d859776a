"""A bug of ours in attending to a connection costs that connection: the table is walked, with a fault at each place.

One exception is planted into each method of each state's handler, on a real server over real sockets. Then the server
lives, a neighbour has heard every message, the fault is counted and logged once, and all that the victim held is given
back. What else is called: test_planted_steps.py.
"""

from pathlib import Path

import pytest

from chatserver.net.states import READS, TABLE, State
from tests.support.peers import Address, connect
from tests.support.planting import VICTIM, scene_of
from tests.support.serving import serving
from tests.support.ways import EVENTS, SETTINGS, WAYS

pytestmark = pytest.mark.jumping_clock

#: States that begin before TLS, and those that carry nothing.
TLS_STATES = {State.TLS_HELLO, State.TLS_HANDSHAKE}
WITHOUT_CONTEXT = {State.PROXY, State.TLS_HELLO, State.HEAD, State.KEEPALIVE, State.THROTTLED}


def happens(state: State, event: str) -> bool:
    """Whether this can happen to a connection in that state."""
    if event in ("received", "ended"):
        return READS[state]
    if event == "released":
        return state not in WITHOUT_CONTEXT
    return event != "lacking" or (READS[state] and TABLE[state].announces)


WALK = [(state, event) for state in State for event in EVENTS if happens(state, event)]


def test_the_walk_is_the_whole_table() -> None:
    assert set(WAYS) == set(State)
    assert {state for state, _ in WALK} == set(State)
    assert len(WALK) > 75


@pytest.mark.parametrize(("state", "event"), WALK, ids=lambda value: getattr(value, "name", value))
async def test_in_each_method_of_each_states_handler(state: State, event: str, tmp_path: Path) -> None:
    async with scene_of(tmp_path, tls=state in TLS_STATES, **SETTINGS.get(state, {})) as scene:
        address = scene.server.address
        async with connect(Address(address.host, address.port), source=VICTIM) as peer:
            await WAYS[state](scene, peer)
            await scene.until_state(state.name)
            handler = scene.parts.connections.handler(scene.victim)
            scene.plant(handler, event, after=event == "released")
            await EVENTS[event](scene, peer)
            await scene.went_off()
            scene.go_on.set()
            await peer.rest()


async def test_a_state_without_context_releases_nothing() -> None:
    """What the walk leaves out is left out for this reason."""
    async with serving() as server:
        connections = server.server.parts.connections
        empty = {state for state in State if connections.context_types[state] == (type(None),)}
        assert empty | {State.TLS_HELLO} == WITHOUT_CONTEXT
