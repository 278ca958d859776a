"""What a process costs, beside what it says of itself."""

import os
import time

import pytest

from loadgen.procfs import Process
from loadgen.target import UsageError


def test_cpu_is_to_the_microsecond() -> None:
    """By /proc/PID/stat, in ticks of 10 ms, a thousand idle connections for ten seconds were 0 or 1 tick."""
    before = time.process_time()
    measured = Process(os.getpid()).cpu_seconds()
    assert measured is not None
    assert before <= measured
    while time.process_time() < measured + 0.001:
        pass
    later = Process(os.getpid()).cpu_seconds()
    assert later is not None
    assert later > measured


def test_a_process_that_is_gone() -> None:
    gone = Process(2**22 + 1)  # above the largest number that Linux gives
    assert gone.cpu_seconds() is gone.usage() is gone.descriptors() is None
    with pytest.raises(UsageError, match="there is no process"):
        gone.require()
