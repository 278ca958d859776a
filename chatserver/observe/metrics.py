"""`/metrics`: the numbers of all parts as Prometheus text.

Owns: names and help texts. May not: count; the parts count in plain integers, which this module reads at each scrape.
A counter of the client library costs a lock and a dictionary look-up at each increment, more than a whole delivery.

Any client may scrape, which takes 1 to 3 ms, fifty times as long as another answer. So a text is made in pieces, for
several steps, and scrapes have a limited share of the loop; beyond it they get the last text.
"""

import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily, Metric

from chatserver.api.cluster_parts import SharedParts
from chatserver.api.search import SearchCounts
from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.moderation import Moderation
from chatserver.edge.closes import CloseStats
from chatserver.log.interface import Log
from chatserver.meters import FairByteBudget
from chatserver.net.admission import Admission
from chatserver.net.connections import Connections
from chatserver.net.states import State
from chatserver.net.tls_handshake import Handshakes
from chatserver.observe.loop import BUCKETS, Durations, LoopMeter
from chatserver.observe.memory import Collector as GarbageCollector
from chatserver.observe.numbers import Family, exposition, families_of, labelled
from chatserver.observe.rationed import Rationed
from chatserver.reasons import Reason

#: Places of the connection table counted at a time: 0.1 ms.
COUNTED_PER_STEP = 512
#: By the type of a connection's context; others are plain HTTP.
_TRANSPORTS: dict[type, str] = {WebSocketSession: "websocket", PollWaiter: "poll", Member: "events"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredParts:
    """The parts whose numbers are shown."""

    connections: Connections
    admission: Admission
    stats: CloseStats
    input_budget: FairByteBudget
    hub: Hub
    moderation: Moderation
    log: Log
    searches: SearchCounts
    loop: LoopMeter
    handshakes: Handshakes | None
    garbage: GarbageCollector
    shared: SharedParts | None


class ServerMetrics:
    """Reads the parts. `text` makes the body of the answer, `families` the same numbers for a worker's supervisor.

    Both give pieces, of which some are empty.
    """

    def __init__(self, parts: MeasuredParts) -> None:
        self._parts = parts
        self.text: Callable[[], Iterator[bytes]] = Rationed(lambda: map(exposition, self.collect())).pieces
        self.families: Callable[[], Iterator[list[Family]]] = Rationed(lambda: map(families_of, self.collect())).pieces

    def collect(self) -> Iterator[list[Metric]]:
        """All metrics, a few at a time, and none after each part of the connections."""
        counts: dict[tuple[State, str], int] = {}
        table = self._parts.connections.table
        for at in range(0, len(table), COUNTED_PER_STEP):
            for connection in table[at : at + COUNTED_PER_STEP]:
                if connection is not None:
                    key = (connection.state, _TRANSPORTS.get(type(connection.context), "http"))
                    counts[key] = counts.get(key, 0) + 1
            yield []
        yield from ([metric] for metric in self._collect(counts))

    def _collect(self, counts: Mapping[tuple[State, str], int]) -> Iterator[Metric]:
        yield from self._by_label(counts)
        shared, cluster = self._parts.shared, self._parts.hub.cluster
        if shared is not None and cluster is not None:
            yield from _of_processes(shared, cluster.statistics())
        for family, name, meaning, value in self._numbers():
            yield family(name, meaning, value)
        loop, garbage = self._parts.loop, self._parts.garbage
        yield _histogram("chatserver_loop_pass_seconds", "Time one pass of the loop took", loop.passes)
        yield _histogram("chatserver_loop_lag_seconds", "How late the wheel's ticks came", loop.ticks_late)
        yield _histogram("chatserver_search_seconds", "Time a search took", self._parts.searches.took)
        yield _histogram("chatserver_gc_seconds", "Time one garbage collection took", garbage.runs)

    def _by_label(self, counts: Mapping[tuple[State, str], int]) -> Iterator[Metric]:
        parts = self._parts
        held = Gauge("chatserver_connections", "Connections held, by state and transport", None, ("phase", "transport"))
        for (state, transport), count in sorted(counts.items()):
            held.add_metric((state.name.lower(), transport), count)
        yield held
        closes = ((reason.label, parts.stats.closes[reason]) for reason in Reason)
        refusals = ((code.code, count) for code, count in parts.stats.refusals.items())
        refused = ((kind.value, count) for kind, count in parts.moderation.refused.items())
        searches = parts.searches.outcomes.items()
        waiting = parts.connections.scheduler.statistics().items()
        yield labelled(Counter, "chatserver_closes", "Connections ended or refused, by reason", "reason", closes)
        yield labelled(Counter, "chatserver_refusals", "Requests and commands refused, by error code", "code", refusals)
        yield labelled(Counter, "chatserver_sanctioned", "Refusals of muted and banned users", "kind", refused)
        yield labelled(Counter, "chatserver_searches", "Searches, by outcome", "outcome", searches)
        yield labelled(Gauge, "chatserver_scheduler_items", "Items waiting for their turn", "priority", waiting)

    # A table: kind, name, meaning, value.
    # fmt: off
    def _numbers(self) -> Iterator[tuple[type[Counter | Gauge], str, str, float]]:
        parts = self._parts
        connections, admission, broadcaster = parts.connections, parts.admission, parts.hub.broadcaster
        hub, log, usage = parts.hub.statistics(), parts.log.statistics(), resource.getrusage(resource.RUSAGE_SELF)
        yield Gauge, "chatserver_addresses", "Networks that hold connections", admission.networks
        yield (Gauge, "chatserver_demoted",
               "Networks that wait for others, since they broke a rule", len(connections.demotion))
        yield Gauge, "chatserver_places", "Connections that may be held at once", admission.total
        yield Counter, "chatserver_reclaimed", "Connections evicted to free their places", admission.reclaimed
        if parts.handshakes is not None:
            yield Counter, "chatserver_tls_handshakes", "TLS handshakes completed", parts.handshakes.completed
            yield (Gauge, "chatserver_certificate_expiry_timestamp_seconds",
                   "When the certificate in use expires, in seconds since 1970", parts.handshakes.engine.expires)
        yield Counter, "chatserver_faults", "Bugs of the server, each caught in one step", connections.faults.count
        yield (Gauge, "chatserver_unfinished_bytes",
               "Bytes kept of incomplete requests, messages and TLS records, beyond 2 KiB of each",
               parts.input_budget.used)
        yield (Gauge, "chatserver_wheel_entries",
               "Entries in the timer wheel, stale ones included", connections.wheel.statistics()["entries"])
        yield Counter, "chatserver_messages", "Records made durable: messages and changes of them", hub["published"]
        yield Counter, "chatserver_deliveries", "Records given to members' connections", broadcaster.delivered
        yield Counter, "chatserver_gaps", "Members that were too slow and skipped ahead", broadcaster.gaps
        yield Gauge, "chatserver_rooms", "Rooms in memory", hub["rooms"]
        yield Gauge, "chatserver_rooms_kept_bytes", "Encoded records kept for all rooms", hub["kept"]
        yield Gauge, "chatserver_sanctions", "Mutes and bans in force", len(parts.moderation.in_force)
        yield Gauge, "chatserver_members", "Memberships of WebSockets and event streams", hub["members"]
        yield Gauge, "chatserver_held_polls", "Rooms waited for by held polls", hub["waiters"]
        yield (Gauge, "chatserver_log_up",
               "Whether the log could be reached at its last use, and gets threads", parts.log.reachable)
        yield Gauge, "chatserver_log_pending", "Records waiting for the log", log.pending
        yield Counter, "chatserver_log_commits", "Groups of records committed", log.groups
        yield Counter, "chatserver_log_failures", "Groups and steps of retention that were not committed", log.failures
        yield (Counter, "chatserver_log_late",
               "Records not stored in time, but perhaps later, or refused while the log hangs", log.late)
        yield (Gauge, "chatserver_index_lag_seconds",
               "Time the oldest message outside the search index has waited, at most", parts.log.index.lag)
        passes, late, runs = parts.loop.passes, parts.loop.ticks_late, parts.garbage.runs
        yield Gauge, "chatserver_loop_stall_max_seconds", "Longest pass of the loop since start", passes.longest
        yield Gauge, "chatserver_loop_lag_max_seconds", "Largest lateness of a tick since start", late.longest
        yield Gauge, "chatserver_gc_max_seconds", "Longest garbage collection since start", runs.longest
        yield Counter, "process_cpu_seconds", "User and system CPU time", usage.ru_utime + usage.ru_stime
        kib = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
        yield Gauge, "process_max_resident_memory_bytes", "Largest resident set", usage.ru_maxrss * kib
    # fmt: on


def _of_processes(shared: SharedParts, cluster: Mapping[str, int]) -> Iterator[Metric]:
    """With --shared: the shards, and the numbers of other processes."""
    search, shards, alone = shared.search, shared.shards.all, shared.search.limits.alone.items()
    up, failures = ([(each.name, each.up) for each in shards], [(each.name, each.failures) for each in shards])
    yield labelled(Gauge, "chatserver_shard_up", "Whether a shard can be reached", "shard", up)
    yield labelled(Counter, "chatserver_shard_failures", "Calls to a shard that failed", "shard", failures)
    yield labelled(Counter, "chatserver_shard_alone", "Limits decided without the shard", "shard", alone)
    yield Gauge("chatserver_processes", "Other processes of this chat that are known", cluster["processes"])
    yield Gauge("chatserver_members_elsewhere", "Users in rooms in other processes", cluster["people"])
    unreadable = cluster["unreadable"]
    yield Counter(
        "chatserver_process_messages_unreadable", "Messages of other processes that could not be decoded", unreadable
    )
    yield Counter("chatserver_search_shared", "Search results that another process had found", search.results.found)
    yield Counter("chatserver_sessions", "Sessions that searches began", search.sessions.made)


def _histogram(name: str, help_text: str, durations: Durations) -> Metric:
    cumulative, buckets = 0, []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), durations.buckets, strict=True):
        cumulative += count
        buckets.append((bound, float(cumulative)))
    family = HistogramMetricFamily(name, help_text)
    family.add_metric((), buckets, sum_value=durations.total)
    return family
