"""The parts of a server, and how they are put together.

Owns: the wiring. May not: run anything, or hold a limit other than those of refusals.
"""

import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from chatserver.api.answers import refusal
from chatserver.api.cluster_parts import SharedParts, WorkerParts
from chatserver.api.conversation import Conversation
from chatserver.api.dialects import dialects
from chatserver.api.encoder import WireEncoder
from chatserver.api.identities import Identities
from chatserver.api.keys import KeyRing
from chatserver.api.monitoring import MonitoringHandlers
from chatserver.api.origins import Policy, policy_of
from chatserver.api.pages import Pages
from chatserver.api.pipelines.background import BackgroundSteps
from chatserver.api.pipelines.limiters import Limiters, LocalShard
from chatserver.api.pipelines.results import ResultCache
from chatserver.api.read_markers import ReadMarkerHandlers
from chatserver.api.routes import Routes
from chatserver.api.search import SearchHandlers
from chatserver.api.services import Services, WriteLimits
from chatserver.api.tokens import Tokens
from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.audit import AuditTrail
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.moderation import Moderation
from chatserver.chat.policy import Access, Policies
from chatserver.chat.read_markers import ReadMarkers
from chatserver.chat.room import Room
from chatserver.chat.slow_mode import SlowMode
from chatserver.edge.closes import CloseStats
from chatserver.edge.enforcement import Enforcer, SignOutSearch
from chatserver.edge.farewell import Farewell
from chatserver.edge.http import Exchange, HttpExchanges
from chatserver.edge.proxied import ForwardedFor, ProxyHandler, trusted_proxies
from chatserver.edge.requests import BodyHandler, RequestHandler, Upload, date_now, sent_of
from chatserver.edge.sink import ConnectionSink
from chatserver.edge.tasks import MAX_SEARCHES, Tasks
from chatserver.edge.waiting import HeldHandler, PausedHandler, ServingHandler, StreamHandler, ThrottledHandler
from chatserver.edge.websocket import WebSocketHandler
from chatserver.log.interface import Log
from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.listener import Listener
from chatserver.net.poller import Poller
from chatserver.net.readiness import Readiness
from chatserver.net.states import State
from chatserver.net.tls import TlsEngine
from chatserver.net.tls_handshake import Handshakes
from chatserver.net.tls_records import REFUSAL
from chatserver.observe.loop import LoopMeter
from chatserver.observe.memory import Collector
from chatserver.observe.metrics import MeasuredParts, ServerMetrics
from chatserver.protocol.head import origin_in
from chatserver.protocol.response import error_body, response, with_headers
from chatserver.reasons import ErrorCode, Reason
from chatserver.settings.fields import Settings
from chatserver.settings.forms import engine_of, listen
from chatserver.shared.datagrams import Datagrams

