"""The numbers of several workers as one exposition."""

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from chatserver.observe.numbers import Family, Totals, families_of, value_of


def worker(closes: dict[str, float], held: float, worst: float, below: float) -> list[Metric]:
    counter = CounterMetricFamily("chatserver_closes", "Connections ended", labels=("reason",))
    for reason, count in closes.items():
        counter.add_metric((reason,), count)
    histogram = HistogramMetricFamily("chatserver_gc_seconds", "Collections")
    histogram.add_metric((), [("0.1", below), ("+Inf", below + 1)], sum_value=below)
    return [
        counter,
        GaugeMetricFamily("chatserver_members", "Members", held),
        GaugeMetricFamily("chatserver_loop_stall_max_seconds", "Longest", worst),
        GaugeMetricFamily("process_max_resident_memory_bytes", "Largest", worst),
        GaugeMetricFamily("chatserver_sanctions", "In force", 3),
        GaugeMetricFamily("chatserver_index_lag_seconds", "Of what this worker wrote", held),
        GaugeMetricFamily("chatserver_shard_up", "Up", held > 5),  # a bool, as the shards report it
        GaugeMetricFamily("chatserver_log_up", "Up", held > 5),
        histogram,
    ]


def shown(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.values()))
            assert key not in found, "a sample is present twice"
            found[key] = sample.value
    return found


FIRST = families_of(worker({"done": 5, "evicted": 1}, 7, 0.5, 2))
SECOND = families_of(worker({"done": 3, "flush": 2}, 4, 0.25, 10))


def test_numbers_of_a_worker_can_be_read_by_its_supervisor() -> None:
    """A sample that is True must not be sent as `true`, which is no number."""
    assert msgspec.json.decode(msgspec.json.encode(FIRST), type=list[Family]) == FIRST


def test_sums_and_the_worst_and_histograms() -> None:
    numbers = shown(Totals().text([FIRST, SECOND], [GaugeMetricFamily("chatserver_workers_ready", "Ready", 2)]))
    assert numbers == {
        ("chatserver_closes_total", ("done",)): 8,
        ("chatserver_closes_total", ("evicted",)): 1,
        ("chatserver_closes_total", ("flush",)): 2,
        ("chatserver_members", ()): 11,
        ("chatserver_loop_stall_max_seconds", ()): 0.5,
        ("process_max_resident_memory_bytes", ()): 0.5,
        ("chatserver_sanctions", ()): 3,
        ("chatserver_index_lag_seconds", ()): 7,
        ("chatserver_shard_up", ()): 0,
        ("chatserver_log_up", ()): 0,
        ("chatserver_gc_seconds_bucket", ("0.1",)): 12,
        ("chatserver_gc_seconds_bucket", ("+Inf",)): 14,
        ("chatserver_gc_seconds_count", ()): 14,
        ("chatserver_gc_seconds_sum", ()): 12,
        ("chatserver_workers_ready", ()): 2,
    }
    assert value_of(FIRST, "chatserver_closes") == 6


def test_counters_never_fall() -> None:
    """Prometheus would treat a fall as a restart, and count the numbers of the other workers again."""
    totals = Totals()
    before = shown(totals.text([FIRST, SECOND]))
    for ended in (SECOND, FIRST):
        totals.retire(ended)
    after = shown(totals.text([families_of(worker({"done": 1}, 1, 0, 0))]))
    growing = {key for key in before if key[0].endswith(("_total", "_bucket", "_count", "_sum"))}
    assert len(growing) == 7
    assert {key: after[key] >= before[key] for key in growing} == dict.fromkeys(growing, True)
    assert after["chatserver_closes_total", ("done",)] == 9
    assert after["chatserver_members", ()] == 1, "gauges are of the running workers"
    assert after["chatserver_loop_stall_max_seconds", ()] == 0
