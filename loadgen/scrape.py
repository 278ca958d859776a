"""The target's own /metrics, if it has them: the growth of its counters during a run.

Owns: reading the Prometheus text before and after, and the difference. A target without /metrics is no error, and
unreadable text counts as none.
"""

from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from loadgen.target import Target, fetch

PATH: Final = "/metrics"
_MAX_BYTES: Final = 4 * 1024 * 1024

Counters = dict[str, float]


def scrape(target: Target) -> Counters | None:
    """The counters by series, or `None`. Blocks: call it in a thread."""
    page = fetch(target, PATH, most_bytes=_MAX_BYTES)
    if page.status != 200:
        return None
    try:
        families = list(text_string_to_metric_families(page.body.decode("utf-8", "replace")))
    except ValueError:
        return None
    return {
        _series(sample.name, sample.labels): sample.value
        for family in families
        if family.type == "counter"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def growth(before: Counters | None, after: Counters | None) -> Counters:
    """The counters that grew, with their growth; empty unless both were read."""
    if before is None or after is None:
        return {}
    return {series: grown for series, value in sorted(after.items()) if (grown := value - before.get(series, 0.0)) > 0}


def _series(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name
