"""What carries messages between the workers of one machine where there are no shards: Unix datagrams.

Owns: a socket for each worker, in the folder that the supervisor made for them. May not: know what is said, or wait.

A message may be lost, as those of shards may be: a worker that is busy or gone does not hold up another.
"""

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import trio

#: Bytes of one message; one with 100 people has 5 KB.
MAX_MESSAGE = 128 * 1024
#: Bytes that may wait in all others, before the kernel doubles it: 13 messages of 10 KB in Linux's 208 KiB. It allows
#: twice that by default (net.core.wmem_max), where a process has 52 others.
SEND_BUFFER = 1 << 20
#: Messages taken in before other tasks run.
TAKEN_AT_ONCE = 16


class Datagrams:
    """Worker `number` of `count`, from 0. `run` hears; `tell` is a `Carrier`'s."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._path = folder / f"said-{number}"
        self._others = [str(folder / f"said-{other}") for other in range(count) if other != number]
        self._socket: socket.socket | None = None
        self.heard: Callable[[bytes], None] = lambda message: None

    def tell(self, message: bytes) -> None:
        """Send one to all others, and do not wait."""
        if self._socket is None:
            return
        for path in self._others:
            try:
                self._socket.sendto(message, path)
            except OSError:
                continue  # nobody is there, or it has too much to read: it asks for what it lacks

    async def run(self) -> None:
        """Hear until cancelled. Raises OSError when there can be no socket."""
        self._path.unlink(missing_ok=True)  # of a process that had our number
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as bound:
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            bound.bind(str(self._path))
            self._socket = bound
            try:
                while True:
                    await trio.lowlevel.wait_readable(bound)
                    self._take(bound)
            finally:
                self._socket = None

    def _take(self, bound: socket.socket) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                message = bound.recv(MAX_MESSAGE)
            except BlockingIOError:
                return
            self.heard(message)
