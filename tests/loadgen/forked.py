"""loadgen's workers as forks of one process that has imported everything: a start costs milliseconds, not 0.2 s of CPU.

A run starts two workers and the tests play some 150 runs. How the program itself starts them is `test_processes.py`'s
and `test_cli.py`'s, where nothing is forked.

`python -m tests.loadgen.forked DESCRIPTOR` is that process. It ends when the test process does, which holds the other
end of its socket.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

import trio

from loadgen import worker

_REQUEST_BYTES = 8192

#: Workers that were forked and not yet waited for, by what they play.
playing: dict[str, set[int]] = {"crowd": set(), "victims": set()}


class Forked:
    """What `loadgen.workers` needs of a `trio.Process`.

    The worker is a child of the process that forked it. It holds a socket of which we have the other end: that one is
    at its end when the worker is, however it ended.
    """

    def __init__(self, part: str, pid: int, life: trio.SocketStream, given: int, told: int) -> None:
        self.pid = pid
        self.stdin = trio.lowlevel.FdStream(given)
        self.stdout = trio.lowlevel.FdStream(told)
        self.returncode: int | None = None
        self._part = part
        self._life = life
        playing[part].add(pid)

    async def wait(self) -> int:
        """Wait for its end."""
        await self._life.receive_some(1)
        self.returncode = 0
        playing[self._part].discard(self.pid)
        await self._life.aclose()
        return 0

    def kill(self) -> None:
        """End it at once."""
        playing[self._part].discard(self.pid)
        os.kill(self.pid, signal.SIGKILL)


async def start(part: str) -> Forked:
    """As `loadgen.workers.start`."""
    life, its_life = socket.socketpair()
    (its_input, given), (told, its_output) = os.pipe(), os.pipe()
    asked = {"part": part, "folder": str(Path.cwd()), "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
    its_own = [its_input, its_output, 2, its_life.fileno()]
    socket.send_fds(_forker(), [json.dumps(asked).encode()], its_own)
    os.close(its_input)
    os.close(its_output)
    its_life.close()
    pid = int.from_bytes(life.recv(4), "big")
    assert pid, "it could not be forked; what was said is above"
    return Forked(part, pid, trio.SocketStream(trio.socket.from_stdlib_socket(life)), given, told)


@cache
def _forker() -> socket.socket:
    """Start the process that forks, once; the socket on which it is asked."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", __name__, str(its.fileno())]
    with its:
        forker = subprocess.Popen(command, cwd=Path(__file__).parents[2], pass_fds=[its.fileno()])

    def end() -> None:
        ours.close()
        forker.wait()

    atexit.register(end)
    return ours


def _serve(asked: socket.socket) -> None:
    """Fork a worker for each request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets workers that ended
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            asked.close()
            _become(json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(asked: dict[str, object], given: int, told: int, complaints: int, life: int) -> None:
    """Be a worker that has just been started, and end."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, descriptor in enumerate((given, told, complaints)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(str(asked["descriptors"])), hard))
        os.chdir(str(asked["folder"]))
        os.write(life, os.getpid().to_bytes(4, "big"))
        sys.argv = ["loadgen.worker", str(asked["part"])]
        worker.main()
        code = 0
    except BaseException:  # noqa: BLE001  an interpreter of its own would print it and end as well
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    from loadgen.crowd import Crowd  # noqa: F401
    from loadgen.victims.runner import ProbeRunner  # noqa: F401

    # A terminal sends Ctrl-C to the whole group: the test process says when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as asked, suppress(ConnectionResetError):
        _serve(asked)


if __name__ == "__main__":
    main()
