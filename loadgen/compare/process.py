"""A server's process: started on a free port, ready when it answers, killed at the end.

Owns: the life of one server, its process group and its output. May not: know what it serves.
"""

import os
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

HOST: Final = "127.0.0.1"

#: Time for a server to start answering. hypercorn takes 3 s from a cold disk.
START_SECONDS: Final = 20.0

_LOOK_SECONDS: Final = 0.02

#: Above the ports that people choose for servers, below the ephemeral ports of Linux (32768) and macOS (49152).
_FREE_PORTS: Final = range(20_000, 32_768)


class DiedError(Exception):
    """A server did not start, or died; the text has its last line of output."""


class Running:
    """A server that we did not start, and do not end."""

    pid: int | None = None  # unknown, so its memory and CPU are not measured

    def __init__(self, url: str) -> None:
        self.url = url

    def kill(self, reason: str) -> None:
        """Do nothing."""

    def require(self) -> None:
        """Do nothing: no process of it is known."""

    @property
    def last_output(self) -> str:
        """The last line that it printed, after a colon; empty if there is none."""
        return ""


class Server(Running):
    def __init__(self, child: "subprocess.Popen[bytes]", host: str, port: int, output: Path) -> None:
        super().__init__(f"http://{host}:{port}")
        self.host, self.port = host, port
        self.pid: int = child.pid  # also its process group
        self._child = child
        self._output = output
        self._kill_reason = ""

    def kill(self, reason: str) -> None:
        """Kill the server at once, so that clients stop waiting; `require` then gives the reason."""
        self._kill_reason = reason
        os.killpg(self.pid, signal.SIGKILL)

    def require(self) -> None:
        """Raise `DiedError` unless it runs."""
        if self._kill_reason:
            raise DiedError(self._kill_reason)
        ending = _ending(self._child)
        if ending:
            raise DiedError(f"ended with {ending}{self.last_output}")

    @property
    def last_output(self) -> str:
        lines = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


@asynccontextmanager
async def running(
    make_command: Callable[[Path, int], Sequence[str]], *, host: str = HOST, port: int | None = None
) -> AsyncIterator[Server]:
    """Start a server in a folder of its own and wait until it answers; without `port`, on a free one.

    `make_command` gets the folder and the port. If `host` is a name, any of its addresses will do. Raises `DiedError`.
    """
    with ExitStack() as stack:
        port = _free_port() if port is None else port
        try:
            work = Path(stack.enter_context(TemporaryDirectory(prefix="loadgen-peer-")))
            output = work / "output.txt"
            child = _start(make_command(work, port), work, output)
        except OSError as error:  # a full disk, or a program that is not there
            raise DiedError(f"could not be started: {error}") from None
        server = Server(child, host, port, output)
        try:
            await _answers(server)
            yield server
        finally:
            # Killed, because a hundred drains would take too long. The whole group, even if its leader has ended, which
            # may have left workers behind.
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _start(command: Sequence[str], work: Path, output: Path) -> "subprocess.Popen[bytes]":
    with output.open("wb") as sink:
        return subprocess.Popen(  # noqa: S603  a command of the catalogue
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def _answers(server: Server) -> None:
    with trio.move_on_after(START_SECONDS):
        while True:
            server.require()
            with suppress(OSError):
                stream = await trio.open_tcp_stream(server.host, server.port)
                await stream.aclose()
                return
            await trio.sleep(_LOOK_SECONDS)
    raise DiedError(f"did not answer in {START_SECONDS:g} s{server.last_output}")


def _ending(child: "subprocess.Popen[bytes]") -> str:
    """Return how it ended, or an empty text while it runs.

    The child is not reaped: as long as it is a zombie, no other process or group can get its number.
    """
    found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return ""
    return f"exit code {found.si_status}" if found.si_code == os.CLD_EXITED else signal.Signals(found.si_status).name


def _free_port() -> int:
    """Return a port that is free now, and not an ephemeral one.

    The kernel may give an ephemeral port to another program before our server listens on it, and that program would
    answer.
    """
    while True:
        port = random.choice(_FREE_PORTS)  # noqa: S311  not a secret
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, port))
            return port
