"""Instructions of the server for one operation, in user space, against a bare h11 cycle's.

How: the server and the bare cycle run under valgrind's callgrind, which counts and does not time, so a busy machine
changes little: a change of a few percent is seen in one run, where CPU needs five pairs and a quiet machine. Counters
are read before and after connects with handshake and join, publishes, edits and reactions, `AT_ONCE` at a time.
What would fool it: instructions are not time (a system call is one, a cache miss none), so a gain must show in
`handshakes` or `publish` as well. How many operations share a commit depends on what else the machine does, and a slow
run has more presence notices, to all who have connected: a busy machine makes connects look dearer.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import wire
from tests.bench.clients import HELLO, Client, Crowd, Step, hear, joins
from tests.bench.figures import TIMES, Result, Scale, at_most
from tests.bench.processes import Process, chatserver, peer
from tests.bench.publish import GUEST, bare_cycles
from tests.bench.publishers import Changer, Poster, Publisher, publishing
from tests.support.peers import upgrade

#: Bounds a tenth above what was counted on 2026-11-25 with CPython 3.11, aims a tenth below.
FIGURES = {
    name: at_most(f"{name}: instructions, of a bare h11 cycle's", TIMES, bound=bound, aim=aim)
    for name, bound, aim in (
        ("connect, handshake and join", 1.8, 1.5),
        ("durable publish over WebSocket", 1.0, 0.8),
        ("edit over WebSocket", 2.0, 1.6),
        ("reaction over WebSocket", 1.5, 1.2),
        ("durable publish over HTTP", 1.8, 1.5),
    )
}
#: Operations that are counted, and clients that do them at the same time.
OPERATIONS, AT_ONCE = 1_000, 16
#: Seconds for one answer under valgrind.
PATIENCE = 120.0
POST = wire.post_message("bench", wire.TEXT)
_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class Counted:
    """Counts the instructions of processes that run `under` valgrind, which writes files into a folder."""

    def __init__(self, folder: str) -> None:
        self._out = Path(folder, "counts")
        # Where valgrind listens for `callgrind_control`. By default in TMPDIR, which is another folder for the process.
        self._pipes = f"--vgdb-prefix={folder}/vgdb"
        self.under = ("valgrind", "--quiet", "--tool=callgrind", self._pipes, f"--callgrind-out-file={self._out}.%p")

    def count(self, process: Process, work: Callable[[], int]) -> float:
        """The instructions of one operation; `work` does some and returns how many."""
        self._read(process)
        done = work()
        return self._read(process) / done

    def _read(self, process: Process) -> int:
        dump = ["callgrind_control", self._pipes, "--dump", str(process.pid)]
        subprocess.run(dump, check=True, capture_output=True, timeout=PATIENCE)
        newest = max(self._out.parent.glob(f"counts.{process.pid}.*"), key=lambda path: int(path.suffix[1:]))
        return int(_TOTAL.findall(newest.read_text())[-1])


def run(scale: Scale) -> Iterator[Result]:
    if shutil.which("valgrind") is None:
        print("  instructions: not counted, since valgrind is not installed", file=sys.stderr)
        return
    operations = scale.of(OPERATIONS, 30)
    with TemporaryDirectory(prefix="chatserver-bench-") as folder:
        counted = Counted(folder)
        with peer("bare_h11", under=counted.under) as other:
            cycle = partial(bare_cycles, other, operations, POST)
            cycle()
            bare = counted.count(other, cycle)
        with chatserver("--ping-interval", "3600", under=counted.under) as server, Crowd(server.address) as crowd:
            for name, work in _works(crowd, operations):
                used = counted.count(server, work)
                details = f"{used:,.0f} against {bare:,.0f} instructions"
                yield Result(figure=FIGURES[name], samples=[used / bare], details=details)


def _works(crowd: Crowd, operations: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """The operations that are counted, each after a warm-up."""
    hello = Step(upgrade(headers=GUEST), b'"hello"')

    def connect() -> int:
        return len(crowd.open(operations, [HELLO, joins("crowd")], hear, window=AT_ONCE))

    connect()
    yield "connect, handshake and join", connect
    publisher = Publisher(wire.publish("bench", wire.TEXT))
    publishers = crowd.open(AT_ONCE, [hello], publisher)
    _do(crowd, publisher, publishers, operations)
    yield "durable publish over WebSocket", partial(_do, crowd, publisher, publishers, operations)
    for kind, name in (("edit", "edit over WebSocket"), ("react", "reaction over WebSocket")):
        changer = Changer(kind, operations)
        changers = crowd.open(AT_ONCE, [hello], changer)
        _do(crowd, changer, changers, AT_ONCE)
        yield name, partial(_do, crowd, changer, changers, operations)
    poster = Poster(POST)
    posters = crowd.open(AT_ONCE, [], poster)
    _do(crowd, poster, posters, AT_ONCE)
    yield "durable publish over HTTP", partial(_do, crowd, poster, posters, operations)


def _do(crowd: Crowd, publisher: Publisher, clients: list[Client], count: int) -> int:
    """At least so many operations, of which each client has one under way. Returns how many."""
    before = publisher.acknowledged
    with publishing(crowd, publisher, clients, patience=PATIENCE):
        while publisher.acknowledged < before + count:
            if not crowd.turn(PATIENCE):
                raise TimeoutError("no answer")
    return publisher.acknowledged - before
