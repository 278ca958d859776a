"""What all tests share: the mark `jumping_clock`, and a garbage collector that does not look at what was imported."""

import gc
from inspect import iscoroutinefunction

import pytest

from tests.support.clock import run_with_jumps


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In front of pytest-trio's own mark, which names `trio.run`."""
    for item in items:
        if item.get_closest_marker("jumping_clock") is not None and iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_with_jumps), append=False)


def pytest_collection_finish() -> None:
    """Half a million imported objects live as long as the run, and made each full collection take 80 ms."""
    gc.collect()
    gc.freeze()
