"""Planted servers: in a thread, or in a process of their own (`python -m tests.loadgen.planted`)."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.loadgen.planted_chat import Server
from tests.loadgen.plants import Plant, in_process

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


def planted_process(plant: Plant | None = None, *, watched: bool = False) -> AbstractContextManager[tuple[str, int]]:
    """Serve in a process of its own; its URL and pid."""
    return in_process("tests.loadgen.planted", fault=plant or Plant(), watched=watched)


def main() -> None:
    server = Server(Plant(**json.loads(sys.argv[1])))
    print(server.url, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
