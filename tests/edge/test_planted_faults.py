"""A fault in a state's handler ends that connection only: one fault for each state and method of the table.

One exception is planted into each method of each state's handler, on a real server over real sockets. Afterwards the
server runs, a neighbour has received every message, the fault is counted and logged once, and all that the victim held
is released. Faults in other callbacks: test_planted_steps.py.
"""

from pathlib import Path
from types import NoneType

import pytest

from chatserver.net.handler import Handler
from chatserver.net.states import READS, TABLE, State
from tests.edge.planting import VICTIM, scene_of
from tests.edge.ways import EVENTS, SETTINGS, WAYS
from tests.support.certificates import certificate
from tests.support.peers import Address, connect
from tests.support.serving import serving

pytestmark = pytest.mark.jumping_clock

#: States that begin before TLS, and those that carry nothing.
TLS_STATES = {State.TLS_HELLO, State.TLS_HANDSHAKE}
WITHOUT_CONTEXT = {State.PROXY, State.TLS_HELLO, State.HEAD, State.KEEPALIVE, State.THROTTLED}
#: Their contexts hold nothing that must be released.
KEEPS_NOTHING = {State.SERVING, State.CLOSING, State.LINGERING}


def happens(state: State, event: str) -> bool:
    """Whether this can happen to a connection in that state."""
    if event in ("received", "ended"):
        return READS[state]
    if event == "released":
        return state not in WITHOUT_CONTEXT
    return event != "lacking" or (READS[state] and TABLE[state].announces)


WALK = [(state, event) for state in State for event in EVENTS if happens(state, event)]


def test_every_state_is_tested() -> None:
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


async def test_a_real_server_binds_every_row(tmp_path: Path) -> None:
    """Each state has a handler for its deadline, for bytes if it is read, and for the release of its context."""
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key, proxy_protocol=True, trusted_proxy=("192.0.2.1",)) as server:
        connections = server.server.parts.connections
        for state, row in TABLE.items():
            handler, context = type(connections._handlers[state]), connections.context_types[state]
            assert handler.expired is not Handler.expired, f"{state.name} has no handler for its deadline"
            assert context is not object, f"{state.name} accepts a context of any type"
            assert (context is NoneType) == (state in WITHOUT_CONTEXT)
            if READS[state]:
                assert handler.received is not Handler.received, f"{state.name} is read but has no handler for bytes"
            if row.announces:
                assert handler.lacking is not Handler.lacking, f"{state.name} announces but has no `lacking`"
            if state not in WITHOUT_CONTEXT | KEEPS_NOTHING:
                assert handler.released is not Handler.released, f"{state.name} does not release its context"
        [listener] = server.server.parts.poller._listeners.values()
        assert listener._first("192.0.2.1") is State.PROXY
        assert listener._first("127.0.0.1") is State.TLS_HELLO
