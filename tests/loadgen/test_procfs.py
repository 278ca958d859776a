"""What a process costs, beside what it says of itself."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loadgen import procfs
from loadgen.procfs import Process
from loadgen.target import UsageError

#: Above the largest number that Linux gives to a process.
GONE = 2**22 + 1


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


@pytest.mark.parametrize("many", [100, 0], ids=["by-thread", "by-parent"])
def test_children_are_taken_in(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "MANY_THREADS", many)
    code = "import os, sys; os.fork(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as family:
        assert family.stdout is not None
        assert family.stdout.readline() == family.stdout.readline() == b"\n"
        both = Process(family.pid).descriptors()
        alone = len(list(Path(f"/proc/{family.pid}/fd").iterdir()))
    assert both == 2 * alone


def test_a_child_that_has_ended_since_it_was_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make million` met one after Ctrl-C, and ended as if connections had been lost."""
    monkeypatch.setattr(procfs, "_read", lambda _: str(GONE))
    assert set(Process(os.getpid()).tree()) == {os.getpid(), GONE}


def test_what_a_child_that_has_ended_used_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One child that ended between listing and reading ended the watch over the server's memory."""
    ourselves = Process(os.getpid())
    monkeypatch.setattr(ourselves, "tree", lambda: [os.getpid(), GONE])
    assert ourselves.usage() is not None
    assert ourselves.resident_bytes()
    assert ourselves.descriptors()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_only_the_process_that_listens_is_the_server(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        Process(os.getpid()).require_listening(port)
        Process(os.getppid()).require_listening(port)  # a child of it does
        told = rf"--server-pid: neither process \d+ nor a child of it listens on port {port}"
        with (
            subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign,
            pytest.raises(UsageError, match=told),
        ):
            Process(foreign.pid).require_listening(port)
    with pytest.raises(UsageError, match="--server-pid"):
        Process(os.getpid()).require_listening(port)


def test_a_process_that_is_gone() -> None:
    gone = Process(GONE)
    assert gone.cpu_seconds() is None
    assert gone.usage() is None
    assert gone.descriptors() is None
    assert gone.threads() == 0
    with pytest.raises(UsageError, match="there is no process"):
        gone.require()


def test_threads_are_counted() -> None:
    ended, ourselves = threading.Event(), Process(os.getpid())
    others = [threading.Thread(target=ended.wait) for _ in range(5)]
    for other in others:
        other.start()
    assert ourselves.threads() >= 6
    ended.set()
    for other in others:
        other.join()
