"""Starts the server and its peers, each in a process of its own, and ends them.

Each listens on a free port of the loopback and prints it in its first line. May not: measure.
"""

import gc
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.run import procfs
from tests.bench.gauges import Address

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for which a process may print nothing when it should, and may take to end.
PATIENCE, GRACE = 300.0, 15.0
_LIFTED = [
    word
    for flag in ("--per-ip", "--publish-rate", "--search-rate", "--message-rate", "--request-rate")
    for word in (flag, "0")
]
_SERVE = "import sys; from chatserver.__main__ import main; sys.argv[1:1] = ['serve']; main()"


def prepare() -> None:
    """Make this process one that measures, with as many descriptors as it may have."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as after Ctrl-C, all context managers exit
    gc.disable()  # a collection of thousands of clients would look like a pause of the server
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True, slots=True)
class Process:
    """A process that serves at an address."""

    child: "subprocess.Popen[bytes]"
    address: Address

    @property
    def pid(self) -> int:
        return self.child.pid

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.child.stdin is not None
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()

    def hear(self) -> str:
        """Wait for a line of its standard output. Raises TimeoutError."""
        assert self.child.stdout is not None
        if not select.select([self.child.stdout], [], [], PATIENCE)[0]:
            raise TimeoutError(f"{self.child.args!r} has printed nothing for {PATIENCE:g} s")
        return self.child.stdout.readline().decode().strip()

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        used = procfs.Process(self.pid).cpu_seconds()
        assert used is not None
        return used

    def memory(self) -> int:
        """Bytes of Pss now."""
        used = procfs.Process(self.pid).usage()
        assert used is not None
        return used.pss_bytes


@contextmanager
def chatserver(*flags: str, log: str | None = None, under: Sequence[str] = ()) -> Iterator[Process]:
    """Our server on a fresh SQLite file, without the limits that a single loopback client would exceed.

    `under` is a command that runs it, such as a profiler.
    """
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        lifted = ["--port", "0", *_LIFTED, "--quiet", "--log", log or f"sqlite:{folder}/log.db"]
        with running([*under, sys.executable, "-c", _SERVE, *lifted, *flags], Path(folder)) as process:
            yield process


@contextmanager
def peer(name: str, *arguments: str, under: Sequence[str] = ()) -> Iterator[Process]:
    """A program of `tests.bench.peers`."""
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        command = [*under, sys.executable, "-m", f"tests.bench.peers.{name}", *arguments]
        with running(command, Path(folder)) as process:
            yield process


@contextmanager
def running(command: Sequence[str], folder: Path) -> Iterator[Process]:
    """A program that says where it listens; what it leaves in the folder is the caller's to remove."""
    errors = folder / "stderr"
    with errors.open("wb") as sink:
        # In its own process group: Ctrl-C on the terminal goes to the bench alone, which then ends this process.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, cwd=ROOT, process_group=0,
            env=os.environ | {"TMPDIR": str(folder)},  # what it leaves there goes with the folder
        )  # fmt: skip
    process = Process(child, ("", 0))
    try:
        line = process.hear()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{command[-1]} did not start: {errors.read_text()[-2000:]}")
        host, _, port = line.rpartition("/")[2].rpartition(":")
        yield Process(child, (host, int(port)))
    finally:
        _end(child)
        complaints = errors.read_text().strip()
        if complaints:
            print(f"  stderr: {complaints[-600:]}", file=sys.stderr)


def _end(child: "subprocess.Popen[bytes]") -> None:
    # Two signals end the drain, in which the bench's clients take no part.
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(0.5)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
