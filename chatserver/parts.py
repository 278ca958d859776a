"""Builds the parts of a server and ties them together.

Owns: who is handed what. May not: run anything, or outlive its nursery.

Imports go one way, so the lower parts are given values: the poller gets an attendant, chat an outlet and an encoder,
the log a callable for its news.
"""

import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from chatserver.api.conversation import Conversation
from chatserver.api.encoder import WireEncoder
from chatserver.api.origins import Policy, policy_of
from chatserver.api.pages import Pages
from chatserver.api.rooms import refusal
from chatserver.api.routes import Routes
from chatserver.api.services import Services
from chatserver.api.unwritten import UnwrittenShare
from chatserver.chat.hub import Hub
from chatserver.chat.ratelimit import PublishLimit
from chatserver.edge.attendant import EdgeAttendant, Notes
from chatserver.edge.http import HttpEdge
from chatserver.edge.limits import EdgeLimits
from chatserver.edge.outlet import ConnectionOutlet
from chatserver.edge.proxied import ForwardedLayer, ProxyHeaderLayer
from chatserver.edge.tasks import Tasks
from chatserver.edge.websocket import WebSocketEdge
from chatserver.log import Log
from chatserver.net.admission import Admission, network_of
from chatserver.net.connections import Attendant, Connections
from chatserver.net.eviction import Eviction
from chatserver.net.listener import Gate, Listener
from chatserver.net.phases import PhaseLimits
from chatserver.net.poller import Poller
from chatserver.net.pressure import Pressure
from chatserver.net.proxies import TrustedProxies
from chatserver.net.readiness import Readiness
from chatserver.net.secure import SecureConnections
from chatserver.net.tls import TlsEngine
from chatserver.net.tls_attendant import TlsAttendant
from chatserver.net.tls_records import REFUSAL
from chatserver.net.unfinished import Unfinished
from chatserver.observe.loop import LoopMeter
from chatserver.observe.memory import Collector
from chatserver.observe.metrics import ServerMetrics
from chatserver.protocol.body import BodyLimits
from chatserver.protocol.head import HeadLimits
from chatserver.protocol.response import error_body, response
from chatserver.protocol.validation import MAX_TEXT_BYTES
from chatserver.protocol.websocket import FrameLimits
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import BODY_SECONDS_PER_KIB, Settings
from chatserver.settings.forms import listen

