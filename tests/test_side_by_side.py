"""How workers share a run."""

from collections import Counter
from pathlib import Path

from tests.support.side_by_side import BROWSERS, LONG, TESTS, suite


def test_the_long_tests_exist() -> None:
    """A file that was renamed would be taken for a short one."""
    assert [name for name in LONG if not Path(TESTS, name).exists()] == []


def test_the_browser_tests_are_two_suites_and_any_other_file_is_in_one() -> None:
    files = [path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("test_*.py")]
    sizes = Counter(map(suite, files))
    first, second = (sizes.pop(name) for name in BROWSERS)
    assert first - second in (0, 1)
    assert first + second == sum(file.startswith("tests/e2e/") for file in files)
    assert set(LONG) <= set(sizes)
    assert suite("tests/attacks/test_tls.py") == "attacks"
    assert suite("tests/loadgen/test_run.py") == "loadgen/test_run.py"
    assert suite("tests/net/test_tls.py") == "tests/net/test_tls.py"
