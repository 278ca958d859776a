"""A fault costs its connection or its step only: one is planted at each place, on a real server over real sockets.

The places are each method of each state's handler, each callback, task and scheduled step. Afterwards the server runs,
a neighbour has received every message, the fault is counted and logged once, and all that the victim held is released.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import trio
import trio.testing

from chatserver.edge.websocket import WebSocketHandler
from chatserver.net.handler import Handler
from chatserver.net.states import READS, TABLE, State
from chatserver.net.tls_transport import TlsTransport
from chatserver.observe.memory import Heap
from tests.edge.planting import ROOM, VICTIM, Scene, scene_of
from tests.edge.ways import (
    EVENTS,
    SETTINGS,
    WAYS,
    Bring,
    a_held_poll,
    a_hello,
    a_websocket,
    an_event_stream,
    ask_for_a_poll,
    ask_for_events,
    brought,
    half_a_body,
    half_a_head,
    it_is_ended,
    nothing,
    one_request,
)
from tests.support.certificates import certificate
from tests.support.parked import descriptors
from tests.support.peers import Address, Peer, chatter, connect, publish, request, say
from tests.support.serving import eventually, serving

pytestmark = pytest.mark.jumping_clock


@dataclass(frozen=True)
class Case:
    """Where a fault is planted, and what triggers it."""

    name: str
    where: Callable[[Scene], tuple[Any, str]]
    trigger: Callable[[Scene, Peer], Awaitable[None]]
    bring: Bring = nothing
    tls: bool = False
    after: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    plaintext: bool = False  # the victim sends bytes below TLS


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


def in_state(state: State, event: str) -> Case:
    """A fault in a method of a state's handler."""

    async def bring(scene: Scene, peer: Peer) -> None:
        await WAYS[state](scene, peer)
        await scene.until_state(state.name)

    async def trigger(scene: Scene, peer: Peer) -> None:
        await EVENTS[event](scene, peer)
        await scene.went_off()
        scene.go_on.set()
        await peer.rest()

    return Case(
        f"{state.name}, {event}", lambda scene: (scene.parts.connections.handlers[scene.victim.state], event), trigger,
        bring,
        tls=state in TLS_STATES, after=event == "released", settings=SETTINGS.get(state, {}), plaintext=True,
    )  # fmt: skip


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