#: Retry-After of refusals, seconds: spread, so that those refused together do not return together.
REFUSAL_RETRIES = range(2, 10)
#: Milliseconds that a browser of server-sent events waits before it reconnects.
RECONNECT_MS = 2_000
#: Bytes in a KiB, the unit that buys a slow body more time.
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that runs."""

    loop: LoopMeter
    garbage: Collector
    log: Log
    connections: Connections
    admission: Admission
    pressure: Pressure
    notes: Notes
    hub: Hub
    http: HttpEdge
    websocket: WebSocketEdge
    publish_rate: PublishLimit
    poller: Poller
    tls: TlsAttendant | None


def build(
    settings: Settings, *, total: int, log: Log, readiness: Readiness, listening: Sequence[socket.socket],
    operators: socket.socket | None,
    nursery: trio.Nursery, loop: LoopMeter, garbage: Collector, ready: Callable[[], bool], engine: TlsEngine | None,
) -> Parts:  # fmt: skip
    """Make the parts for a log that is open and sockets that listen; without an engine of TLS, a plain server."""
    phase_limits = _phase_limits(settings)
    connections = Connections(readiness, phase_limits, now=trio.current_time())
    unfinished = Unfinished(settings.all_unfinished_bytes)
    if engine is not None:
        connections = SecureConnections(readiness, phase_limits, engine, unfinished, now=trio.current_time())
    notes = Notes(connections.lines)
    outlet = ConnectionOutlet(connections)
    encoder = WireEncoder(log.identity.epoch)
    hub = Hub(
        log, encoder, outlet.as_outlet(), ring_messages=settings.ring_messages, ring_bytes=settings.ring_bytes,
        all_rings_bytes=settings.all_rings_bytes, max_rooms=settings.max_rooms, note_failure=notes.publish_failed,
    )  # fmt: skip
    tasks = Tasks(connections, nursery)
    publish_rate = PublishLimit(settings.publish_rate, network=network_of)
    services = Services(
        hub=hub, log=log, pages=Pages(log, encoder), encoder=encoder, publish_rate=publish_rate,
        clock=trio.current_time, poll_wait_max=settings.poll_wait_max, max_rooms=settings.max_rooms_per_connection,
        unwritten=UnwrittenShare(hub.registry, settings.unwritten_rooms), crowded=lambda: tasks.crowded,
        ping_interval=settings.ping_interval, limits=_told_limits(settings), reconnect_ms=RECONNECT_MS,
    )  # fmt: skip
    metrics = ServerMetrics()
    routes = Routes(
        services, metrics=metrics.text, ready=ready, echo=settings.echo,
        policy=_page_policy(settings, listening, settings.host, secure=engine is not None),
        operators=None if operators is None else _page_policy(
            settings, [operators], [listen(settings.metrics_listen)[0]], secure=engine is not None
        ),
    )  # fmt: skip
    conversation = Conversation(services, outlet.as_outlet())
    limits = _edge_limits(settings)
    websocket = WebSocketEdge(
        connections, hub, conversation, limits, tasks=tasks, unfinished=unfinished, note=notes.misbehaved
    )
    http = HttpEdge(
        connections, hub, routes, services.pages, limits, secret=log.identity.secret, tasks=tasks,
        unfinished=unfinished, upgrade=websocket.open, note=notes.misbehaved,
    )  # fmt: skip
    outlet.answer_with = http.answer_held
    refusals = _refusals()
    proxies = TrustedProxies(settings.trusted_proxy)
    admission = Admission(total=total, per_address=settings.per_ip, uncapped=proxies.covers if proxies else None)
    eviction = Eviction(connections, phase_limits, after=settings.evict_after, farewells=refusals)
    first_words = [REFUSAL] if engine is not None else refusals
    gate = Gate(admission.admit, eviction.make_room, first_words, notes.refused)
    listeners = [Listener(each, connections, gate) for each in listening]
    if operators is not None:
        listeners.append(Listener(operators, connections, gate, operators=True))
    pressure = Pressure(connections, phase_limits, admission, eviction)
    # The layers between poller and edge, the innermost first; a plain server in front of everybody has none.
    attendant: Attendant = EdgeAttendant(connections, http, websocket, hub, admission, notes)
    if proxies:
        attendant = forwarded = ForwardedLayer(proxies, admission, attendant, refused=notes.refused)
        http.settle = forwarded.settle
    tls = None
    if isinstance(connections, SecureConnections):
        attendant = tls = TlsAttendant(
            connections, attendant, note=notes.misbehaved, plain_answer=_spoke_plain_http()
        )  # fmt: skip
    if settings.proxy_protocol:
        connections.speakers = proxies.covers
        attendant = ProxyHeaderLayer(
            connections, admission, attendant, refusals=first_words, note=notes.misbehaved
        )  # fmt: skip
    poller = Poller(connections, readiness, attendant, listeners)
    parts = Parts(
        loop=loop, garbage=garbage, log=log, connections=connections, admission=admission, pressure=pressure,
        notes=notes, hub=hub, http=http, websocket=websocket, publish_rate=publish_rate, poller=poller,
        tls=tls,
    )  # fmt: skip
    metrics.watch(parts)
    return parts


def _phase_limits(settings: Settings) -> PhaseLimits:
    return PhaseLimits(
        proxy=settings.head_deadline, tls=settings.tls_deadline, head=settings.head_deadline,
        body=settings.body_deadline, keepalive=settings.keepalive_deadline, serving=settings.serving_deadline,
        held=settings.poll_wait_max, stream=settings.heartbeat_interval, open=settings.ping_interval,
        pinged=settings.pong_deadline, message=settings.message_deadline, closing=settings.close_deadline,
        flush_window=settings.flush_window, flush_rate=settings.flush_rate,
    )  # fmt: skip


def _edge_limits(settings: Settings) -> EdgeLimits:
    def frames(*, binary: bool) -> FrameLimits:
        return FrameLimits(
            max_message_bytes=settings.max_message_bytes, max_fragments=settings.max_fragments, binary=binary
        )

    return EdgeLimits(
        head=HeadLimits(max_bytes=settings.max_head_bytes, max_fields=settings.max_head_fields),
        body=BodyLimits(max_bytes=settings.max_body_bytes),
        frames=frames(binary=False), echo_frames=frames(binary=True),
        body_deadline=settings.body_deadline, body_deadline_max=settings.body_deadline_max,
        body_rate=KIB / BODY_SECONDS_PER_KIB,
        serving_deadline=settings.serving_deadline,
        request_rate=settings.request_rate, max_requests=settings.max_requests_per_connection,
        message_rate=settings.message_rate, max_rooms=settings.max_rooms_per_connection,
    )  # fmt: skip


def _page_policy(
    settings: Settings, listening: Sequence[socket.socket], names: Sequence[str], *, secure: bool
) -> Policy:
    """Which pages may ask what, where it listens by these names and at the addresses they are bound to."""
    bound = [*names, *(each.getsockname()[0] for each in listening)]
    return policy_of(secure=secure, bound=bound, origins=settings.allow_origin, hosts=settings.allow_host)


def _told_limits(settings: Settings) -> dict[str, int | float]:
    """What `hello` tells a client, so that it need not find out by being refused."""
    return {
        "text_bytes": MAX_TEXT_BYTES,
        "message_bytes": settings.max_message_bytes,
        "rooms": settings.max_rooms_per_connection,
        "publish_rate": settings.publish_rate,
        "message_rate": settings.message_rate,
    }


def _refusals() -> list[bytes]:
    """Whole answers for those who cannot come in, made once: refusing must be cheaper than asking."""
    refusals = []
    for seconds in REFUSAL_RETRIES:
        answer = refusal(ErrorCode.FULL, "the server is full; come back a little later", seconds)
        refusals.append(response(answer.status, b"".join(answer.parts), headers=answer.headers, keep_alive=False))
    random.shuffle(refusals)
    return refusals


def _spoke_plain_http() -> bytes:
    """For a browser that was sent to http:// where https:// is served; as nginx does it."""
    body = error_body(ErrorCode.BAD_REQUEST, "this port speaks TLS: the address begins with https:// or wss://")
    return response(400, body, keep_alive=False)
