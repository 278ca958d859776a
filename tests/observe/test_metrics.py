"""The text is made at each request, within a share of the loop's time."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from prometheus_client.core import Metric

from chatserver.observe import numbers, rationed
from chatserver.observe.metrics import MeasuredParts, ServerMetrics
from chatserver.observe.rationed import AT_ONCE_SECONDS, SHARE

#: Seconds to make a text in these tests: a binary fraction, so that sums are exact.
COST = 2.0**-8


class Making(ServerMetrics):
    """Metrics without parts; the clock moves while a piece of text is made, and texts are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(cast(MeasuredParts, object()))
        self.now, self.made = 1000.0, 0
        monkeypatch.setattr(rationed, "perf_counter", lambda: self.now)
        monkeypatch.setattr(numbers, "generate_latest", self._make)

    def collect(self) -> Iterator[list[Metric]]:
        """One metric, in the second of two pieces."""
        yield from ([], [Metric("made", "", "gauge")])

    def _make(self, registry: Any) -> bytes:
        if not registry.collect():
            return b""
        self.now += COST
        self.made += 1
        return b"%d" % self.made

    def scraped(self) -> bytes:
        return b"".join(self.text())


def test_occasional_scrapes_each_get_a_new_text(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    for asked in range(1, 1000):
        assert making.scraped() == b"%d" % asked
        making.now += COST / SHARE


def test_many_requests_at_once_share_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    began = making.now
    for _ in range(10_000):
        assert making.scraped() == b"%d" % making.made, "the latest text"
        making.now += 0.0001
    assert AT_ONCE_SECONDS <= making.made * COST <= AT_ONCE_SECONDS + (making.now - began) * SHARE + 2 * COST
    before = making.made
    making.now += COST / SHARE
    making.scraped()
    assert making.made == before + 1, "one new text for all"


def test_texts_that_are_begun_at_once_are_charged_when_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charged at their ends, thousands could be under way before the first ends."""
    making = Making(monkeypatch)
    making.scraped()
    scrapes = [making.text() for _ in range(1_000)]
    for scrape in scrapes:
        assert next(scrape) in (b"", b"1")
    for scrape in scrapes:
        list(scrape)
    assert making.made * COST <= AT_ONCE_SECONDS + 3 * COST
