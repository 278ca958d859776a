"""How workers share a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import ports
from tests.support.side_by_side import LONG, TESTS, long_first

NAMES = ("chat/test_a.py", "e2e/test_b.py", "e2e/test_c.py", "loadgen/test_flags.py", "loadgen/test_verdicts.py")
#: Ten tests of each of those, as collected.
ITEMS: Any = [SimpleNamespace(path=TESTS / name, number=number) for name in NAMES for number in range(10)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 49])
def test_long_tests_come_first_in_each_workers_stretch(workers: int) -> None:
    ordered: Any = long_first(ITEMS, workers)
    assert sorted(map(id, ordered)) == sorted(map(id, ITEMS))
    browser = [ordered.index(item) for item in ITEMS if item.path.parent.name == "e2e"]
    assert browser == list(range(browser[0], browser[0] + 20)), "together and in order"
    assert browser[0] == 0
    if workers == 2:  # they fit into a stretch
        verdicts = next(item for item in ITEMS if item.path.name == "test_verdicts.py")
        assert ordered.index(verdicts) == len(ITEMS) // workers


def test_the_long_tests_exist() -> None:
    assert [name for name in LONG if not Path(TESTS, name).exists()] == []


def test_no_port_is_given_twice_by_any_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise two servers that start at the same time may get one port, and the later one fails."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    given: list[list[int]] = []
    for number in range(2):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        monkeypatch.setattr(ports, "_given", set())
        given.append([ports.steady_port() for _ in range(200)])
        assert len(set(given[-1])) == 200
    assert not set(given[0]) & set(given[1])
