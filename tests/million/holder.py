"""One process of idle WebSockets, each kept in one byte: its state, by descriptor.

Owns: their descriptors, one epoll, and what they do by themselves: handshake, join, answer pings, receive a marked
message. May not: decide when to open; it obeys the orders from its pipe, and ends when the pipe is closed.

There are no socket objects and no buffers for single connections: both would take more memory than the server does.
epoll reports each event once (EPOLLET), so that one registration serves both connecting and reading.
"""

import errno
import gc
import os
import select
import signal
import time
from collections import Counter
from enum import IntEnum
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from loadgen.net import sockets
from loadgen.net.target import PER_ADDRESS, Target
from tests.bench import wire
from tests.support.peers import upgrade

#: Connections that may be connecting or joining at once: enough to keep a server busy, few enough for its backlog.
WINDOW = 256
#: Bytes read at a time. One buffer serves all.
READ_BYTES = 1 << 16
#: Events taken at a time.
EVENTS = 512
#: First byte of a close frame.
CLOSE = 0x88

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
_SWITCHED = b"HTTP/1.1 101 "
_JOINED = b'"type":"joined"'


class Stage(IntEnum):
    FREE = 0
    CONNECTING = 1
    UPGRADING = 2
    JOINING = 3
    HELD = 4


class Status(NamedTuple):
    held: int  # joined, and not ended since
    arriving: int  # between connect and the answer to their join
    unopened: int  # asked for and not begun
    pings: int  # answered
    heard: int  # marked messages
    last_heard: float  # when, by time.monotonic
    lost: Counter[str]  # what ended those that were held or arriving, and what kept others from opening


def room_name(number: int, size: int) -> str:
    """The room of a connection. Rooms fill one after another, so that most are not told of new members."""
    return f"idle-{number // size}"


class Holder:
    def __init__(self, orders: "Connection[Any, Any]", descriptors: int) -> None:
        self._target: Target
        self._orders = orders
        self._epoll = select.epoll()
        self._stages = bytearray(descriptors)  # by descriptor
        self._arriving: dict[int, int] = {}  # descriptor: number
        self._unread: dict[int, bytes] = {}  # what is not whole yet
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._upgrade = upgrade()
        self._next = self._end = 0
        self._room_size = 1
        self._held = self._pings = self._heard = 0
        self._last_heard = 0.0
        self._mark = b""
        self._lost: Counter[str] = Counter()

    def run(self) -> None:
        """Run until the pipe ends."""
        orders = self._orders.fileno()
        self._epoll.register(orders, select.EPOLLIN)
        while True:
            for descriptor, _ in self._epoll.poll(-1, EVENTS):
                if descriptor != orders:
                    self._serve(descriptor)
                    continue
                try:
                    act, arguments = self._orders.recv()
                except EOFError:
                    return
                act(self, *arguments)
            self._open_more()

    # -- called with what comes by the pipe ---------------------------------------------------------------------------

    def open(self, target: Target, first: int, end: int, room_size: int) -> None:
        """Open the connections of these numbers, so many to a room."""
        self._target, self._next, self._end, self._room_size = target, first, end, room_size

    def stop(self) -> None:
        """Open no more."""
        self._end = self._next

    def listen(self, mark: bytes) -> None:
        """Count the messages that contain this from now on."""
        self._mark, self._heard = mark, 0

    def leave(self) -> None:
        """Ignore what comes from now on: the server is about to end."""
        self._epoll.close()
        self._epoll = select.epoll()
        self._epoll.register(self._orders.fileno(), select.EPOLLIN)

    def tell(self) -> None:
        """Send the status."""
        self._orders.send(Status(
            held=self._held, arriving=len(self._arriving), unopened=self._end - self._next, pings=self._pings,
            heard=self._heard, last_heard=self._last_heard, lost=self._lost,
        ))  # fmt: skip

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open_more(self) -> None:
        while self._next < self._end and len(self._arriving) < WINDOW:
            try:
                descriptor = sockets.connect(self._target, self._next // PER_ADDRESS)
            except OSError as error:
                self._lost[f"connect: {_name(error)}"] += self._end - self._next
                self._end = self._next
                return
            self._stages[descriptor] = Stage.CONNECTING
            self._arriving[descriptor] = self._next
            self._epoll.register(descriptor, _EVENTS)
            self._next += 1

    def _answered(self, descriptor: int, data: bytes) -> None:
        """Handle the answer to the upgrade or to the join."""
        data = self._unread.pop(descriptor, b"") + data
        if self._stages[descriptor] == Stage.UPGRADING:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._unread[descriptor] = head
                return
            if not head.startswith(_SWITCHED):
                self._lose(descriptor, f"answered {head[:12].decode(errors='replace')}")
                return
            number = self._arriving[descriptor]
            os.write(descriptor, wire.join(room_name(number, self._room_size)))
            self._stages[descriptor] = Stage.JOINING
        found, rest = wire.frames(data)
        for start, payload in found:
            if _JOINED in payload:
                del self._arriving[descriptor]
                self._stages[descriptor] = Stage.HELD
                self._held += 1
            elif start == CLOSE or b'"error"' in payload:
                self._lose(descriptor, f"refused: {payload[:120].decode(errors='replace')}")
                return
        if rest:
            self._unread[descriptor] = rest

    # -- idling -------------------------------------------------------------------------------------------------------

    def _serve(self, descriptor: int) -> None:
        stage = self._stages[descriptor]
        try:
            if stage == Stage.CONNECTING:
                os.write(descriptor, self._upgrade)
                self._stages[descriptor] = Stage.UPGRADING
                return
            count = READ_BYTES
            while count == READ_BYTES and self._stages[descriptor]:
                count = os.readv(descriptor, [self._buffer])
                if not count:
                    self._lose(descriptor, "hung up on")
                elif self._stages[descriptor] == Stage.HELD:
                    self._hear(descriptor, bytes(self._view[:count]))
                else:
                    self._answered(descriptor, bytes(self._view[:count]))
        except BlockingIOError:
            return  # not connected yet, or read before it was told
        except OSError as error:
            self._lose(descriptor, _name(error))

    def _hear(self, descriptor: int, data: bytes) -> None:
        if data == wire.EMPTY_PING and descriptor not in self._unread:
            self._pong(descriptor)
            return
        found, rest = wire.frames(self._unread.pop(descriptor, b"") + data)
        if rest:
            self._unread[descriptor] = rest
        for start, payload in found:
            if start == wire.PING:
                self._pong(descriptor)
            elif start == CLOSE:
                self._lose(descriptor, f"closed with {int.from_bytes(payload[:2], 'big')}")
                return
            elif self._mark and self._mark in payload:
                self._heard += 1
                self._last_heard = time.monotonic()

    def _pong(self, descriptor: int) -> None:
        os.write(descriptor, wire.EMPTY_PONG)
        self._pings += 1

    def _lose(self, descriptor: int, why: str) -> None:
        stage = Stage(self._stages[descriptor])
        if stage is Stage.HELD:
            self._held -= 1
        self._lost[f"{why} while {stage.name.lower()}"] += 1
        self._stages[descriptor] = Stage.FREE
        self._arriving.pop(descriptor, None)
        self._unread.pop(descriptor, None)
        os.close(descriptor)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def main(orders: "Connection[Any, Any]", others: "list[Connection[Any, Any]]", descriptors: int) -> None:
    """The main function of a forked process; `others` are pipes of other processes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are the driver's, which ends the others
    for other in others:
        other.close()
    gc.disable()
    Holder(orders, descriptors).run()
