"""Free memory is given back when a crowd has come or gone, and not at every turn."""

import sys
from unittest.mock import Mock, call

import pytest

from chatserver.observe.memory import CROWD, Heap, find_trim


@pytest.mark.parametrize(
    ("held", "times"),
    [
        ((), 0),
        ((CROWD - 1, 0), 0),
        ((CROWD,), 1),
        ((CROWD, 0), 2),
        ((8000, 8000, 9999, 6001), 1),
        ((6000, 8000), 2),
        ((8000, 6000), 2),
        ((8000, 31, 31, 31), 2),
        ((31, 8000, 31, 8000, 31), 4),
    ],
)
def test_it_is_trimmed_when_a_quarter_of_a_crowd_has_come_or_gone(held: tuple[int, ...], times: int) -> None:
    trim = Mock()
    heap = Heap(trim)
    for count in held:
        heap.tick(count)
    assert trim.mock_calls == [call(0)] * times


def test_with_this_library_or_without() -> None:
    trim = find_trim()
    assert trim is None or trim(0) in {0, 1}
    assert trim is not None or sys.platform != "linux", "glibc has it"
    for each in (trim, None):
        heap = Heap(each)
        heap.tick(8000)
        heap.tick(0)
