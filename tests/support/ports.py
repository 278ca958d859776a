"""Ports for servers that start again at the same address.

Owns: the choice of a port that no other program takes meanwhile. May not: reserve it; it is free until the server
listens.
"""

import random
import socket
from pathlib import Path

from tests.support.side_by_side import worker

#: The file in which Linux gives the ports of outgoing connections, and the first of them without that file.
_RANGE, _FIRST = Path("/proc/sys/net/ipv4/ip_local_port_range"), 49_152
#: The lowest that is used: below it people run servers on fixed ports.
_LEAST = 10_000
#: Own generator: Hypothesis gives the global one the same seed in each worker.
_dice = random.SystemRandom()
_given: set[int] = set()


def steady_port() -> int:
    """A free port that no outgoing connection is given: while its server is down, other tests connect by thousands.

    A port that the system had chosen was taken by one of these connections, and the server could not come back. Nor is
    it given to two: each worker of a run has ports of its own, and gives none of them twice.
    """
    number, workers = worker()
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _FIRST
    while True:
        port = _dice.randrange(_LEAST + number, max(first, _LEAST + 1_000), workers)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
