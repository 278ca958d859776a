"""`/metrics`: the numbers of all parts as Prometheus text.

Owns: names and help texts. May not: count; the parts count in plain integers, and this reads them when it is asked.
A counter of the client library costs a lock and a dictionary at each increment; a delivery costs less than that.

Anybody may ask, and it takes 1 to 3 ms: fifty times what another answer does. So it has a share of the loop, and who
asks when that is used up gets the text that was made last.
"""

import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from chatserver.api.session import WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.edge.closes import CloseStats
from chatserver.log.interface import Log
from chatserver.meters import ByteBudget
from chatserver.net.admission import Admission
from chatserver.net.connections import Connections
from chatserver.net.states import State
from chatserver.net.tls_handshake import Handshakes
from chatserver.observe.loop import BUCKETS, Durations, LoopMeter
from chatserver.observe.memory import Collector as GarbageCollector
from chatserver.reasons import Reason

#: The share of a core that goes into making the text, and what may be used at once: 100 scrapes. Prometheus asks every
#: 15 s; at 20,000 connections a text is 30 ms old then, at most.
SHARE, AT_ONCE_SECONDS = 0.1, 0.3

_TRANSPORTS: dict[type, str] = {
    WebSocketSession: "websocket",
    PollWaiter: "poll",
    Member: "events",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredParts:
    """What is asked for its numbers."""

    connections: Connections
    admission: Admission
    stats: CloseStats
    input_budget: ByteBudget
    hub: Hub
    log: Log
    loop: LoopMeter
    handshakes: Handshakes | None
    garbage: GarbageCollector


class ServerMetrics(Collector):
    """A collector that reads the parts; `text` is the body of the answer."""

    def __init__(self) -> None:
        self._asked: MeasuredParts | None = None
        self._text = b""
        self._paid = 0.0  # when what was used of the share is made up for
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        if self._asked is None:
            raise RuntimeError("metrics were asked for before the parts were built")
        began = perf_counter()
        if self._paid - began <= AT_ONCE_SECONDS / SHARE:
            self._text = generate_latest(self._registry)
            took = perf_counter() - began
            self._paid = max(self._paid, began) + took / SHARE
        return self._text, CONTENT_TYPE_LATEST

    def watch(self, parts: MeasuredParts) -> None:
        """Read these from now on."""
        self._asked = parts

    @property
    def _parts(self) -> MeasuredParts:
        assert self._asked is not None, "text() checks"
        return self._asked

    def describe(self) -> Sequence[Metric]:
        """Nothing: asking at registration would ask the parts before they run."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything."""
        yield from self._connection_metrics()
        yield from self._chat_metrics()
        yield from self._loop_metrics()
        yield from self._process_metrics()

    def _connection_metrics(self) -> Iterator[Metric]:
        parts = self._parts
        counts: dict[tuple[State, str], int] = {}
        for connection in parts.connections.table:
            if connection is not None:
                key = (connection.state, _TRANSPORTS.get(type(connection.context), "http"))
                counts[key] = counts.get(key, 0) + 1
        held = GaugeMetricFamily(
            "chatserver_connections", "Connections held, by phase and transport", labels=("phase", "transport")
        )
        for (state, transport), count in sorted(counts.items()):
            held.add_metric((state.name.lower(), transport), count)
        yield held
        closes = CounterMetricFamily("chatserver_closes", "Connections ended or refused, by reason", labels=("reason",))
        for reason in Reason:
            closes.add_metric((reason.label,), parts.stats.closes[reason])
        yield closes
        yield GaugeMetricFamily(
            "chatserver_addresses", "Addresses that hold connections", parts.admission.statistics()["addresses"]
        )
        yield GaugeMetricFamily(
            "chatserver_places", "Connections that may be held at once", parts.admission.total
        )  # fmt: skip
        yield CounterMetricFamily(
            "chatserver_reclaimed", "Connections that gave up their place to others", parts.admission.reclaimed
        )
        if parts.handshakes is not None:
            yield CounterMetricFamily(
                "chatserver_tls_handshakes", "TLS handshakes completed", parts.handshakes.completed
            )
        yield CounterMetricFamily(
            "chatserver_faults", "Faults of the server's own, each in a step", parts.connections.faults.count
        )
        yield GaugeMetricFamily(
            "chatserver_unfinished_bytes", "Kept of long requests, messages and TLS records that are not whole",
            parts.input_budget.used,
        )  # fmt: skip
        waiting = GaugeMetricFamily("chatserver_scheduler_items", "Items waiting for their turn", labels=("priority",))
        for name, items in parts.connections.scheduler.statistics().items():
            waiting.add_metric((name,), items)
        yield waiting
        yield GaugeMetricFamily(
            "chatserver_wheel_entries", "Entries in the timer wheel, stale ones included",
            parts.connections.wheel.statistics()["entries"],
        )  # fmt: skip

    def _chat_metrics(self) -> Iterator[Metric]:
        parts = self._parts
        hub, broadcaster, log = parts.hub.statistics(), parts.hub.broadcaster, parts.log.statistics()
        yield CounterMetricFamily("chatserver_messages", "Messages made durable", hub["published"])
        yield CounterMetricFamily(
            "chatserver_deliveries", "Messages given to members' connections", broadcaster.delivered
        )
        yield CounterMetricFamily("chatserver_gaps", "Members that were too slow and skipped ahead", broadcaster.gaps)
        yield GaugeMetricFamily("chatserver_rooms", "Rooms in memory", hub["rooms"])
        yield GaugeMetricFamily("chatserver_rooms_kept_bytes", "Encoded messages kept for all rooms", hub["kept"])
        yield GaugeMetricFamily("chatserver_members", "Memberships of WebSockets and event streams", hub["members"])
        yield GaugeMetricFamily("chatserver_held_polls", "Rooms waited for by held polls", hub["waiters"])
        yield GaugeMetricFamily("chatserver_log_pending", "Messages waiting for the log", log.pending)
        yield CounterMetricFamily("chatserver_log_commits", "Groups of messages committed", log.groups)
        yield CounterMetricFamily("chatserver_log_failures", "Groups that could not be committed", log.failures)
        yield CounterMetricFamily("chatserver_log_late", "Messages that the disk did not answer in time", log.late)

    def _loop_metrics(self) -> Iterator[Metric]:
        loop, garbage = self._parts.loop, self._parts.garbage
        yield _histogram("chatserver_loop_pass_seconds", "Time one pass of the loop took", loop.passes)
        yield GaugeMetricFamily(
            "chatserver_loop_stall_max_seconds", "Longest pass of the loop since start", loop.passes.longest
        )
        yield _histogram("chatserver_loop_lag_seconds", "How late the wheel's ticks came", loop.ticks_late)
        yield GaugeMetricFamily("chatserver_loop_lag_max_seconds", "Latest tick since start", loop.ticks_late.longest)
        yield _histogram("chatserver_gc_seconds", "Time one garbage collection took", garbage.runs)
        yield GaugeMetricFamily("chatserver_gc_max_seconds", "Longest collection since start", garbage.runs.longest)

    def _process_metrics(self) -> Iterator[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        kib = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
        yield CounterMetricFamily("process_cpu_seconds", "User and system CPU time", usage.ru_utime + usage.ru_stime)
        yield GaugeMetricFamily("process_max_resident_memory_bytes", "Largest resident set", usage.ru_maxrss * kib)


def _histogram(name: str, help_text: str, durations: Durations) -> Metric:
    cumulative, buckets = 0, []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), durations.buckets, strict=True):
        cumulative += count
        buckets.append((bound, float(cumulative)))
    family = HistogramMetricFamily(name, help_text)
    family.add_metric((), buckets, sum_value=durations.total)
    return family
