"""How the workers of pytest-xdist share a run: whole suites, the long ones first.

Owns: the suites and their order, what each worker compiles. May not: know what a test does.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: Halves of tests/e2e, for two workers: each starts a Chromium, and one alone would be the last to end.
BROWSERS = ("e2e 0", "e2e 1")
#: Folders and files that take long, the longest first; any other file is a suite by itself.
LONG = (
    "attacks", "loadgen/test_verdicts.py", "fuzz", "loadgen/fingerprint", "shared/test_after_failures.py", "bench",
    "web_walk", "loadgen/compare", "workers", "loadgen/test_cli.py", "test_cli.py", "million", "test_docs.py",
    "loadgen/test_attack.py", "loadgen/personas", "api/test_model.py", "chat/test_moderation_model.py",
    "log/test_model.py", "doctor", "terminal/test_modes.py", "client/test_types.py",
    "terminal/test_interactive.py", "log/test_postgres_index.py", "client/test_against_server.py",
    "loadgen/test_main.py", "chat/test_model.py", "log/test_postgres_faults.py", "loadgen/test_run.py",
    "loadgen/test_whose_fault.py", "loadgen/test_processes.py",
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


def long_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Order the tests so that long suites begin first, and short ones fill up what is left at the end."""
    ranks = {name: rank for rank, name in enumerate((*BROWSERS, *LONG))}
    return sorted(items, key=lambda item: ranks.get(suite(item.nodeid.partition("::")[0]), len(ranks)))


@cache
def suite(file: str) -> str:
    """The suite of a file, whose path begins with `tests/`."""
    path = Path(file).relative_to(TESTS.name)
    if path.parts[0] == "e2e":
        return BROWSERS[sorted(Path(TESTS, "e2e").glob("test_*.py")).index(TESTS / path) % len(BROWSERS)]
    return next((name for name in (path.parts[0], "/".join(path.parts[:2])) if name in LONG), file)
