"""One `/metrics` for all workers, whichever of them is scraped.

Owns: collecting the numbers of all workers, and the supervisor's own. May not: start or end a worker.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator

import structlog
import trio
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric

from chatserver.fair import SingleFlight
from chatserver.observe.numbers import Totals, labelled, value_of
from chatserver.observe.rationed import Rationed
from chatserver.workers.child import Child

_log = structlog.get_logger("chatserver.workers")


class WorkersMetrics:
    """See the module. `children` returns the running workers."""

    def __init__(self, children: Callable[[], Collection[Child]]) -> None:
        self._children = children
        self._totals = Totals()
        self._deaths = {"died": 0, "hung": 0}
        self._text = Rationed(lambda: iter([self._make_text()]))  # each worker bounds the cost of its own numbers
        self._asking: SingleFlight[str, bytes] = SingleFlight()

    def ended(self, child: Child) -> None:
        """Keep the counts of a worker that has ended."""
        self._totals.retire(child.numbers)

    def died(self, child: Child) -> None:
        """Count a worker that ended without being told to."""
        self._deaths["hung" if child.hung else "died"] += 1

    async def answer(self, child: Child) -> None:
        """Send a worker the text for all workers."""
        try:
            text = await self._asking.get("", self._collect)
        except Exception:  # noqa: BLE001
            _log.exception("worker_metrics_failed")
        else:
            child.tell(text.decode())

    async def _collect(self) -> bytes:
        if not self._text.used_up:
            async with trio.open_nursery() as nursery:
                for child in self._children():
                    nursery.start_soon(child.collect)
        return b"".join(self._text.pieces())

    def _make_text(self) -> bytes:
        return self._totals.text((child.numbers for child in self._children()), self.collect())

    def collect(self) -> Iterator[Metric]:
        """The supervisor's own metrics."""
        ready = sum(child.ready for child in self._children())
        yield Gauge("chatserver_workers_ready", "Workers that accept connections", ready)
        held: defaultdict[int, float] = defaultdict(float)  # a draining worker and its replacement share a number
        for child in self._children():
            held[child.number] += value_of(child.numbers, "chatserver_connections")
        by_worker = [(str(number), count) for number, count in sorted(held.items())]
        yield labelled(Gauge, "chatserver_worker_connections", "Connections held, by worker", "worker", by_worker)
        deaths = self._deaths.items()
        yield labelled(Counter, "chatserver_worker_deaths", "Workers that ended by themselves", "how", deaths)
