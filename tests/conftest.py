"""What all tests share: the mark `jumping_clock`, Hypothesis's examples, the order in which workers take them, and a
garbage collector that does not look at what was imported.

Hypothesis tries the same examples every time, so that a red run is about the change at hand; tests/support/examples.py
says how many.
"""

import gc
import signal
from collections.abc import Iterator
from inspect import iscoroutinefunction

import pytest
import structlog
from hypothesis import settings

from tests.support import side_by_side
from tests.support.clock import run_at_once, run_with_jumps
from tests.support.examples import EXPLORED, FEW
from tests.support.side_by_side import TESTS

# A run that a script starts in the background ignores Ctrl-C, and so would each program that a test sends it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# By default a logged fault has its source coloured and all variables: half a second of a processor each.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback

# No deadline: the machine may be busy, and no test here is about time.
settings.register_profile("fixed", deadline=None, max_examples=FEW, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=max(EXPLORED, 1), database=None)
settings.load_profile("explore" if EXPLORED else "fixed")


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is collected stays: to look for garbage in it again and again would take a second.

    A whole run is compiled by all workers together.
    """
    gc.disable()
    if session.config.args == session.config.getini("testpaths"):
        side_by_side.compile_a_share()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Choose clocks; and the order, when all others have had their say."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        jumps = folder == "chat" or item.get_closest_marker("jumping_clock") is not None
        if jumps and iscoroutinefunction(getattr(item, "obj", None)):
            # In front of pytest-trio's own mark, which names `trio.run`.
            run = run_at_once if folder == "chat" else run_with_jumps
            item.add_marker(pytest.mark.trio(run=run), append=False)
    yield
    _, workers = side_by_side.worker()
    if workers > 1:
        items[:] = side_by_side.long_first(items, workers)


def pytest_collection_finish() -> None:
    """Half a million imported objects live as long as the run, and made each full collection take 80 ms."""
    gc.collect()
    gc.freeze()
    gc.enable()
