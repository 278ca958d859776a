"""Adding up the metrics of several workers into those of one server.

Owns: how two workers' numbers are combined, and the counts of ended workers. May not: know where the numbers come from,
or how they get from process to process.

If a counter fell because a worker ended, Prometheus would take that for a reset, and count the others' totals as new.
So the counts of an ended worker stay in the sums.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import add
from types import SimpleNamespace
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

#: In the names of maxima, of which the largest is chosen.
_OF_MAXIMA = "_max_"
#: Other gauges that are not added up, mostly because workers share the value: how to choose one.
_CHOSEN: Mapping[str, Callable[[float, float], float]] = {
    "chatserver_sanctions": max,
    "chatserver_index_lag_seconds": max,
    "chatserver_processes": max,
    "chatserver_members_elsewhere": max,
    "chatserver_shard_up": min,
    "chatserver_log_up": min,
    "chatserver_certificate_expiry_timestamp_seconds": min,
}
#: Types of metrics that only grow.
_GROWING = frozenset(("counter", "histogram"))


class Family(msgspec.Struct):
    """A metric with its samples: name, labels and value."""

    name: str
    help: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


def families_of(metrics: Iterable[Metric]) -> list[Family]:
    """Metrics in a form that can be sent to another process."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples],
        )
        for metric in metrics
    ]


def labelled(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, meaning: str, label: str,
    values: Iterable[tuple[str, float]],
) -> Metric:  # fmt: skip
    """A metric with a sample for each value of one label."""
    metric = kind(name, meaning, labels=(label,))
    for each, value in values:
        metric.add_metric((each,), value)
    return metric


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The metrics as Prometheus text."""
    registry: Any = SimpleNamespace(collect=lambda: metrics)
    return generate_latest(registry)


class Totals:
    """The combined numbers of workers, including ended ones."""

    def __init__(self) -> None:
        self._ended: list[Family] = []

    def retire(self, families: Iterable[Family]) -> None:
        """Keep the counts of a worker that has ended."""
        self._ended = _merged([self._ended, [each for each in families if each.kind in _GROWING]])

    def text(self, workers: Iterable[list[Family]], own: Iterable[Metric] = ()) -> bytes:
        """The exposition: the workers' combined numbers, then `own` metrics."""
        return exposition(chain(map(_metric_of, _merged([*workers, self._ended])), own))


def _metric_of(family: Family) -> Metric:
    metric = Metric(family.name, family.help, family.kind)
    for sample in family.samples:
        metric.add_sample(*sample)
    return metric


def value_of(families: Iterable[Family], name: str) -> float:
    """The sum of all samples of one metric."""
    return sum(value for family in families if family.name == name for _, _, value in family.samples)


def _merged(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """One family for each name and one sample for each name and labels, in order of first occurrence."""
    found: dict[str, tuple[Family, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}
    for family in (family for part in parts for family in part):
        _, values = found.setdefault(family.name, (family, {}))
        both = max if _OF_MAXIMA in family.name else _CHOSEN.get(family.name, add)
        for name, labels, value in family.samples:
            key = (name, tuple(labels.items()))
            values[key] = both(values[key], value) if key in values else value
    return [
        Family(family.name, family.help, family.kind, [(name, dict(labels), value) for (name, labels), value in
                                                       values.items()])
        for family, values in found.values()
    ]  # fmt: skip
