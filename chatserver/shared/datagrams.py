"""Messages between the workers of one machine without shards: Unix datagrams.

Owns: a socket for each worker, in the folder that the supervisor made for them. May not: know the content, or wait.

A message may be lost, as with shards: a worker that is busy or gone does not hold up another.
"""

import socket
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import trio

#: Bytes of one message; one with 100 people has 5 KB.
MAX_MESSAGE = 128 * 1024
#: The send buffer in bytes, which bounds the messages that wait at all other workers. Linux's default of 208 KiB holds
#: 13 messages of 10 KB; its default maximum (net.core.wmem_max, which the kernel doubles) holds 52 of 5 KB.
SEND_BUFFER = 1 << 20
#: Messages that are taken from the kernel, which queues 10 on Linux, and wait for their turn: other tasks run between
#: two of them, since one may take 0.5 ms.
MAX_WAITING = 64


class Datagrams:
    """The socket of worker `number` of `count`, from 0. `run` receives, `tell` sends."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._path = folder / f"said-{number}"
        self._others = [str(folder / f"said-{other}") for other in range(count) if other != number]
        self._socket: socket.socket | None = None

    def tell(self, message: bytes) -> None:
        """Send a message to all other workers, without waiting."""
        if self._socket is None:
            return
        for path in self._others:
            try:
                self._socket.sendto(message, path)
            except OSError:
                continue  # the worker is gone, or its queue is full: it will ask for what it lacks; or ours is closed

    async def run(self, on_message: Callable[[bytes], None]) -> None:
        """Call `on_message` with each message that arrives, until cancelled. Raises OSError if there is no socket."""
        self._path.unlink(missing_ok=True)  # left by an earlier process with our number
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as bound:
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            bound.bind(str(self._path))
            self._socket = bound
            waiting = deque[bytes]()
            while True:
                if waiting:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(bound)
                with suppress(BlockingIOError):
                    while len(waiting) < MAX_WAITING:
                        waiting.append(bound.recv(MAX_MESSAGE))
                if waiting:
                    on_message(waiting.popleft())
