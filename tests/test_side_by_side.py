"""How workers share a run."""

from pathlib import Path

from tests.support.side_by_side import LONG, TESTS


def test_the_long_tests_exist() -> None:
    """A file that was renamed would be taken for a short one."""
    assert [name for name in LONG if not Path(TESTS, name).exists()] == []
