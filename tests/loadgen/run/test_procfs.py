"""What a process costs, beside what it says of itself, and what the host took."""

import errno
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.net.target import UsageError
from loadgen.run import procfs
from loadgen.run.procfs import Process, Ticks

#: Above the largest number that Linux gives to a process.
GONE = 2**22 + 1


def test_cpu_is_to_the_microsecond() -> None:
    """By /proc/PID/stat, in ticks of 10 ms, a thousand idle connections for ten seconds were 0 or 1 tick."""
    before = time.process_time()
    measured = Process(os.getpid()).cpu_seconds()
    assert measured is not None
    assert before <= measured
    until = time.process_time() + 0.001  # `measured` has the CPU of children as well
    while time.process_time() < until:
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


def test_the_cpu_of_children_that_have_ended_is_counted() -> None:
    """Of a server that forks for each request, half of the CPU was lost, and its sign in `server_cpu_percent` too."""
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.1: pass\n"
        "    os._exit(0)\n"
        "os.wait(); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"\n"
        whole, alone = Process(parent.pid).cpu_seconds(), time.clock_gettime((~parent.pid << 3) | 2)
    assert whole is not None
    assert whole - alone > 0.06, "counted in ticks"


def test_how_the_main_thread_has_spent_its_time() -> None:
    """By this a run whose generator was too busy itself is found invalid."""
    code = "import sys, time\nwhile time.process_time() < 0.1: pass\nprint(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        share, used = Process(process.pid).share(), Process(process.pid).cpu_seconds()
    assert share is not None
    assert used is not None
    # Of a thread that still runs, the kernel tells what was so at its last tick; and `used` is counted in ticks.
    assert 0.05 < share.running < used + 0.05
    assert share.waiting >= 0


def test_every_thread_of_every_process_is_asked_how_long_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of nginx or gunicorn that others kept from the processor had no alibi, since their master was idle."""
    code = (
        "import os, sys, threading\n"
        "child = os.fork()\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "os.write(1, b'%d\\n' % child)"  # in one piece: both write
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as family:
        assert family.stdout is not None
        child = max(int(family.stdout.readline()) for _ in range(2))
        waits = Process(family.pid).waits()
        threads = {int(path.name) for pid in (family.pid, child) for path in Path(f"/proc/{pid}/task").iterdir()}
        monkeypatch.setattr(procfs, "MOST_THREADS", 2)
        assert len(Process(family.pid).waits()) == 2
    assert waits.keys() == threads
    assert len(threads) == 4
    assert all(seconds >= 0 for seconds in waits.values())
    assert max(waits.values()) > 0


def test_a_child_that_has_ended_since_it_was_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make million` met one after Ctrl-C, and ended as if connections had been lost."""
    monkeypatch.setattr(procfs, "MANY_THREADS", 10_000)  # tests before this one may have left more than 100
    monkeypatch.setattr(procfs, "_read", lambda _: str(GONE))
    assert set(Process(os.getpid()).tree()) == {os.getpid(), GONE}


def test_what_a_child_that_has_ended_used_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One child that ended between listing and reading ended the watch over the server's memory."""
    ourselves = Process(os.getpid())
    monkeypatch.setattr(ourselves, "tree", lambda: [os.getpid(), GONE])
    usage = ourselves.usage()
    assert usage is not None
    assert usage.pss_bytes > 1 << 20
    assert ourselves.resident_bytes()
    assert ourselves.descriptors()
    assert threading.get_native_id() in ourselves.waits()


def test_pages_of_files_are_not_counted() -> None:
    """A server's share of its libraries' pages grew by 3 MB when another program ended: a fault of ten idle clients."""
    with TemporaryFile(dir=Path(__file__).parent) as file:  # in /dev/shm it would be memory
        file.write(bytes(8 << 20))
        file.flush()
        before = Process(os.getpid()).usage()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped.find(b"x") == -1
            after = Process(os.getpid()).usage()
    assert before is not None
    assert after is not None
    assert after.pss_bytes - before.pss_bytes < 1 << 20


