"""Bring a real connection to each state of the table, and cause a call of each method of a handler.

Owns: the bytes and acts of a peer for that. May not: assert more than their success.

    async with brought(State.OPEN, monkeypatch) as (scene, peer): ...
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chatserver.edge.responses import Exchange
from chatserver.net.closing import LINGER_BYTES
from chatserver.net.connection import Connection
from chatserver.net.connections import FREE_INPUT
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.edge.planting import ROOM, VICTIM, Scene
from tests.support.certificates import client_hello
from tests.support.peers import Peer, connect, frame, open_websocket, request
from tests.support.serving import eventually, serving

Bring = Callable[[Scene, Peer], Awaitable[None]]


# -- ways to a state --------------------------------------------------------------------------------------------------


async def nothing(scene: Scene, peer: Peer) -> None:
    """Send nothing."""


async def half_a_head(scene: Scene, peer: Peer) -> None:
    await peer.send(b"GET /rooms HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 3000)

    await eventually(lambda: scene.parts.input_budget.used > 3000 - FREE_INPUT)


async def half_a_hello(scene: Scene, peer: Peer) -> None:
    await peer.send(client_hello()[:100])


async def a_hello(scene: Scene, peer: Peer) -> None:
    await peer.send(client_hello())


async def half_a_body(scene: Scene, peer: Peer) -> None:
    head = request("POST", f"/rooms/{ROOM}/messages", headers={"Content-Length": "9000", "Content-Type": "text/plain"})
    await peer.send(head + b"x" * 3000)
    await scene.until_state("BODY")


async def one_request(scene: Scene, peer: Peer) -> None:
    assert (await peer.request("GET", "/healthz")).status == 200


async def a_request_that_waits_for_the_log(scene: Scene, peer: Peer) -> None:
    original = scene.parts.log.head

    async def head(room: str) -> Any:
        if room == ROOM:
            await scene.go_on.wait()
        return await original(room)

    scene.patch.setattr(scene.parts.log, "head", head)
    await peer.send(request("GET", f"/rooms/{ROOM}"))


async def a_paused_publisher(scene: Scene, peer: Peer) -> None:
    await one_request(scene, peer)
    connections, hub = scene.parts.connections, scene.parts.hub
    async with hub.registry.using(ROOM, VICTIM):
        pass
    room = hub.rooms[ROOM]

    def pause(connection: Connection) -> None:
        connections.enter(connection, State.SERVING, Exchange(keep_alive=True, head_only=False))
        room.pause(connection)
        connections.enter(connection, State.PAUSED, room)

    connections.step(scene.victim, pause)


async def a_held_poll(scene: Scene, peer: Peer) -> None:
    await ask_for_a_poll(scene, peer)
    await scene.until_state("HELD")


async def ask_for_a_poll(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", f"/poll?room={ROOM}&wait=60"))


async def an_event_stream(scene: Scene, peer: Peer) -> None:
    await ask_for_events(scene, peer)
    await scene.until_state("STREAM")


async def ask_for_events(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", f"/rooms/{ROOM}/events"))


async def a_websocket(scene: Scene, peer: Peer) -> None:
    friend = await open_websocket(peer)
    assert (await friend.ask("join", room=ROOM))["type"] == "joined"


async def half_a_message(scene: Scene, peer: Peer) -> None:
    await a_websocket(scene, peer)
    await peer.send(frame("x" * 6000)[:4000])


def then(bring: Bring, state: State) -> Bring:
    """Bring the connection to a state, and let it enter another one with its context."""

    async def further(scene: Scene, peer: Peer) -> None:
        await bring(scene, peer)
        await scene.until_state("OPEN")
        connections = scene.parts.connections
        connections.step(scene.victim, lambda each: connections.enter(each, state, each.context))

    return further


async def no_request_at_all(scene: Scene, peer: Peer) -> None:
    await peer.send(b"\0\0\0\0\r\n\r\n")


async def a_flood_behind_the_end(scene: Scene, peer: Peer) -> None:
    await no_request_at_all(scene, peer)
    await scene.until_state("CLOSING")
    await peer.send(bytes(LINGER_BYTES))


WAYS: dict[State, Bring] = {
    State.PROXY: nothing,
    State.TLS_HELLO: half_a_hello,
    State.TLS_HANDSHAKE: a_hello,
    State.HEAD: half_a_head,
    State.BODY: half_a_body,
    State.KEEPALIVE: one_request,
    State.THROTTLED: one_request,
    State.SERVING: a_request_that_waits_for_the_log,
    State.PAUSED: a_paused_publisher,
    State.HELD: a_held_poll,
    State.STREAM: an_event_stream,
    State.OPEN: a_websocket,
    State.PINGED: then(a_websocket, State.PINGED),
    State.MESSAGE: half_a_message,
    State.REPLYING: then(a_websocket, State.REPLYING),
    State.CLOSING: no_request_at_all,
    State.LINGERING: a_flood_behind_the_end,
}
SETTINGS: dict[State, dict[str, Any]] = {
    State.PROXY: {"proxy_protocol": True, "trusted_proxy": (VICTIM,)},
    State.THROTTLED: {"request_rate": 0.1},
    State.CLOSING: {"close_deadline": 20.0},
    State.LINGERING: {"close_deadline": 20.0},
}


@asynccontextmanager
async def brought(state: State, patch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[tuple[Scene, Peer]]:
    """A server, and a victim in a state."""
    async with serving(**settings) as server, connect(server.address, source=VICTIM) as peer:
        scene = Scene(server, patch)
        await WAYS[state](scene, peer)
        await scene.until_state(state.name)
        yield scene, peer


# -- ways to a handler's method ---------------------------------------------------------------------------------------


async def bytes_come(scene: Scene, peer: Peer) -> None:
    await peer.send(b"x" * 10)


async def the_peer_ends(scene: Scene, peer: Peer) -> None:
    await peer.end()


async def the_kernel_has_room(scene: Scene, peer: Peer) -> None:
    scene.parts.connections.keep(scene.victim, b"", 0)


async def its_time_is_up(scene: Scene, peer: Peer) -> None:
    wheel, victim = scene.parts.connections.wheel, scene.victim
    wheel.watch(victim, wheel.current)
    scene.parts.poller.expire(victim)


async def it_goes_on(scene: Scene, peer: Peer) -> None:
    scene.parts.connections.resume(scene.victim)


async def it_is_ended(scene: Scene, peer: Peer) -> None:
    connections = scene.parts.connections
    connections.step(scene.victim, connections.close, Reason.EVICTED)


EVENTS: dict[str, Bring] = {
    "received": bytes_come,
    "lacking": bytes_come,
    "ended": the_peer_ends,
    "writable": the_kernel_has_room,
    "expired": its_time_is_up,
    "resumed": it_goes_on,
    "released": it_is_ended,
}
