"""Starts our programs as forks of a process that has imported what they need: milliseconds each, not 0.1 s of CPU.

A suite starts some hundred. Tests of the start itself must not use this (the first of tests/e2e/test_process.py,
tests/loadgen/test_cli.py and test_processes.py), nor tests that measure a process's memory, which a fork shares.

`python -m tests.support.forking DESCRIPTOR` is the process that forks, one for all workers of a run, each of which
connects to the socket at that descriptor. It ends with the last of them.
"""

from __future__ import annotations

import atexit
import gc
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import trio
from cyclopts import App, ArgumentCollection

_ROOT = Path(__file__).parents[2]
_REQUEST_BYTES = 256 * 1024
_NUMBER_BYTES = 8
#: Seconds for the process that forks to listen, and between two looks.
_START_PATIENCE, _LOOK = 30.0, 0.01


class _Start(msgspec.Struct):
    """A request to the process that forks."""

    modules: list[str]  # of the first `main` is run
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    descriptors: tuple[int, int]  # that it may have open, and to how many it may raise that


class _Process:
    """A process that runs `main` of a module.

    It is a child of the process that forked it, which tells us the exit code: `ended` is readable by then.
    """

    def __init__(self, pid: int, ended: socket.socket) -> None:
        self.pid = pid
        self.ended = ended
        self._code: int | None = None

    def _wait(self, timeout: float | None) -> int:
        if self._code is None:
            self.ended.settimeout(timeout)
            self._code = _number(self.ended)
            self.ended.close()
        return self._code

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        with suppress(BlockingIOError):
            return self._wait(0.0)
        return None

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and its exit code has not arrived
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forked(_Process):
    """The part of `subprocess.Popen` that tests use."""

    def wait(self, timeout: float | None = None) -> int:
        return self._wait(timeout)


def fork(
    module: str,
    *arguments: str,
    stdin: int,
    stdout: int,
    stderr: int = 2,
    needs: Sequence[str] = (),
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    most_descriptors: int = 0,
) -> Forked:
    """Run `main()` of a module in a process of its own, with these arguments and descriptors.

    `needs` are modules that it imports later. The limit of descriptors is the caller's, and so are folder and
    environment, unless they are given.
    """
    start = _Start(
        modules=[module, *needs],
        arguments=list(arguments),
        folder=str(folder or Path.cwd()),
        environment=dict(os.environ if environment is None else environment),
        descriptors=(most_descriptors,) * 2 if most_descriptors else resource.getrlimit(resource.RLIMIT_NOFILE),
    )
    ended, its_end = socket.socketpair()
    with its_end:
        socket.send_fds(_forker(), [msgspec.json.encode(start)], [stdin, stdout, stderr, its_end.fileno()])
    return Forked(_number(ended), ended)


class Running(_Process):
    """The part of `trio.Process` that tests use."""

    def __init__(self, forked: Forked, stdin: int, stdout: int, stderr: int) -> None:
        """The descriptors are our ends of its pipes, or negative."""
        super().__init__(forked.pid, forked.ended)
        self.stdin, self.stdout, self.stderr = (
            trio.lowlevel.FdStream(end) if end >= 0 else None for end in (stdin, stdout, stderr)
        )
        self._waiting = trio.Lock()  # only one task may wait for a socket

    async def wait(self) -> int:
        async with self._waiting:
            if self.returncode is None:
                await trio.lowlevel.wait_readable(self.ended)
        return self._wait(None)


async def run(
    module: str,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    needs: Sequence[str] = (),
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    most_descriptors: int = 0,
) -> Running:
    """`fork` from a coroutine; descriptors, PIPE and DEVNULL are as `subprocess` has them."""
    theirs, ours = [], []
    with ExitStack() as stack:
        for number, wanted in enumerate((stdin, stdout, stderr)):
            its_end, our_end = wanted, -1
            if wanted == subprocess.PIPE:
                reading, writing = os.pipe()
                its_end, our_end = (writing, reading) if number else (reading, writing)
            elif wanted == subprocess.DEVNULL:
                its_end = os.open(os.devnull, os.O_RDWR)
            if its_end != wanted:
                stack.callback(os.close, its_end)
            theirs.append(its_end)
            ours.append(our_end)
        its_stdin, its_stdout, its_stderr = theirs
        start = partial(
            fork, module, *arguments, stdin=its_stdin, stdout=its_stdout, stderr=its_stderr, needs=needs,
            folder=folder, environment=environment, most_descriptors=most_descriptors,
        )  # fmt: skip
        forked = await trio.to_thread.run_sync(start)  # the first one waits for all imports
    return Running(forked, *ours)


