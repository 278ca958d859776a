"""The other processes that write to the same log on one machine: hints for them, and turns with them.

Owns: a socket for each process and the files of their locks, in a folder that only their user may enter. May not: know
what a hint is good for.

A hint is a Unix datagram of rooms and their last offsets. To send one never blocks. What a neighbour has no room for is
kept for it, the newest offset of each room, and tried again; beyond a bound, and for a neighbour that is gone, it is
lost. Nobody relies on a hint, so what arrives need not be right either.
"""

import errno
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import trio

from chatserver.log.interface import Heard, LogOpenError
from chatserver.log.turns import FileLock

#: Bytes of a path to a socket that Linux takes, and macOS.
MAX_PATH = 103
#: Rooms in one datagram, and its bytes at most: a name has 64.
ROOMS_A_DATAGRAM, MAX_DATAGRAM = 64, 8 * 1024
#: Datagrams taken in before other tasks run; Linux queues 10 of them, or as many as /proc/sys/net/unix says.
TAKEN_AT_ONCE = 32
#: Rooms whose hints are kept for a neighbour that has no room for them. Beyond that the oldest are lost.
MAX_UNSENT = 1_000
#: Seconds until they are tried again.
RETRY = 0.003

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Annotated[int, msgspec.Meta(ge=0)]]).decode
#: What says that a neighbour has no room now.
_FULL = (errno.EAGAIN, errno.ENOBUFS)


class Neighbours:
    """Process `number` of `count`, from 0, that share a folder. `open` may block; all else is for the trio loop."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder = folder
        self._path = folder / str(number)
        # Of each of the others, what could not be sent.
        self._unsent: dict[str, dict[str, int]] = {
            str(folder / str(other)): {} for other in range(count) if other != number
        }
        self._socket: socket.socket | None = None
        self._blocked = trio.Event()
        self.garbage = 0  # datagrams that were none

    def open(self) -> None:
        """Hear from now on. Raises LogOpenError."""
        if len(os.fsencode(self._path)) > MAX_PATH:
            raise LogOpenError(f"{self._path} is too long for a socket: {MAX_PATH} bytes are the most")
        try:
            if self._folder.stat().st_mode & 0o077:
                raise LogOpenError(f"{self._folder} is open to others; it must be only its owner's (mode 0700)")
            self._path.unlink(missing_ok=True)  # of a process that had our number
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(str(self._path))
        except OSError as error:
            self.close()
            raise LogOpenError(f"cannot listen at {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Hear and tell no more. The socket's file stays: it may be that of the next process with our number."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def lock(self, name: str) -> FileLock:
        """The lock of this name, which one of us has at a time. Raises LogOpenError."""
        return FileLock(self._folder / name)

    # -- telling ------------------------------------------------------------------------------------------------------

    def tell(self, hints: Mapping[str, int]) -> None:
        """Say that we have written these, up to these offsets."""
        parts = list(_datagrams(hints))
        for path, unsent in self._unsent.items():
            if unsent:
                self._keep(unsent, hints)
                continue
            for index, (datagram, _) in enumerate(parts):
                if not self._send(path, datagram):
                    for _, kept in parts[index:]:
                        self._keep(unsent, kept)
                    break

    def _keep(self, unsent: dict[str, int], hints: Mapping[str, int]) -> None:
        for room, offset in hints.items():
            unsent[room] = max(offset, unsent.pop(room, 0))
        for room in list(islice(unsent, max(0, len(unsent) - MAX_UNSENT))):
            del unsent[room]
        self._blocked.set()

    def _send(self, path: str, datagram: bytes) -> bool:
        """False: it has no room now. A neighbour that is not there has nothing in memory that a hint is about."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(datagram, path)
        except OSError as error:
            return error.errno not in _FULL
        return True

    async def _send_again(self) -> None:
        while True:
            await self._blocked.wait()
            await trio.sleep(RETRY)
            self._blocked = trio.Event()
            for path, unsent in self._unsent.items():
                for datagram, sent in _datagrams(dict(unsent)):
                    if not self._send(path, datagram):
                        self._blocked.set()
                        break
                    for room in sent:
                        del unsent[room]

    # -- hearing ------------------------------------------------------------------------------------------------------

    async def run(self, heard: Heard) -> None:
        """Hand on what the others tell, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_again)
            while self._socket is not None:
                await trio.lowlevel.wait_readable(self._socket)
                hints = self._receive(self._socket)
                if hints:
                    try:
                        heard(hints)
                    except Exception:
                        logger.exception("a receiver of hints failed")

    def _receive(self, source: socket.socket) -> dict[str, int]:
        hints: dict[str, int] = {}
        for _ in range(TAKEN_AT_ONCE):
            try:
                datagram = source.recv(MAX_DATAGRAM)
                told = _decode(datagram)
            except BlockingIOError:
                break
            except msgspec.DecodeError:
                self.garbage += 1
                continue
            for room, offset in told.items():
                hints[room] = max(offset, hints.get(room, 0))
        return hints


def _datagrams(hints: Mapping[str, int]) -> Iterator[tuple[bytes, dict[str, int]]]:
    """Hints in as few datagrams as may be, each with what it says."""
    left = iter(hints.items())
    while part := dict(islice(left, ROOMS_A_DATAGRAM)):
        datagram = _encode(part)
        if len(datagram) <= MAX_DATAGRAM:
            yield datagram, part
