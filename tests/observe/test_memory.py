"""Free memory is returned to the system when a crowd has come or left; garbage is collected by the clock."""

import itertools
import sys
from unittest.mock import Mock, call

import pytest

from chatserver.observe import memory
from chatserver.observe.memory import CROWD, CROWD_BYTES, FULL_INTERVAL, MIDDLE_INTERVAL, Collector, Heap, find_trim


def test_memory_is_trimmed_when_a_quarter_of_the_connections_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.thread_time", lambda: 0.0)
    for held, times in (
        ((), 0),
        ((CROWD - 1, 0), 0),
        ((CROWD,), 1),
        ((CROWD, 0), 2),
        ((8000, 8000, 9999, 6001), 1),
        ((6000, 8000), 2),
        ((8000, 6000), 2),
        ((8000, 31, 31, 31), 2),
        ((31, 8000, 31, 8000, 31), 4),
    ):
        trim = Mock()
        heap = Heap(trim)
        for count in held:
            heap.tick(count, 0)
        assert trim.mock_calls == [call(0)] * times, held


def test_memory_is_trimmed_when_rooms_have_left_after_their_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.thread_time", lambda: 0.0)
    trim = Mock()
    heap = Heap(trim)
    for held, kept, times in (500, 10**8, 1), (0, 10**8, 2), (0, 10**8, 2), (0, 0, 3), (0, CROWD_BYTES - 1, 3):
        heap.tick(held, kept)
        assert trim.call_count == times


def test_a_trim_that_takes_long_is_not_repeated_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 500 connections opened and closed each second trim a large heap as often, for 50 ms each."""
    now = itertools.count(step=0.05)
    monkeypatch.setattr("time.thread_time", now.__next__)
    trim = Mock()
    heap = Heap(trim)
    for second in range(120):
        heap.tick(1000 + second % 2 * 500, 0)
    heap.tick(0, 0)
    assert trim.call_count == 3


def test_a_trim_during_which_other_programs_had_the_core_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise on a busy machine the memory of a crowd was kept for up to a minute after it had left."""
    monkeypatch.setattr("time.perf_counter", itertools.count(step=0.05).__next__)
    trim = Mock()
    heap = Heap(trim)
    for held in (8000, 31):
        heap.tick(held, 0)
    assert trim.call_count == 2


def test_with_this_library_or_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_trim()(0) in ({0, 1} if sys.platform == "linux" else {None})
    monkeypatch.setattr("ctypes.CFUNCTYPE", Mock(side_effect=AttributeError("function 'malloc_trim' not found")))
    assert find_trim()(0) is None


def test_garbage_is_collected_by_the_clock_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    gc = Mock(callbacks=[])
    monkeypatch.setattr(memory, "gc", gc)
    monkeypatch.setattr("time.perf_counter", itertools.count(step=0.5).__next__)
    with Collector() as collector:
        assert gc.mock_calls == [call.collect(), call.freeze(), call.disable()]
        [observe] = gc.callbacks
        for phase in ("start", "stop"):
            observe(phase, {})
        assert (sum(collector.runs.buckets), collector.runs.total) == (1, 0.5)
        gc.reset_mock()
        middle = 100.0 + MIDDLE_INTERVAL
        for now in (100.0, middle - 0.25, middle, middle + 0.25, 100.0 + FULL_INTERVAL, 100.25 + FULL_INTERVAL):
            collector.tick(now)
        assert gc.mock_calls == [call.collect(generation) for generation in (2, 0, 1, 0, 2, 0)]
        gc.reset_mock()
    assert (gc.mock_calls, gc.callbacks) == ([call.enable(), call.unfreeze()], [])
