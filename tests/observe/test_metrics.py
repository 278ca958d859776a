"""The text is made at each request, within a share of the loop's time."""

from typing import cast

import pytest

from chatserver.observe import metrics, rationed
from chatserver.observe.metrics import MeasuredParts, ServerMetrics
from chatserver.observe.rationed import AT_ONCE_SECONDS, SHARE

#: Seconds to make a text in these tests: a binary fraction, so that sums are exact.
COST = 2.0**-8


class Making(ServerMetrics):
    """Metrics without parts; the clock moves while a text is made, and texts are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(cast(MeasuredParts, object()))
        self.now, self.made = 1000.0, 0
        monkeypatch.setattr(rationed, "perf_counter", lambda: self.now)
        monkeypatch.setattr(metrics, "generate_latest", self._make)

    def _make(self, registry: object) -> bytes:
        self.now += COST
        self.made += 1
        return b"%d" % self.made


def test_occasional_scrapes_each_get_a_new_text(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    for asked in range(1, 1000):
        assert making.text() == b"%d" % asked
        making.now += COST / SHARE


def test_many_requests_at_once_share_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    making = Making(monkeypatch)
    began = making.now
    for _ in range(10_000):
        assert making.text() == b"%d" % making.made, "the latest text"
        making.now += 0.0001
    assert AT_ONCE_SECONDS <= making.made * COST <= AT_ONCE_SECONDS + (making.now - began) * SHARE + 2 * COST
    before = making.made
    making.now += COST / SHARE
    making.text()
    assert making.made == before + 1, "one new text for all"
