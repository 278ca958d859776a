"""Free memory is returned to the system, and garbage is collected, by the clock."""

import itertools
import subprocess
import sys
from unittest.mock import Mock, call

import pytest

from chatserver.observe import memory
from chatserver.observe.memory import FULL_INTERVAL, MIDDLE_INTERVAL, Collector, Heap, find_trim


@pytest.mark.parametrize(("seconds", "times"), [(0.0005, 20), (0.0025, 7), (0.05, 1)])
def test_the_heap_is_trimmed_again_and_again_for_a_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float, times: int
) -> None:
    """Trimmed only when a crowd came or left, a server kept 6 MB free beside 500 clients that asked the log."""
    monkeypatch.setattr("time.thread_time", itertools.count(step=seconds).__next__)
    monkeypatch.setattr("time.perf_counter", itertools.count(step=1.0).__next__)  # other programs had the core
    trim = Mock()
    heap = Heap(trim)
    for _ in range(20):
        heap.tick()
    assert trim.mock_calls == [call(0)] * times


def test_all_threads_use_one_heap() -> None:
    """With a heap each, the threads of the log kept 6 MB that none of them used."""
    code = """
import ctypes, threading
from chatserver.observe.memory import share_heap
share_heap()
taken = threading.Barrier(4)
def take():
    ctypes.CDLL(None).malloc(4096)
    taken.wait()
threads = [threading.Thread(target=take) for _ in range(3)]
for each in threads: each.start()
taken.wait()
print(ctypes.CDLL(None).malloc_stats())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Arena 0" in found.stderr
    assert "Arena 1" not in found.stderr


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
