"""Free memory is given back when a crowd has gone, and not at every turn."""

import sys

import pytest

from chatserver.observe.memory import CROWD, Heap, find_trim


def trims(*held: int) -> int:
    calls: list[int] = []

    def trim(pad: int) -> int:
        calls.append(pad)
        return 1

    heap = Heap(trim)
    for count in held:
        heap.tick(count)
    assert set(calls) <= {0}
    return len(calls)


@pytest.mark.parametrize(
    ("held", "times"),
    [
        ((), 0),
        ((8000, 8000, 7000, 4001), 0),
        ((8000, 4000), 1),
        ((8000, 31), 1),
        ((8000, 31, 31, 31), 1),
        ((8000, 4000, 2000, 1900), 2),
        ((31, 8000, 31, 8000, 31), 2),
        ((CROWD - 1, 0), 0),
        ((CROWD, 0), 1),
    ],
)
def test_it_is_trimmed_when_half_of_a_crowd_has_gone(held: tuple[int, ...], times: int) -> None:
    assert trims(*held) == times


def test_where_there_is_nothing_to_call() -> None:
    heap = Heap(None)
    heap.tick(8000)
    heap.tick(0)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc has it")
def test_this_library_can() -> None:
    trim = find_trim()
    assert trim is not None
    assert trim(0) in {0, 1}