def _number(told: socket.socket) -> int:
    data = told.recv(_NUMBER_BYTES)
    assert data, "the process that forks has ended; what it said is above"
    return int.from_bytes(data, "big", signed=True)


def _tell(whom: socket.socket, number: int) -> None:
    with suppress(OSError):  # no reader is left
        whom.send(number.to_bytes(_NUMBER_BYTES, "big", signed=True))


@cache
def _forker() -> socket.socket:
    """The connection for requests to the process that forks, which the first worker of a run starts."""
    address = f"\0{__name__}-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        try:
            listening.bind(address)
        except OSError:  # another worker has started it
            pass
        else:
            listening.listen()
            command = [sys.executable, "-m", __name__, str(listening.fileno())]
            forker = subprocess.Popen(
                command, cwd=_ROOT, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            atexit.register(forker.wait)
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    atexit.register(ours.close)  # before the wait: the last that is registered is the first
    give_up = time.monotonic() + _START_PATIENCE
    while ours.connect_ex(address) and time.monotonic() < give_up:  # between `bind` and `listen`
        time.sleep(_LOOK)
    return ours


# -- in the process that forks ----------------------------------------------------------------------------------------


def _serve(listening: socket.socket) -> None:
    """Fork on request, and report each process's number and exit code, until the last connection is closed."""
    one_ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    waiting: dict[int, socket.socket] = {}
    connected = [listening.accept()[0]]
    while connected:
        ready, _, _ = select.select([listening, one_ended, *connected], [], [])
        if one_ended in ready:
            one_ended.recv(_REQUEST_BYTES)
            _bury(waiting)
        if listening in ready:
            connected.append(listening.accept()[0])
        for asked in set(connected).intersection(ready):
            request, descriptors = b"", list[int]()
            with suppress(ConnectionResetError):
                request, descriptors, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, 4)
            if not request:
                connected.remove(asked)
                asked.close()
                continue
            pid = _fork(msgspec.json.decode(request, type=_Start), descriptors[:3])
            waiting[pid] = socket.socket(fileno=descriptors[3])
            _tell(waiting[pid], pid)


def _bury(waiting: dict[int, socket.socket]) -> None:
    for pid in list(waiting):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with waiting.pop(pid) as told:
                _tell(told, os.waitstatus_to_exitcode(status))


@cache
def _prepare_servers() -> None:
    """Work out the flags of `serve` and compress the page before the first fork: half of what each server costs.

    A process parses its command line once, so it may use up what was worked out.
    """
    from chatserver.api.static import StaticFiles
    from chatserver.cli import app

    StaticFiles()
    serve = app["serve"]
    flags, usual = serve.assemble_argument_collection(), App.assemble_argument_collection

    def assemble(command: App, **options: Any) -> ArgumentCollection:
        return flags if command is serve and not options else usual(command, **options)

    mock.patch.object(App, "assemble_argument_collection", assemble).start()


def _fork(start: _Start, descriptors: list[int]) -> int:
    for name in start.modules:
        import_module(name)
    if "chatserver.server" in start.modules:
        _prepare_servers()
    gc.freeze()  # a collection would copy the pages of everything that was imported
    pid = os.fork()
    if pid == 0:
        _become(start, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _become(start: _Start, descriptors: list[int]) -> None:
    """Set up the new process, run it, and exit."""
    code: object = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in sorted(map(int, os.listdir("/dev/fd")))[3:]:  # noqa: PTH208  only the names
            with suppress(OSError):  # the one of the list itself
                os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, start.descriptors)
        os.chdir(start.folder)
        os.environ.clear()
        os.environ.update(start.environment)
        time.tzset()
        # The stream of the process that forks was opened on another output, perhaps with PYTHONUNBUFFERED.
        sys.stdout = open(1, "w", encoding=sys.stdout.encoding, closefd=False)  # noqa: SIM115
        module = start.modules[0]
        sys.argv = [module, *start.arguments]
        code = import_module(module).main() or 0
    except SystemExit as exited:
        code = exited.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  an interpreter of its own would print it and end as well
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except ValueError:  # the process has closed it
                pass
            except OSError:  # the reader has closed: an interpreter says so, and has this exit code
                print("cannot flush a standard stream", file=sys.stderr)
                code = 120
        os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    # A terminal sends Ctrl-C to the whole group, but only the requesting process decides about the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        _serve(listening)


if __name__ == "__main__":
    main()
