"""A server's process: started on a free port, ready when it answers, gone for sure afterwards.

Owns: the life of one server, its process group and what it printed. May not: know what it serves.
"""

import os
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

HOST: Final = "127.0.0.1"

#: Until a server answers. hypercorn with a cold disk takes three.
START_SECONDS: Final = 20.0

_LOOK_SECONDS: Final = 0.02

#: Above the ports that people choose for servers, below those that Linux (32768) and macOS (49152) give by themselves.
_FREE_PORTS: Final = range(20_000, 32_768)


class DiedError(Exception):
    """A server that did not start, or did not live; the text has the last that it printed."""


class Running:
    """A server that runs already, and is not ours to end."""

    pid: int | None = None  # not known, so its memory and CPU are not measured

    def __init__(self, url: str) -> None:
        self.url = url

    def put_down(self, reason: str) -> None:
        """Nothing."""

    def require(self) -> None:
        """Nothing: what it no longer answers, its figures say."""


class Server(Running):
    def __init__(self, child: "subprocess.Popen[bytes]", port: int, output: Path) -> None:
        super().__init__(f"http://{HOST}:{port}")
        self.port = port
        self.pid: int = child.pid  # which is also its process group
        self._child = child
        self._output = output
        self._put_down = ""

    def put_down(self, reason: str) -> None:
        """End it at once, and let `require` say why, so that its user waits no longer."""
        self._put_down = reason
        os.killpg(self.pid, signal.SIGKILL)

    def require(self) -> None:
        """Raise `DiedError` unless it runs."""
        if self._put_down:
            raise DiedError(self._put_down)
        ending = _ending(self._child)
        if ending:
            raise DiedError(f"ended with {ending}{self.last_words}")

    @property
    def last_words(self) -> str:
        """The last line that it printed, after a colon; empty if it was silent."""
        lines = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


@asynccontextmanager
async def running(
    make_command: Callable[[Path, int], Sequence[str]], *, port: int | None = None
) -> AsyncIterator[Server]:
    """Start a server in a folder of its own, which `make_command` is told with the port, and wait until it answers.

    The port is a free one unless it is given. Raises `DiedError`.
    """
    with TemporaryDirectory(prefix="loadgen-peer-") as folder:
        work, port = Path(folder), _free_port() if port is None else port
        output = work / "output.txt"
        child = _start(make_command(work, port), work, output)
        server = Server(child, port, output)
        try:
            await _answers(server)
            yield server
        finally:
            # Whatever has been measured is measured: a drain would be waited for a hundred times. The whole group,
            # also when its leader has ended: it may have left workers behind.
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
                stream = await trio.open_tcp_stream(HOST, server.port)
                await stream.aclose()
                return
            await trio.sleep(_LOOK_SECONDS)
    raise DiedError(f"did not answer in {START_SECONDS:g} s{server.last_words}")


def _ending(child: "subprocess.Popen[bytes]") -> str:
    """How it ended; empty while it runs.

    It is not reaped by that: as long as it is a zombie, its number belongs to its group and to no other process.
    """
    found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return ""
    return f"exit code {found.si_status}" if found.si_code == os.CLD_EXITED else signal.Signals(found.si_status).name


def _free_port() -> int:
    """A port that is free now, of those that no system gives by itself.

    One of its own choice would be given again before the server listens there, to somebody who connects or listens:
    and what answered would be another server.
    """
    while True:
        port = random.choice(_FREE_PORTS)  # noqa: S311  not a secret
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, port))
            return port
