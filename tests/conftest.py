"""Shared by all tests: the mark `jumping_clock`, Hypothesis's examples, which worker runs which tests, a log with time
enough on a busy machine, no settings of a person or a CI system, temporary files in memory, and a garbage collector
that ignores imported objects.

Hypothesis tries the same examples in every run of the same tests, so a failure is due to the present change (it takes
constants from the imported modules, so other tests beside it lead to other examples). Their number:
tests/support/examples.py.
"""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from chatserver.log import connections, database, database_index, groups, sqlite_file
from chatserver.log.connections import BUSY_PATIENCE
from chatserver.log.interface import ANSWER_DEADLINE
from chatserver.log.sqlite_file import BUSY_TIMEOUT
from tests.support import kqueue, side_by_side
from tests.support.clock import run_at_once, run_with_jumps
from tests.support.examples import EXPLORED, FEW
from tests.support.side_by_side import TESTS

# A run in the background of a script ignores Ctrl-C, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a person, a company or a CI system has set for programs like those under test, and for browsers.
os.environ["TERM"] = "xterm"
for variable in list(os.environ):
    if variable.lower().endswith("_proxy") or variable.startswith(("CHATSERVER_", "PG", "NO_COLOR", "FORCE_COLOR")):
        del os.environ[variable]

# Servers in this process then use the class for macOS, over a model of its kernel.
if os.environ.get("TEST_READINESS") == "kqueue":
    kqueue.install()

# On a disk each sync, and each removal of a file, waits for it. A container may have too little memory for all files.
MEMORY, NEEDED_BYTES = Path("/dev/shm"), 2 * 1024**3
#: Characters of a folder that leave enough of the 107 of a socket's path for the folder of a test, and its own.
LONGEST = 25
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= NEEDED_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)  # pytest has asked for the folder before
elif len(tempfile.gettempdir()) > LONGEST:
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"

# By default a logged fault has coloured source and all variables: half a second of CPU each.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback

# No deadline: the machine may be busy, and no test asserts timings.
settings.register_profile("fixed", deadline=None, max_examples=FEW, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=max(EXPLORED, 1), database=None)
settings.load_profile("explore" if EXPLORED else "fixed")


#: Seconds in which the log answers, and SQLite waits for a lock, however busy the machine is.
LOG_PATIENCE, LOCK_PATIENCE = 60.0, 20.0
#: Thresholds of the three generations: with Python's own, collections take 8% of the CPU of the tests, with these 4%.
COLLECTIONS = (10_000, 20, 20)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Freeze the collected tests: repeated garbage collections of them would take a second.

    All workers share the compilation of a whole run.
    """
    gc.disable()
    if session.config.args == session.config.getini("testpaths"):
        side_by_side.compile_a_share()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Choose the clocks, and the order after all other plugins."""
    for item in items:
        if _jumps(item) and iscoroutinefunction(getattr(item, "obj", None)):
            # In front of pytest-trio's own mark, which names `trio.run`.
            run = run_at_once if _is_of_chat(item.path) else run_with_jumps
            item.add_marker(pytest.mark.trio(run=run), append=False)
    yield
    _, workers = side_by_side.worker()
    if workers > 1:
        items[:] = side_by_side.long_first(items)


class Suites(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker that has little left the next suite, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return side_by_side.suite(nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return Suites(config, log) if config.getoption("dist") == "loadscope" else None


def _jumps(item: pytest.Item) -> bool:
    return _is_of_chat(item.path) or item.get_closest_marker("jumping_clock") is not None


@cache
def _is_of_chat(path: Path) -> bool:
    return path.relative_to(TESTS).parts[0] == "chat"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A disk or a thread of a busy machine may take longer than the log's five seconds.

    A test of its deadlines sets short ones, or has a clock that jumps. This is no fixture, since that would cost each
    test a quarter of what pytest itself does.
    """
    patient = not _jumps(item) and "autojump_clock" not in getattr(item, "fixturenames", ())
    for module in (groups, database, connections, database_index):
        vars(module)["ANSWER_DEADLINE"] = LOG_PATIENCE if patient else ANSWER_DEADLINE
    sqlite_file.BUSY_TIMEOUT = LOCK_PATIENCE if patient else BUSY_TIMEOUT
    # A query that ended later would close descriptors while the next test counts them.
    connections.BUSY_PATIENCE = LOCK_PATIENCE if patient else BUSY_PATIENCE


def pytest_collection_finish() -> None:
    """Half a million imported objects live as long as the run and would make each full collection take 80 ms.

    No collection first: it takes 0.4 s of each worker, and frees a seventh of them.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(*COLLECTIONS)