def test_a_child_that_cannot_be_read_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ourselves = Process(os.getpid())
    monkeypatch.setattr(ourselves, "tree", lambda: [os.getpid(), GONE])
    monkeypatch.setattr(procfs, "_resident", Mock(side_effect=[4096, PermissionError(errno.EACCES, "no")]))
    assert ourselves.resident_bytes() is None


def test_only_the_process_that_listens_is_the_server() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        Process(os.getpid()).require_listening(listener.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        told = rf"--server-pid: neither process \d+ nor a child of it listens on port {port}"
        start = partial(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
        with start(pass_fds=[listener.fileno()]), start() as foreign:
            listener.close()
            Process(os.getpid()).require_listening(port)  # a child of it does
            with pytest.raises(UsageError, match=told):
                Process(foreign.pid).require_listening(port)


def test_a_child_that_has_ended_hides_no_process_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was let through, as if descriptors could not be read; and of the tests' own children one ends at any time."""
    ourselves = Process(os.getpid())
    monkeypatch.setattr(ourselves, "tree", lambda: [GONE, os.getpid()])
    with pytest.raises(UsageError, match="--server-pid"):
        ourselves.require_listening(0)  # nobody can


def test_a_process_that_is_gone() -> None:
    gone = Process(GONE)
    assert gone.cpu_seconds() is None
    assert gone.usage() is None
    assert gone.descriptors() is None
    assert gone.waits() == {}
    assert gone.share() is None
    assert not gone.is_alive()
    with pytest.raises(UsageError, match="there is no process"):
        gone.require()


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert Process(process.pid).is_alive()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not Process(process.pid).is_alive()


# The machine


STAT = """\
cpu  5040214 317364 1129188 6162269 72922 0 310722 331839 4000 30
cpu0 2427131 173172 549251 3217807 14012 0 134450 163907 2000 15
cpu1 2613083 144191 579937 2944462 58909 0 176272 167932 2000 15
intr 123456 0 9 0
ctxt 987654
"""


PRESSURE = """\
some avg10=98.58 avg60=98.89 avg300=97.04 total=6116330003
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""

#: `user` and `nice` have the time of guests in them, which the last two fields tell once more.
TICKS = Ticks(
    total=5040214 + 317364 + 1129188 + 6162269 + 72922 + 0 + 310722 + 331839, stolen=331839, idle=6162269 + 72922
)


def test_what_the_kernel_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "_STAT", tmp_path / "stat")
    hidden = procfs.ticks()
    assert procfs.stolen_percent(hidden, hidden) is None, "it was a fault of the generator's own, and ended the run"
    (tmp_path / "stat").write_text(STAT)
    assert procfs.ticks() == TICKS
    monkeypatch.setattr(procfs, "_PRESSURE", tmp_path / "pressure")
    assert procfs.pressure() is None
    (tmp_path / "pressure").write_text(PRESSURE)
    assert procfs.pressure() == 6116.330003


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (Ticks(1000, 100), Ticks(1400, 110), 2.5),
        (Ticks(1000, 100), Ticks(1400, 100), 0.0),
    ],
)
def test_what_was_taken_between_two_readings(before: Ticks, after: Ticks, percent: float) -> None:
    assert procfs.stolen_percent(before, after) == percent


def test_what_programs_used_between_two_readings() -> None:
    ticks = procfs.busy_seconds(Ticks(1000, 100, 500), Ticks(1400, 110, 700))
    assert ticks == 190 / os.sysconf("SC_CLK_TCK"), "of 400, the host had 10 and nobody 200"


@given(before=st.builds(Ticks, st.integers(0, 10**9), st.integers(0, 10**9)), back=st.integers(0, 50))
def test_no_tick_in_between_is_not_measured(before: Ticks, back: int) -> None:
    """The kernel's count of waiting for discs may go back, and the whole with it."""
    assert procfs.stolen_percent(before, before._replace(total=before.total - back)) is None
