"""The other processes that write to the same log on one machine: hints to them, and locks shared with them.

Owns: a socket for each process and the lock files, in a folder that only their user may enter. May not: know what a
hint is used for.

A hint is a Unix datagram of rooms and their last offsets; sending never blocks. While a neighbour's queue is full, the
newest offset of each room is kept for it, up to a bound. Hints beyond it, or for a neighbour that is gone, are lost.
"""

import errno
import socket
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import trio

from chatserver.log.file_lock import FileLock
from chatserver.log.interface import LogOpenError
from chatserver.log.program import OnHints

#: Rooms in one datagram, and its bytes at most; the name of a room has up to 64.
ROOMS_PER_DATAGRAM, MAX_DATAGRAM = 64, 8 * 1024
#: Datagrams received before other tasks run; Linux queues 10, or as many as /proc/sys/net/unix/max_dgram_qlen says.
RECEIVE_BATCH = 32
#: Rooms whose hints are kept for a neighbour with a full queue. Beyond that the oldest are lost.
MAX_UNSENT = 1_000
#: Seconds until kept hints are sent again.
RETRY = 0.003

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Annotated[int, msgspec.Meta(ge=0)]]).decode
#: Errors that mean that a neighbour's queue is full.
_FULL = (errno.EAGAIN, errno.ENOBUFS)


class Neighbours:
    """Process `number`, from 0, of `count` that share a folder. `open` may block; all else is for the trio loop."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder = folder
        self._path = folder / str(number)
        # For the path of each neighbour, the hints that could not be sent.
        self._unsent: dict[str, dict[str, int]] = {
            str(folder / str(other)): {} for other in range(count) if other != number
        }
        self._socket: socket.socket | None = None
        self._blocked = trio.Event()

    def open(self) -> None:
        """Bind the socket, so that hints arrive from now on. Raises LogOpenError."""
        try:
            self._path.unlink(missing_ok=True)  # left by an earlier process with our number
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(str(self._path))
        except OSError as error:
            self.close()
            raise LogOpenError(f"cannot listen at {self._path}: {error}") from error

    def close(self) -> None:
        """Stop sending and receiving. The socket's file stays: the next process with our number may have made it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def lock(self, name: str) -> FileLock:
        """The lock of this name, held by one of the processes at a time. Raises LogOpenError."""
        return FileLock(self._folder / name)

    def tell(self, hints: Mapping[str, int]) -> None:
        """Send the rooms that this process has written, with their last offsets, to all neighbours."""
        for path, unsent in self._unsent.items():
            is_blocked = bool(unsent)
            for room, offset in hints.items():
                unsent[room] = max(offset, unsent.pop(room, 0))
            for room in list(islice(unsent, max(0, len(unsent) - MAX_UNSENT))):
                del unsent[room]
            if not is_blocked:
                self._send(path)

    def _send(self, path: str) -> None:
        """Send a neighbour its hints. If its queue is full they are kept; a neighbour that is gone needs none."""
        unsent = self._unsent[path]
        for datagram, sent in _datagrams(dict(unsent)):
            if self._socket is not None:
                try:
                    self._socket.sendto(datagram, path)
                except OSError as error:
                    if error.errno in _FULL:
                        self._blocked.set()
                        return
            for room in sent:
                del unsent[room]

    async def _send_again(self) -> None:
        while True:
            await self._blocked.wait()
            await trio.sleep(RETRY)
            self._blocked = trio.Event()
            for path in self._unsent:
                self._send(path)

    async def run(self, on_hints: OnHints) -> None:
        """Call `on_hints` with the hints that arrive, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_again)
            while self._socket is not None:
                await trio.lowlevel.wait_readable(self._socket)
                on_hints(self._receive(self._socket))

    def _receive(self, source: socket.socket) -> dict[str, int]:
        hints: dict[str, int] = {}
        for _ in range(RECEIVE_BATCH):
            try:
                datagram = source.recv(MAX_DATAGRAM)
                received = _decode(datagram)
            except OSError:  # there is no more, or no memory to receive it
                break
            except ValueError:
                continue  # it is no hint
            for room, offset in received.items():
                hints[room] = max(offset, hints.get(room, 0))
        return hints


def _datagrams(hints: Mapping[str, int]) -> Iterator[tuple[bytes, dict[str, int]]]:
    """Hints in as few datagrams as possible, each with the hints in it."""
    left = iter(hints.items())
    while part := dict(islice(left, ROOMS_PER_DATAGRAM)):
        yield _encode(part), part
