"""The parts of a server, and how they are put together.

Owns: the wiring. May not: run anything, or hold a limit.
"""

import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from chatserver.api.answers import Queue
from chatserver.api.cluster_parts import OtherProcesses, SharedParts
from chatserver.api.conversation import Conversation
from chatserver.api.dialect import dialects
from chatserver.api.encoder import WireEncoder
from chatserver.api.identities import Identities
from chatserver.api.keys import KeyRing
from chatserver.api.monitoring import MonitoringHandlers
from chatserver.api.origins import OriginPolicy, origin_policy
from chatserver.api.pages import Pages
from chatserver.api.pipelines.background import BackgroundSteps
from chatserver.api.pipelines.limiters import SearchLimits
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
from chatserver.chat.reloader import Reloader
from chatserver.chat.room import Room
from chatserver.chat.signed_out import SignedOut
from chatserver.chat.slow_mode import SlowMode
from chatserver.edge.closes import CloseStats, publish_failed
from chatserver.edge.enforcement import Enforcer, SignOutSearch
from chatserver.edge.farewell import Farewell
from chatserver.edge.http import HttpExchanges
from chatserver.edge.proxied import ForwardedFor, ProxyHandler, trusted_proxies
from chatserver.edge.requests import BodyHandler, RequestHandler, Upload, sent_of
from chatserver.edge.responses import Exchange, Responder, plain_http_on_tls, refusals_of_newcomers
from chatserver.edge.sink import ConnectionSink
from chatserver.edge.tasks import MAX_SCANS, MAX_SEARCHES, MAX_SLOW_TASKS, Tasks
from chatserver.edge.waiting import HeldHandler, PausedHandler, StreamHandler, ThrottledHandler
from chatserver.edge.websocket import WebSocketHandler
from chatserver.listening import Listening
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
from chatserver.net.tls_transport import TlsTransport
from chatserver.observe.loop import LoopMeter
from chatserver.observe.memory import Collector
from chatserver.observe.metrics import MeasuredParts, ServerMetrics
from chatserver.protocol.head import origin_in
from chatserver.protocol.response import with_headers
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings
from chatserver.settings.forms import engine_of, listen
from chatserver.shared.datagrams import Datagrams
from chatserver.shared.shards import Shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(MeasuredParts):
    responder: Responder
    exchanges: HttpExchanges
    websockets: WebSocketHandler
    farewell: Farewell
    search_limits: SearchLimits
    services: Services
    reloader: Reloader
    poller: Poller
    others: OtherProcesses | None