async def search_what_somebody_wrote(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", f"/search?q=hello&user=u_ann&room={ROOM}"))


async def any_request(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", "/healthz"))


async def last_request(scene: Scene, peer: Peer) -> None:
    await peer.send(request("GET", "/healthz", headers={"Connection": "close"}))


async def time_passes(scene: Scene, peer: Peer) -> None:
    """Housekeeping runs on its own timer."""


async def places_are_reclaimed(scene: Scene, peer: Peer) -> None:
    scene.parts.admission._relief.begin()


async def another_comes(scene: Scene, peer: Peer) -> None:
    async with connect(scene.server.address, source=VICTIM) as other:
        await scene.went_off()
        await other.end()


async def its_deadline_passes(scene: Scene, peer: Peer) -> None:
    wheel = scene.parts.connections.wheel
    wheel.watch(scene.victim, wheel.current + 1)


async def there_is_room_for_more(scene: Scene, peer: Peer) -> None:
    scene.parts.connections.send(scene.victim, b"")
    scene.parts.connections.keep(scene.victim, b"\r\n", 0)


def of_the_transport(method: str) -> Callable[[Scene], tuple[Any, str]]:
    def where(scene: Scene) -> tuple[Any, str]:
        if method in ("released", "lacking"):  # their arguments do not include the connection
            transport = scene.victim.transport
            scene.concerns_the_victim = lambda *arguments: arguments[0] is transport  # type: ignore[method-assign]
        return TlsTransport, method

    return where


def handshake_of_the_victim(scene: Scene) -> tuple[Any, str]:
    """The neighbour's new connections have handshakes as well."""

    def concerns(tls: object, records: bytes) -> bool:
        return any(isinstance(each.context, TlsTransport) and each.context.tls is tls for each in scene.victims)

    scene.concerns_the_victim = concerns  # type: ignore[assignment,method-assign]
    assert scene.parts.handshakes is not None
    return scene.parts.handshakes.engine, "handshake"


def listener(scene: Scene) -> Any:
    [only] = scene.parts.poller._listeners.values()
    return only


#: What a server does once a second; without it what is kept of clients and words would grow for ever.
CHORES: dict[str, Callable[[Scene], tuple[Any, str]]] = {
    "rooms": lambda s: (s.parts.hub, "tick"),
    "places": lambda s: (s.parts.admission, "tick"),
    "lines": lambda s: (s.parts.connections.lines, "report"),
    "the heap": lambda s: (Heap, "tick"),
    "rates of writing": lambda s: (s.parts.services.write_limits, "sweep"),
    "rates of searching": lambda s: (s.parts.search_limits, "sweep"),
    "search results": lambda s: (s.parts.services.search_results, "sweep"),
    "identities": lambda s: (s.parts.services.identities, "sweep"),
    "sanctions": lambda s: (s.parts.services.moderation, "sweep"),
    "slow mode": lambda s: (s.parts.services.slow_mode, "sweep"),
    "the audit": lambda s: (s.parts.services.audit, "sweep"),
    "demoted networks": lambda s: (s.parts.connections.demotion, "sweep"),
    "a round": lambda s: (s.parts.hub.housekeeping._round, "go_on"),
    "garbage": lambda s: (s.parts.garbage, "tick"),
    "a listener": lambda s: (listener(s), "tick"),
}

CASES = [
    *(in_state(state, event) for state in State for event in EVENTS if happens(state, event)),
# callbacks of the log
    Case("news", lambda s: (s.parts.hub, "_take_in"), somebody_publishes, a_websocket),
    Case("news, all of it", lambda s: (s.parts.hub, "news"), somebody_publishes, a_websocket),
    Case("an answer", lambda s: (s.parts.hub, "_answered"), publish_by_websocket, a_websocket, after=True),
    Case("done, HTTP", lambda s: (s.parts.exchanges, "_committed"), publish_by_http, one_request),
    Case("done, WebSocket", lambda s: (s.parts.websockets._conversation, "_acknowledge"), publish_by_websocket,
         a_websocket),
# tasks
    Case("a task, HTTP", lambda s: (s.parts.log, "head"), ask_for_a_room, one_request),
    Case("behind a task, HTTP", lambda s: (s.parts.exchanges, "_answered"), ask_for_a_room, one_request),
    Case("a task, WebSocket", lambda s: (s.parts.services.pages, "read"), ask_for_history, a_websocket),
    Case("behind a task, WebSocket", lambda s: (WebSocketHandler, "_replied"), ask_for_history, a_websocket),
    # scheduled steps
    Case("a broadcast's step", lambda s: (s.parts.hub.broadcaster, "_step"), somebody_publishes, a_websocket),
    Case("a broadcast's end", lambda s: (s.parts.hub.broadcaster, "_end"), somebody_publishes, a_websocket),
    Case("delivery to one", lambda s: (s.parts.hub.broadcaster, "_deliver_alike"), somebody_publishes, an_event_stream),
    Case("polls to answer", lambda s: (s.parts.hub.broadcaster, "_answer_polls"), somebody_publishes, a_held_poll),
    Case("a poll's answer", lambda s: (s.parts.exchanges, "answer_held"), somebody_publishes, a_held_poll),
    Case("reclaiming", lambda s: (s.parts.admission._relief, "go_on"), places_are_reclaimed),
    Case("a background task", lambda s: (s.parts.services.audit, "_store"), search_what_somebody_wrote, one_request),
    Case("accepting", lambda s: (listener(s), "accept"), another_comes),
    Case("admitting", lambda s: (s.parts.admission, "admit"), another_comes),
    Case("registering", lambda s: (s.parts.connections._readiness, "add"), another_comes),
    Case("a turn of the wheel", lambda s: (s.parts.connections.wheel, "turn"), time_passes),
    Case("the wheel's expiry", lambda s: (s.parts.poller, "_expire"), its_deadline_passes),
# a request
    Case("a request", lambda s: (s.parts.exchanges._routes, "handle"), any_request),
    Case("whom it is for", lambda s: (s.parts.exchanges._forwarded, "apply"), any_request,
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
    Case("a handshake begins", lambda s: (s.parts.handshakes, "_begin"), a_hello, tls=True, plaintext=True),
    Case("a handshake", handshake_of_the_victim, a_hello, tls=True, plaintext=True),
    *(
        Case(f"{method} of the transport, {trigger.__name__}", of_the_transport(method), trigger, one_request, tls=True,
             after=method == "released")
        for method, trigger in (
            ("open", any_request), ("lacking", any_request), ("offer", any_request), ("flush", there_is_room_for_more),
            ("finish", last_request), ("finish", it_is_ended), ("released", last_request), ("released", it_is_ended),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_fault_at_each_place(case: Case, tmp_path: Path) -> None:
    async with scene_of(tmp_path, tls=case.tls, **case.settings) as scene:
        address = scene.server.address
        if case.plaintext:
            address = Address(address.host, address.port)
        async with connect(address, source=VICTIM) as peer:
            await case.bring(scene, peer)
            await eventually(lambda: len(scene.victims) == 1)
            scene.plant(*case.where(scene), after=case.after)
            await case.trigger(scene, peer)
            await scene.went_off()
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_fault_in_each_chore_prevents_no_other(tmp_path: Path) -> None:
    async with scene_of(tmp_path, faults=len(CHORES)) as scene:
        for number, where in enumerate(CHORES.values(), 1):
            scene.plant(*where(scene))
            await eventually(lambda number=number: scene.raised == number)  # type: ignore[misc]


async def test_a_real_server_binds_every_row(tmp_path: Path) -> None:
    """Each state has a handler for its deadline, for bytes if it is read, and for the release of its context."""
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key, proxy_protocol=True, trusted_proxy=("192.0.2.1",)) as server:
        connections = server.server.parts.connections
        for state, row in TABLE.items():
            handler, context = type(connections.handlers[state]), connections.context_types[state]
            assert handler.expired is not Handler.expired, f"{state.name} has no handler for its deadline"
            assert context is not object, f"{state.name} accepts a context of any type"
            assert (context is NoneType) == (state in WITHOUT_CONTEXT)
            if READS[state]:
                assert handler.received is not Handler.received, f"{state.name} is read but has no handler for bytes"
            if row.announces:
                assert handler.lacking is not Handler.lacking, f"{state.name} announces but has no `lacking`"
            if state not in WITHOUT_CONTEXT | KEEPS_NOTHING:
                assert handler.released is not Handler.released, f"{state.name} does not release its context"


# -- a drain ----------------------------------------------------------------------------------------------------------


DRAINED: list[tuple[str, Callable[[Scene], tuple[Any, str]], Bring]] = [
    ("listeners", lambda s: (s.parts.poller, "stop_accepting"), one_request),
    ("idle", lambda s: (s.parts.farewell, "send_away"), one_request),
    ("WebSocket", lambda s: (s.parts.farewell, "send_away"), a_websocket),
    ("WebSocket's farewell", lambda s: (s.parts.websockets, "drain"), a_websocket),
    ("poll", lambda s: (s.parts.exchanges, "answer_held"), a_held_poll),
    ("stream", lambda s: (s.parts.farewell, "send_away"), an_event_stream),
    ("half a head, in the end", lambda s: (s.parts.farewell, "cut_short"), half_a_head),
    ("half a body, in the end", lambda s: (s.parts.farewell, "cut_short"), half_a_body),
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

            await eventually(lambda: len(scene.victims) == 1)
            scene.plant(*where(scene))
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await friend.next("goaway"))["reason"] == "restart"
            await friend.closed()
            await scene.went_off()
            await peer.rest()
        assert [line["reason"] for line in scene.fault_lines] == ["PlantedError"]
    assert (scene.raised, scene.parts.connections.held, scene.parts.input_budget.used) == (1, 0, 0)
    assert scene.parts.admission.networks == 0
    assert descriptors() == before


async def test_a_drain_closes_a_paused_publisher_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the publisher enters KEEPALIVE after the broadcast in its room, and delays the drain."""
    async with brought(State.PAUSED, monkeypatch, drain_timeout=60.0, serving_deadline=80.0) as (_, peer):
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(30.0):
            assert await peer.rest() == b""