#: Retry-After of refusals, seconds: spread, so that peers refused together do not return together.
REFUSAL_RETRIES = range(2, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(MeasuredParts):
    """Everything that runs."""

    exchanges: HttpExchanges
    websockets: WebSocketHandler
    farewell: Farewell
    limiters: Limiters
    services: Services
    poller: Poller
    others: WorkerParts | None  # `shared`, or without --shared the link to the other workers


def build(
    settings: Settings, *, total: int, log: Log, readiness: Readiness, listening: Sequence[socket.socket],
    operators: socket.socket | None,
    nursery: trio.Nursery, loop: LoopMeter, garbage: Collector, ready: Callable[[], bool], engine: TlsEngine | None,
    keys: KeyRing | None = None, bus: Datagrams | None = None,
    all_metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> Parts:  # fmt: skip
    """Make the parts for an open log and listening sockets; without an `engine`, for a server without TLS.

    A worker has a `bus` to the others, and its supervisor makes the text of /metrics for all.
    """

    def closed(connection: Connection, reason: Reason) -> None:
        admission.release(connection.address)  # first: a failure in the calls below must not leak the place
        if forwarded is not None:
            forwarded.closed(connection)
        for each in (tasks, searching):
            each.forget(connection)
        stats.closed(connections, connection, reason)

    def page_policy(names: Sequence[str], *bound: socket.socket) -> Policy:
        """The origin policy of sockets with these host names and the addresses that they are bound to."""
        hosts = [*names, *(each.getsockname()[0] for each in bound)]
        return policy_of(
            secure=engine is not None, bound=hosts, origins=settings.allow_origin, hosts=settings.allow_host
        )

    def evicted(connection: Connection) -> bytes:
        """The answer to half a request whose connection is evicted; a page of an allowed origin may read it."""
        return with_headers(random.choice(refusals), exchanges.cors(origin_in(sent_of(connection))))  # noqa: S311

    trusted = trusted_proxies(settings.trusted_proxy)
    connections = Connections(readiness, settings, now=trio.current_time(), closed=closed, is_proxy=trusted)
    stats = CloseStats(connections.lines)
    refusals = _refusals()
    first_words = [REFUSAL] if engine is not None else refusals
    admission = Admission(connections, settings, total=total, farewell=evicted)
    forwarding = ForwardedFor(trusted, admission, refused=stats.refused)
    forwarded = forwarding if settings.trusted_proxy else None
    # Chat, which sees connections only through the sink.
    sink, encoder = ConnectionSink(connections), WireEncoder(log.identity.epoch)
    audit, search_results = AuditTrail(wall_ms=log.wall_ms), ResultCache()
    hub = Hub(
        log, encoder, sink.as_sink(), sink, settings,
        note_failure=stats.publish_failed, note_deletion=audit.note_deletion,
        note_altered=search_results.forget,
    )  # fmt: skip
    shared = SharedParts(settings.shared, log.identity.secret, hub) if settings.shared else None
    others = shared if shared is not None or bus is None else WorkerParts(bus, hub)
    services = _services(
        settings, log, hub, encoder, _identities(settings, log, keys), audit, search_results, others,
        faulted=connections.faults.caught,
    )  # fmt: skip
    limiters = Limiters([LocalShard()] if shared is None else shared.search.limits)
    routes = Routes(
        services,
        searches=SearchHandlers(
            services,
            limiters,
            BackgroundSteps(nursery, connections.faults.caught).start,
            None if shared is None else shared.search,
        ),
        dialects=dialects(encoder, settings),
        monitoring=MonitoringHandlers(
            log, engine=engine_of(settings.log), ready=ready, text_of_all=all_metrics,
            text=lambda: metrics.text(),  # noqa: PLW0108  (`metrics` is made last)
            shards=None if shared is None else shared.shards,
        ),
        policy=page_policy(settings.host, *listening),
        operators=None if operators is None else page_policy(listen(settings.metrics_listen)[:1], operators),
    )  # fmt: skip
    tasks, searching = Tasks(connections, nursery), Tasks(connections, nursery, at_once=MAX_SEARCHES)
    websockets = WebSocketHandler(
        connections,
        hub,
        Conversation(services, sink.as_sink(), ReadMarkerHandlers(services).commands()),
        settings,
        tasks,
        stats,
    )
    exchanges = HttpExchanges(
        connections, hub, routes, services.pages, settings, identities=services.identities, tasks=tasks, stats=stats,
        slow_tasks=searching, upgrade=websockets.open,
        forwarded=forwarded,
    )  # fmt: skip
    sink.answer_with = exchanges.answer_held
    # Sign-out and moderation end other people's connections.
    services.identities.signed_out.end = SignOutSearch(connections, hub, exchanges, websockets).begin
    services.moderation.apply = Enforcer(connections, hub, exchanges).apply
    _bind(connections, settings, exchanges, websockets, hub)
    first = State.HEAD
    handshakes = None
    if engine is not None:
        first = State.TLS_HELLO
        handshakes = Handshakes(
            connections, engine, worst_of=admission.worst_of, plain_answer=_spoke_plain_http
        )  # fmt: skip
        handshakes.bind()
    proxies = ProxyHandler(connections, admission, then=first, refusals=first_words, forwarded=forwarding)
    connections.bind(State.PROXY, proxies)
    behind = trusted if settings.proxy_protocol else lambda address: False
    listener = partial(
        Listener, connections=connections, admission=admission, refusals=first_words, refused=stats.refused
    )
    listeners = [
        listener(each, first=lambda address: State.PROXY if behind(address) else first) for each in listening
    ]  # fmt: skip
    if operators is not None:  # operators connect past the balancer: no PROXY header
        listeners.append(listener(operators, first=lambda address: first, operators=True))
    parts = Parts(
        loop=loop, garbage=garbage, log=log, searches=routes.searches.counts, connections=connections,
        admission=admission, stats=stats, input_budget=connections.input_budget, hub=hub,
        moderation=services.moderation, exchanges=exchanges, websockets=websockets,
        farewell=Farewell(connections, exchanges, websockets),
        services=services, limiters=limiters,
        poller=Poller(connections, readiness, listeners), handshakes=handshakes, shared=shared, others=others,
    )  # fmt: skip
    metrics = ServerMetrics(parts)
    return parts


def _identities(settings: Settings, log: Log, keys: KeyRing | None) -> Identities:
    """Sign-in: which tokens are accepted, and what each user may do."""
    tokens, secret = None, log.identity.secret
    if keys is not None:
        tokens = Tokens(keys, secret, issuer=settings.token_issuer, audience=settings.token_audience)
    sign_in = tokens is not None or bool(settings.user_header)
    access = Access(Policies(settings.rooms), settings.guests, sign_in=sign_in)
    return Identities(
        secret, access, tokens, user_header=settings.user_header.lower(), sign_in_within=settings.ping_interval,
        wall_ms=log.wall_ms,
    )  # fmt: skip


def _services(
    settings: Settings, log: Log, hub: Hub, encoder: WireEncoder, identities: Identities, audit: AuditTrail,
    search_results: ResultCache, others: WorkerParts | None, *, faulted: Callable[[object], None],
) -> Services:  # fmt: skip
    policies = identities.access.policies
    services = Services(
        hub=hub, log=log, identities=identities, pages=Pages(hub.reader, encoder), encoder=encoder, settings=settings,
        write_limits=WriteLimits(settings), search_results=search_results, audit=audit,
        moderation=Moderation(log.identity.secret, wall_ms=log.wall_ms), markers=ReadMarkers(log.markers),
        slow_mode=SlowMode(lambda room: policies.of(room).slow_mode),
        cluster=None if others is None else others.cluster,
    )  # fmt: skip
    hub.note_unstored = services.slow_mode.give_back
    if others is not None:
        others.attach(services, faulted)
    return services


def _bind(
    connections: Connections, settings: Settings, exchanges: HttpExchanges, websockets: WebSocketHandler, hub: Hub
) -> None:  # fmt: skip
    """Bind the handlers of the states from a request on, one for each, and the type of its context."""
    request_parts = (connections, settings, exchanges.dispatch, exchanges.cors, exchanges.forwarded)
    requests = RequestHandler(*request_parts)
    waiting = (connections, exchanges, hub)
    bind = connections.bind
    bind(State.HEAD, requests)
    bind(State.KEEPALIVE, requests)
    bind(State.BODY, BodyHandler(*request_parts), Upload)
    bind(State.THROTTLED, ThrottledHandler(*waiting))
    bind(State.SERVING, ServingHandler(*waiting), Exchange)
    bind(State.PAUSED, PausedHandler(*waiting), Room)
    bind(State.HELD, HeldHandler(*waiting), PollWaiter)
    bind(State.STREAM, StreamHandler(*waiting), Member)
    for state in (State.OPEN, State.PINGED, State.MESSAGE, State.REPLYING):
        bind(state, websockets, WebSocketSession)


def _refusals() -> list[bytes]:
    """Complete answers of refusal, made once: refusing a connection must cost less than opening one."""
    refusals = []
    for seconds in REFUSAL_RETRIES:
        answer = refusal(ErrorCode.FULL, "the server is full; come back a little later", seconds)
        refusals.append(response(answer.status, b"".join(answer.body), headers=answer.headers, keep_alive=False))
    random.shuffle(refusals)
    return refusals


def _spoke_plain_http() -> bytes:
    """The answer to plain HTTP on a TLS port, such as a browser at http:// gets; nginx gives one too."""
    body = error_body(ErrorCode.BAD_REQUEST, "this port speaks TLS: the address begins with https:// or wss://")
    return response(400, body, keep_alive=False, date=date_now())
