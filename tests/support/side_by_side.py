"""The order of tests for the workers of pytest-xdist, so that no worker has long tests left at the end.

Owns: the order of the tests, the list of long ones, what each worker compiles. May not: know what a test does.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: Folders and files of tests that mostly wait, the longest first. Each stays with one worker while others have work:
#: the tests of a browser share one Chromium.
LONG = (
    "e2e", "loadgen/test_verdicts.py", "attacks", "loadgen/compare", "bench", "loadgen/personas",
    "loadgen/test_attack.py", "loadgen/test_cli.py", "soak", "workers", "loadgen/fingerprint", "loadgen/test_run.py",
    "doctor", "loadgen/test_whose_fault.py", "million", "fuzz", "shared/test_after_failures.py",
    "terminal/test_interactive.py", "log/test_model.py", "loadgen/test_processes.py", "client/test_against_server.py",
    "log/test_postgres_faults.py", "test_docs.py", "terminal/test_modes.py",
)  # fmt: skip


def worker() -> tuple[int, int]:
    """The number of this worker, and the number of workers."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return int(number), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def compile_a_share(folder: Path = TESTS) -> None:
    """Import this worker's part of the test modules, which compiles them for all.

    In a fresh checkout each worker would compile and rewrite all of them at the same time, 5 s of a processor each.
    """
    number, workers = worker()
    if workers == 1:  # no other workers, or the process that starts them
        return
    for path in sorted(folder.rglob("test_*.py"))[number::workers]:
        # Collection imports it again, and reports the error.
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))


def long_first(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order the tests so that each worker's stretch begins with its part of the long ones.

    Work is stolen from the end of a stretch, so that in the end only short tests are left to share.
    """
    long: dict[str, list[pytest.Item]] = {name: [] for name in LONG}
    short: list[pytest.Item] = []
    for item in items:
        long.get(_long_name(item.path), short).append(item)
    heads = [list(chain.from_iterable(list(long.values())[number::workers])) for number in range(workers)]
    return list(chain.from_iterable(_stretches(heads, short, len(items))))


@cache
def _long_name(path: Path) -> str:
    """The entry of LONG that it belongs to, or ""."""
    parts = path.relative_to(TESTS).parts
    return next((name for name in ("/".join(parts[:length]) for length in (1, 2)) if name in LONG), "")


def _stretches(heads: Iterable[list[pytest.Item]], short: list[pytest.Item], count: int) -> Iterable[list[pytest.Item]]:
    """Each head, followed by as many short tests as fill the stretch of one worker in xdist."""
    heads = list(heads)
    taken = 0
    for number, head in enumerate(heads):
        size = (count - taken) // (len(heads) - number)
        taken += size
        filling = max(size - len(head), 0)
        yield head + short[:filling]
        short = short[filling:]
    yield short
