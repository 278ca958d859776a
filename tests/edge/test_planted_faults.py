"""A bug of ours, anywhere, costs one connection or one step: the table is walked, and a fault planted at each place.

Each case plants one exception into a real server over real sockets. Then the server lives, a neighbour has heard every
message, the fault is counted and logged once, and all that the victim held is given back.
"""

import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from chatserver.edge.exchange import PausedPublisher
from chatserver.edge.websocket import WebSocketHandler
from chatserver.net.closing import LINGER_BYTES
from chatserver.net.connection import Connection
from chatserver.net.states import READS, TABLE, Priority, State
from chatserver.net.tls_transport import TlsTransport
from chatserver.reasons import Reason
from tests.support.certificates import NAMES, certificate, trusting_any
from tests.support.parked import descriptors
from tests.support.peers import Address, Peer, chatter, connect, frame, open_websocket, publish, request, say
from tests.support.planting import ROOM, VICTIM, Scene
from tests.support.serving import eventually, neighbour, serving

#: Seconds of limits that a victim may run into; far more than any case takes.
PATIENT = {"serving_deadline": 60.0}
TLS_STATES = {State.TLS_HELLO, State.TLS_HANDSHAKE}
#: States that carry nothing.
WITHOUT_CONTEXT = {State.PROXY, State.TLS_HELLO, State.HEAD, State.KEEPALIVE, State.THROTTLED}

Bring = Callable[[Scene, Peer], Awaitable[None]]


