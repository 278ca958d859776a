"""Planted servers: in a thread, or in a process of their own (`python -m tests.loadgen.planted`)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.loadgen.planted_chat import Server
from tests.loadgen.plants import Plant

__all__ = ["Plant", "Server", "planted", "planted_process"]


@contextmanager
def planted(plant: Plant | None = None, *, host: str = "127.0.0.1") -> Iterator[Server]:
    """Serve in a thread; the server's counters may be read afterwards."""
    server = Server(plant or Plant(), host)
    thread = threading.Thread(target=server.serve, name="planted")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
        server.close()


@contextmanager
def planted_process(plant: Plant | None = None) -> Iterator[tuple[str, int]]:
    """Serve in a process of its own, whose memory can be told from ours; its URL and pid."""
    command = [sys.executable, "-m", "tests.loadgen.planted", json.dumps(asdict(plant or Plant()))]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def main() -> None:
    server = Server(Plant(**json.loads(sys.argv[1])))
    print(server.url, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
