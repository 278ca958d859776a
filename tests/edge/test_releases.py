"""A context is released once, also when a step finds that the peer has gone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member
from chatserver.net.connection import Connection
from chatserver.net.handler import context_of
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.edge.planting import VICTIM, Scene
from tests.edge.ways import brought
from tests.support.peers import chatter, frame
from tests.support.serving import eventually, serving
from tests.support.tokens import secret_file, token

pytestmark = pytest.mark.jumping_clock

#: Steps that may run before the poller reports that the peer has gone, and the states in which they detect it.
FOUND_BY = {
    "_expire": (State.OPEN, State.PINGED, State.MESSAGE, State.STREAM, State.HELD, State.BODY),
    "_resume": (State.OPEN, State.STREAM, State.HELD, State.PAUSED, State.REPLYING),
}


@pytest.mark.parametrize(("act", "state"), [(act, state) for act, states in FOUND_BY.items() for state in states])
async def test_a_step_for_a_peer_that_has_gone(act: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping that finds the peer gone releases the session; setting it again would release it twice."""
    async with brought(state, monkeypatch, serving_deadline=60.0) as (scene, peer):
        victim, connections = scene.victim, scene.parts.connections
        released: list[object] = []
        for handler in set(connections.handlers):
            monkeypatch.setattr(handler, "released", noting(handler.released, released))
        context = victim.context
        connections.wheel.watch(victim, connections.wheel.current)
        peer.reset()
        getattr(scene.parts.poller if act == "_expire" else connections, act)(victim)
        connections.close(victim, Reason.PEER_RESET)
        assert released.count(context) == 1


async def test_a_sign_in_that_finds_the_peer_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its WebSocket leaves a room that the new user may not read."""
    leave = Hub.leave
    async with serving(token_key=(secret_file(tmp_path),)) as server, chatter(server.address, source=VICTIM) as friend:
        await friend.ask("join", room="lobby")
        scene = Scene(server, monkeypatch)
        connections, victim = scene.parts.connections, scene.victim
        session, released = victim.context, list[object]()
        handler = connections.handlers[victim.state]
        monkeypatch.setattr(handler, "released", noting(handler.released, released))

        def leave_and_lose(hub: Hub, member: Member) -> None:
            leave(hub, member)
            connections.close(victim, Reason.PEER_RESET)

        monkeypatch.setattr(Hub, "leave", leave_and_lose)
        await friend.say(type="auth", token=token(chat={"rooms": {"tea": "r"}}))
        await server.held(0)
        await eventually(lambda: scene.parts.connections.scheduler.idle)
        assert released == [session]


@pytest.mark.parametrize("act", ["pings", "drain"])
async def test_a_peer_that_has_gone_is_not_also_refused_or_sent_away(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no session any more when the first answer to it has failed."""
    async with brought(State.OPEN, monkeypatch, message_rate=1.0) as (scene, peer):
        victim, connections = scene.victim, scene.parts.connections
        handler: Any = connections.handlers[State.OPEN]
        session = context_of(victim, WebSocketSession)
        released: list[object] = []
        monkeypatch.setattr(handler, "released", noting(handler.released, released))
        session.in_flight = 1  # it has sent a publish
        peer.reset()
        if act == "pings":
            connections.step(victim, handler.received, 1000 * frame(b"", opcode=9))
        else:
            connections.step(victim, handler.drain, 1.0)
        assert released == [session]


async def test_a_message_that_never_ends_is_dropped_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow log keeps the session of a publish that it has not stored yet, and 16 KiB with each would add up."""
    async with brought(State.OPEN, monkeypatch) as (scene, peer):
        session = context_of(scene.victim, WebSocketSession)
        await peer.send(frame("x" * 9_000, fin=False))
        await eventually(lambda: session.assembly is not None)
        scene.parts.connections.close(scene.victim, Reason.EVICTED)
        assert session.assembly is None


def noting(original: Callable[..., Any], released: list[object]) -> Callable[..., Any]:
    def note(connection: Connection, context: object) -> None:
        released.append(context)
        original(connection, context)

    return note