@asynccontextmanager
async def scene_of(tmp_path: Path, *, tls: bool = False, **settings: Any) -> AsyncIterator[Scene]:
    """A server for one case, with a neighbour that misses nothing; in the end nothing of the victim is left."""
    if tls:
        settings["tls_cert"], settings["tls_key"] = certificate(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        async with serving(faults=1, **{**PATIENT, **settings}) as server:
            scene = Scene(server, patch)
            before = scene.holdings()
            async with neighbour(server):
                yield scene
            after: dict[str, int] = {}

            async def given_back() -> bool:
                nonlocal after
                after = scene.holdings()
                return after == before

            with trio.move_on_after(10.0):
                await eventually(given_back)
            assert after == before
            assert scene.raised == 1
            assert scene.parts.connections.faults == 1
            assert [line["reason"] for line in scene.fault_lines] == ["PlantedError"], scene.fault_lines


# -- how a connection comes to a state --------------------------------------------------------------------------------


async def nothing(scene: Scene, peer: Peer) -> None:
    """It waits as it came."""


async def half_a_head(scene: Scene, peer: Peer) -> None:
    await peer.send(b"GET /rooms HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 3000)

    async def charged() -> bool:
        return scene.parts.input_budget.used > 3000

    await eventually(charged)


async def half_a_hello(scene: Scene, peer: Peer) -> None:
    await peer.send(hello()[:100])


def hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting_any().wrap_bio(incoming, outgoing, server_hostname=NAMES[0])
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def a_hello(scene: Scene, peer: Peer) -> None:
    await peer.send(hello())


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
    await hub.load([ROOM], VICTIM)
    room = hub.rooms[ROOM]

    def pause(connection: Connection) -> None:
        hub.pause(room, connection)
        connections.enter(connection, State.PAUSED, PausedPublisher(room))

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
    """Bring it somewhere, and have it enter a state from there with what it carries."""

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


# -- how a handler's method comes to be called ------------------------------------------------------------------------


async def bytes_come(scene: Scene, peer: Peer) -> None:
    await peer.send(b"x" * 10)


async def the_peer_ends(scene: Scene, peer: Peer) -> None:
    await peer.end()


async def the_kernel_has_room(scene: Scene, peer: Peer) -> None:
    scene.parts.connections.keep(scene.victim, b"", 0)


async def its_time_is_up(scene: Scene, peer: Peer) -> None:
    connections, victim = scene.parts.connections, scene.victim
    connections.wheel.watch(victim, connections.wheel.current)
    connections.expire(victim)


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
        empty = {state for state in State if connections.context_types(state) == (type(None),)}
        assert empty | {State.TLS_HELLO} == WITHOUT_CONTEXT


# -- everything else that is called -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Where a fault is planted, and what runs into it."""

    name: str
    where: Callable[[Scene], tuple[Any, str]]
    trigger: Callable[[Scene, Peer], Awaitable[None]]
    bring: Bring = nothing
    tls: bool = False
    after: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


async def publish_by_http(scene: Scene, peer: Peer) -> None:
    await peer.send(request("POST", f"/rooms/{ROOM}/messages", b"hello", headers={"Content-Type": "text/plain"}))


async def publish_by_websocket(scene: Scene, peer: Peer) -> None:
    await peer.send(say(type="publish", room=ROOM, text="hello"))


async def somebody_publishes(scene: Scene, peer: Peer) -> None:
    await publish(scene.server.address, ROOM, "hello")


async def ask_for_history(scene: Scene, peer: Peer) -> None:
    await peer.send(say(type="history", room=f"{ROOM}-of-old", id=1))


async def ask_for_a_room(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", f"/rooms/{ROOM}"))


async def any_request(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", "/healthz"))


async def last_request(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", "/healthz", headers={"Connection": "close"}))


async def time_passes(scene: Scene, peer: Peer) -> None:
    """House-keeping comes round by itself."""


async def places_are_reclaimed(scene: Scene, peer: Peer) -> None:
    scene.parts.connections.scheduler.submit(Priority.BULK, scene.parts.admission._relieve, scene.parts.admission)


async def another_comes(scene: Scene, peer: Peer) -> None:
    address = scene.server.address
    async with connect(Address(address.host, address.port), source=VICTIM) as other:
        await scene.went_off()
        await other.end()


async def its_deadline_passes(scene: Scene, peer: Peer) -> None:
    wheel = scene.parts.connections.wheel
    wheel.watch(scene.victim, wheel.current + 1)


def listener(scene: Scene) -> Any:
    [only] = scene.parts.poller._listeners.values()
    return only


CASES = [
    # what the log calls
    Case("news", lambda s: (s.parts.hub, "_take_in"), somebody_publishes, a_websocket),
    Case("news, all of it", lambda s: (s.parts.hub, "news"), somebody_publishes, a_websocket),
    Case("done, HTTP", lambda s: (s.parts.exchanges, "_committed"), publish_by_http, one_request),
    Case("done, WebSocket", lambda s: (s.parts.websockets._conversation, "_acknowledge"), publish_by_websocket,
         a_websocket),
    # what tasks wait for
    Case("a task, HTTP", lambda s: (s.parts.log, "head"), ask_for_a_room, one_request),
    Case("behind a task, HTTP", lambda s: (s.parts.exchanges, "_answered"), ask_for_a_room, one_request),
    Case("a task, WebSocket", lambda s: (s.parts.exchanges._pages, "after"), ask_for_history, a_websocket),
    Case("behind a task, WebSocket", lambda s: (WebSocketHandler, "_replied"), ask_for_history, a_websocket),
    # scheduled steps
    Case("a broadcast's step", lambda s: (s.parts.hub.broadcaster, "_step"), somebody_publishes, a_websocket),
    Case("a broadcast's end", lambda s: (s.parts.hub.broadcaster, "_end"), somebody_publishes, a_websocket),
    Case("delivery to one", lambda s: (s.parts.hub.broadcaster, "_deliver_alike"), somebody_publishes, an_event_stream),
    Case("polls to answer", lambda s: (s.parts.hub.broadcaster, "_answer_polls"), somebody_publishes, a_held_poll),
    Case("a poll's answer", lambda s: (s.parts.hub._sink, "answer_with"), somebody_publishes, a_held_poll),
    Case("a round of house-keeping", lambda s: (s.parts.hub, "_keep_house"), time_passes),
    Case("house-keeping of rooms", lambda s: (s.parts.hub, "tick"), time_passes),
    Case("house-keeping of places", lambda s: (s.parts.admission, "tick"), time_passes),
    Case("house-keeping of rates", lambda s: (s.parts.publish_limit, "sweep"), time_passes),
    Case("house-keeping of lines", lambda s: (s.parts.stats, "report"), time_passes),
    Case("reclaiming", lambda s: (s.parts.admission, "_relieve"), places_are_reclaimed),
    Case("a tick", lambda s: (s.parts.garbage, "tick"), time_passes),
    Case("a listener's tick", lambda s: (listener(s), "tick"), time_passes),
    Case("accepting", lambda s: (listener(s), "accept"), another_comes),
    Case("admitting", lambda s: (s.parts.admission, "admit"), another_comes),
    Case("registering", lambda s: (s.parts.connections._readiness, "add"), another_comes),
    Case("a turn of the wheel", lambda s: (s.parts.connections.wheel, "turn"), time_passes),
    Case("the wheel's expiry", lambda s: (s.parts.connections, "expire"), its_deadline_passes),
    # a request, on its way
    Case("a request", lambda s: (s.parts.exchanges._routes, "handle"), any_request),
    Case("whom it is for", lambda s: (s.parts.exchanges, "forwarded"), any_request,
         settings={"trusted_proxy": (VICTIM,)}),
    Case("publishing", lambda s: (s.parts.hub, "publish"), publish_by_http, one_request),
    Case("parking a poll", lambda s: (s.parts.hub, "park"), ask_for_a_poll, one_request),
    Case("parking a poll, half-way", lambda s: (s.parts.hub, "_enter"), ask_for_a_poll, one_request),
    Case("joining", lambda s: (s.parts.hub, "attach"), ask_for_events, one_request),
    Case("joining, half-way", lambda s: (s.parts.hub, "_enter"), ask_for_events, one_request),
    # the end
    Case("counting an end", lambda s: (s.parts.stats, "closed"), it_is_ended, a_websocket, after=True),
    Case("counting an end, at once", lambda s: (s.parts.stats, "closed"), it_is_ended, a_websocket),
    # TLS
    Case("a handshake begins", lambda s: (s.parts.handshakes.engine, "accept"), a_hello, tls=True),  # type: ignore[union-attr]
    Case("a handshake", lambda s: (s.parts.handshakes.engine, "handshake"), a_hello, tls=True),  # type: ignore[union-attr]
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_in_each_callback_and_step(case: Case, tmp_path: Path) -> None:
    async with scene_of(tmp_path, tls=case.tls, **case.settings) as scene:
        address = scene.server.address
        async with connect(Address(address.host, address.port), source=VICTIM) as peer:
            await case.bring(scene, peer)

            async def known() -> bool:
                return len(scene.victims) == 1

            await eventually(known)
            scene.plant(*case.where(scene), after=case.after)
            await case.trigger(scene, peer)
            await scene.went_off()
            await trio.testing.wait_all_tasks_blocked(0.01)


# -- the TLS transport ------------------------------------------------------------------------------------------------


async def the_kernel_has_room_for_more(scene: Scene, peer: Peer) -> None:
    scene.parts.connections.send(scene.victim, b"")
    scene.parts.connections.keep(scene.victim, b"\r\n", 0)


@pytest.mark.parametrize(
    ("method", "trigger"),
    [
        ("open", any_request),
        ("lacking", any_request),
        ("offer", any_request),
        ("flush", the_kernel_has_room_for_more),
        ("finish", last_request),
        ("finish", it_is_ended),
        ("released", last_request),
        ("released", it_is_ended),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_in_each_method_of_the_tls_transport(method: str, trigger: Bring, tmp_path: Path) -> None:
    async with (
        scene_of(tmp_path, tls=True) as scene,
        connect(scene.server.address, source=VICTIM) as peer,
    ):
        await one_request(scene, peer)
        if method in ("released", "lacking"):  # its arguments do not say whose it is
            transport = scene.victim.transport
            scene.concerns_the_victim = lambda *arguments: arguments[0] is transport  # type: ignore[method-assign]
        scene.plant(TlsTransport, method, after=method == "released")
        await trigger(scene, peer)
        await scene.went_off()
        await peer.rest()


# -- a drain ----------------------------------------------------------------------------------------------------------


DRAINED: list[tuple[str, Callable[[Scene], tuple[Any, str]], Bring]] = [
    ("idle", lambda s: (s.server.server, "_send_away"), one_request),
    ("WebSocket", lambda s: (s.server.server, "_send_away"), a_websocket),
    ("WebSocket's farewell", lambda s: (s.parts.websockets, "drain"), a_websocket),
    ("poll", lambda s: (s.parts.exchanges, "answer_held"), a_held_poll),
    ("stream", lambda s: (s.server.server, "_send_away"), an_event_stream),
    ("half a head, in the end", lambda s: (s.server.server, "_cut_short"), half_a_head),
    ("half a body, in the end", lambda s: (s.server.server, "_cut_short"), half_a_body),
]


@pytest.mark.parametrize(("name", "where", "bring"), DRAINED, ids=[name for name, *_ in DRAINED])
async def test_in_each_step_of_a_drain(
    name: str, where: Callable[[Scene], tuple[Any, str]], bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    async with serving(faults=1, drain_timeout=2.0, serving_deadline=60.0) as server:
        scene = Scene(server, monkeypatch)
        async with chatter(server.address) as friend, connect(server.address, source=VICTIM) as peer:
            await friend.ask("join", room="neighbours")
            await bring(scene, peer)

            async def known() -> bool:
                return len(scene.victims) == 1

            await eventually(known)
            scene.plant(*where(scene))
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await friend.next("goaway"))["reason"] == "restart"
            await friend.closed()
            await scene.went_off()
            await peer.rest()
        assert [line["reason"] for line in scene.fault_lines] == ["PlantedError"]
    assert (scene.raised, scene.parts.connections.held, scene.parts.input_budget.used) == (1, 0, 0)
    assert scene.parts.admission.statistics() == {"held": 0, "addresses": 0}
    assert descriptors() == before