def build(
    settings: Settings, *, total: int, log: Log, readiness: Readiness, listening: Listening, nursery: trio.Nursery,
    loop: LoopMeter, garbage: Collector, ready: Callable[[], bool], engine: TlsEngine | None,
    keys: KeyRing | None = None, bus: Datagrams | None = None,
    all_metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> Parts:  # fmt: skip
    """Make the parts for an open log and the sockets of one process; without an `engine`, for a server without TLS.

    A worker has a `bus` to the others, and its supervisor makes the text of /metrics for all.
    """
    [for_clients], operators = listening.workers, listening.operators

    def policy(names: Sequence[str], *bound: socket.socket) -> OriginPolicy:
        """The origin policy of sockets with these host names and the addresses that they are bound to."""
        hosts = [*names, *(each.getsockname()[0] for each in bound)]
        return origin_policy(bound=hosts, origins=settings.allow_origin, hosts=settings.allow_host)

    public = policy(settings.host, *for_clients)
    private = None if operators is None else policy(listen(settings.metrics_listen)[:1], operators)
    peers = _Peers(settings, readiness, nursery, total=total, policy=public)
    chat = _Chat(settings, log, keys, bus, peers)
    shared = chat.shared
    limits = SearchLimits(settings.search_rate, None if shared is None else shared.search.limits.take)
    background = BackgroundSteps(nursery, peers.connections.faults.caught)
    monitoring = MonitoringHandlers(
        log=log, engine=engine_of(settings.log), ready=ready, text_of_all=all_metrics,
        text=lambda: metrics.text(),  # noqa: PLW0108  made last, since it tells of all the others
        shards=None if shared is None else shared.shards,
    )  # fmt: skip
    searches = SearchHandlers(chat.services, limits, background.start, None if shared is None else shared.search)
    routes = Routes(
        chat.services,
        searches=searches,
        dialects=dialects(chat.encoder, settings),
        monitoring=monitoring,
        policy=public,
        operators=private,
    )
    edge = _Edge(settings, peers, chat, routes, engine)
    listeners = _listeners(settings, peers, edge, for_clients, operators)
    parts = Parts(
        loop=loop, garbage=garbage, log=log, searches=searches.counts, connections=peers.connections,
        admission=peers.admission, stats=peers.stats, input_budget=peers.connections.input_budget, hub=chat.hub,
        moderation=chat.services.moderation, responder=peers.responder, exchanges=edge.exchanges,
        websockets=edge.websockets,
        farewell=Farewell(peers.connections, public, edge.websockets), services=chat.services,
        reloader=chat.reloader, search_limits=limits, handshakes=edge.handshakes, shared=shared, others=chat.others,
        poller=Poller(peers.connections, readiness, listeners),
    )  # fmt: skip
    metrics = ServerMetrics(parts)
    return parts


class _Peers:
    """Connections, who is admitted, how they are answered, and what forgets a connection when it closes."""

    def __init__(
        self, settings: Settings, readiness: Readiness, nursery: trio.Nursery, *, total: int, policy: OriginPolicy
    ) -> None:
        self.policy = policy
        self.refusals = refusals_of_newcomers()
        self.is_proxy = trusted_proxies(settings.trusted_proxy)
        self.connections = Connections(
            readiness, settings, now=trio.current_time(), closed=self._closed, is_proxy=self.is_proxy
        )
        self.stats = CloseStats(self.connections)
        self.admission = Admission(self.connections, settings, total=total, farewell=self._evicted)
        self.forwarded: ForwardedFor | None = None
        if settings.trusted_proxy:
            self.forwarded = ForwardedFor(self.is_proxy, self.admission, self.stats)
        self.responder = Responder(self.connections, settings, self.forwarded, self.stats.refusals)
        self.tasks = {
            Queue.READ: Tasks(self.connections, nursery),
            Queue.LIST: Tasks(self.connections, nursery),
            Queue.SLOW: Tasks(self.connections, nursery, at_once=MAX_SLOW_TASKS),
            Queue.SCAN: Tasks(self.connections, nursery, at_once=MAX_SCANS),
            Queue.METRICS: Tasks(self.connections, nursery),
            Queue.SEARCH: Tasks(self.connections, nursery, at_once=MAX_SEARCHES),
        }

    def _closed(self, connection: Connection, reason: Reason) -> None:
        self.admission.release(connection.address)  # first: a failure in the calls below must not leak the place
        if self.forwarded is not None:
            self.forwarded.forget(connection)
        for tasks in self.tasks.values():
            tasks.forget(connection)
        self.stats.closed(connection, reason)

    def _evicted(self, connection: Connection) -> bytes:
        """The answer to half a request whose connection is evicted; a page of an allowed origin may read it."""
        origin = origin_in(sent_of(connection))
        return with_headers(random.choice(self.refusals), self.policy.cors(origin))  # noqa: S311


class _Chat:
    """Rooms, users and rules; they see connections only through the sink, and through what ends those of users."""

    def __init__(
        self, settings: Settings, log: Log, keys: KeyRing | None, bus: Datagrams | None, peers: _Peers
    ) -> None:
        self.sink = sink = ConnectionSink(peers.connections)
        self.encoder = WireEncoder(log.identity.epoch)
        policies = Policies(settings.rooms)
        slow_mode = SlowMode(lambda room: policies.of(room).slow_mode)
        audit = AuditTrail(wall_ms=log.wall_ms)
        others: Datagrams | Shards | None = bus
        write_limits, search_results = WriteLimits(settings), ResultCache()
        self.shared: SharedParts | None = None
        if settings.shared:
            self.shared = shared = SharedParts(settings, log.identity)
            others, write_limits = shared.shards, shared.write_limits
            search_results = ResultCache(shared.search.results.forget)
        self.hub = hub = Hub(
            log, self.encoder, sink.as_sink(), sink, settings,
            note_failure=partial(publish_failed, peers.connections), note_deletion=audit.note_deletion,
            note_altered=search_results.altered, note_unstored=slow_mode.give_back,
            tell=None if others is None else others.tell,
        )  # fmt: skip
        enforcer = Enforcer(peers.connections, hub, peers.responder)
        sign_out_search = SignOutSearch(peers.connections, hub, peers.responder)
        moderation = Moderation(log.identity.secret, apply=enforcer.apply, wall_ms=log.wall_ms)
        signed_out = SignedOut(end=sign_out_search.begin, wall_ms=log.wall_ms)
        self.reloader = Reloader(log, moderation, signed_out)
        identities = _identities(settings, log, keys, policies, signed_out)
        self.others: OtherProcesses | None = None
        if others is not None and hub.cluster is not None:
            self.others = OtherProcesses(others, hub.cluster, moderation, peers.connections.faults.caught)
        self.services = Services(
            hub=hub, log=log, identities=identities, pages=Pages(hub.reader, self.encoder), encoder=self.encoder,
            settings=settings, write_limits=write_limits, search_results=search_results, audit=audit,
            moderation=moderation, markers=ReadMarkers(log.markers), slow_mode=slow_mode,
            refusals=peers.stats.refusals,
        )  # fmt: skip


def _identities(
    settings: Settings, log: Log, keys: KeyRing | None, policies: Policies, signed_out: SignedOut
) -> Identities:
    """Sign-in: which tokens are accepted, and what each user may do."""
    tokens, secret = None, log.identity.secret
    if keys is not None:
        tokens = Tokens(keys, secret, issuer=settings.token_issuer, audience=settings.token_audience)
    sign_in = tokens is not None or bool(settings.user_header)
    access = Access(policies, settings.guests, sign_in=sign_in)
    return Identities(
        secret, access, signed_out, tokens, user_header=settings.user_header.lower(),
        sign_in_within=settings.ping_interval,
    )  # fmt: skip


class _Edge:
    """TLS, HTTP and WebSocket, bound to the states. `first`: that of new connections; `refusals`: answers to them."""

    def __init__(
        self, settings: Settings, peers: _Peers, chat: _Chat, routes: Routes, engine: TlsEngine | None
    ) -> None:
        connections, hub, services = peers.connections, chat.hub, chat.services
        conversation = Conversation(services, chat.sink.as_sink(), ReadMarkerHandlers(services).commands())
        self.websockets = WebSocketHandler(
            connections, hub, conversation, settings, peers.tasks[Queue.READ], peers.stats.refusals
        )
        self.exchanges = HttpExchanges(
            connections, hub, routes, settings, responder=peers.responder,
            identities=services.identities, tasks=peers.tasks,
            upgrade=self.websockets.open, policy=peers.policy, forwarded=peers.forwarded,
        )  # fmt: skip
        self.first, self.refusals = State.HEAD, peers.refusals
        self.handshakes: Handshakes | None = None
        if engine is not None:
            self.first, self.refusals = State.TLS_HELLO, [REFUSAL]
            self.handshakes = Handshakes(
                connections, engine, worst_of=peers.admission.worst_of, plain_answer=plain_http_on_tls
            )
        self._bind(settings, peers, hub)

    def _bind(self, settings: Settings, peers: _Peers, hub: Hub) -> None:
        """Bind the handlers of the states that can be entered, but those of the end, and the types of contexts."""
        connections, exchanges, responder = peers.connections, self.exchanges, peers.responder
        request_parts = (connections, settings, exchanges.dispatch, responder.idle, peers.policy, peers.forwarded)
        requests = RequestHandler(*request_parts)
        bind = connections.bind
        if peers.forwarded is not None:
            proxies = ProxyHandler(
                connections, peers.admission, then=self.first, refusals=self.refusals, forwarded=peers.forwarded
            )
            bind(State.PROXY, proxies)
        if self.handshakes is not None:
            bind(State.TLS_HELLO, self.handshakes)
            bind(State.TLS_HANDSHAKE, self.handshakes, TlsTransport)
        bind(State.HEAD, requests)
        bind(State.KEEPALIVE, requests)
        bind(State.BODY, BodyHandler(*request_parts), Upload)
        bind(State.THROTTLED, ThrottledHandler(connections, responder))
        bind(State.SERVING, exchanges, Exchange)
        bind(State.PAUSED, PausedHandler(connections, responder), Room)
        bind(State.HELD, HeldHandler(connections, exchanges, hub), PollWaiter)
        bind(State.STREAM, StreamHandler(connections, exchanges, hub), Member)
        for state in (State.OPEN, State.PINGED, State.MESSAGE, State.REPLYING):
            bind(state, self.websockets, WebSocketSession)


def _listeners(
    settings: Settings, peers: _Peers, edge: _Edge, for_clients: Sequence[socket.socket],
    operators: socket.socket | None,
) -> list[Listener]:  # fmt: skip
    behind = peers.is_proxy if settings.proxy_protocol else lambda address: False
    make = partial(
        Listener, connections=peers.connections, admission=peers.admission, refusals=edge.refusals,
        refused=peers.stats.refused,
    )  # fmt: skip
    listeners = [
        make(each, first=lambda address: State.PROXY if behind(address) else edge.first) for each in for_clients
    ]
    if operators is not None:  # operators connect past the balancer: no PROXY header
        listeners.append(make(operators, first=lambda address: edge.first, operators=True))
    return listeners
