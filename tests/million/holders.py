"""All client processes, as the driver sees them.

Owns: their start, their end and their orders. May not: know a single connection.

They are forked before anything else is open, from a program that has already imported what they need. They share its
pages, so each costs only some MB.
"""

import gc
import multiprocessing
import resource
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Self

from loadgen.net.target import Target
from tests.million import holder
from tests.million.holder import Holder, Status

#: Seconds that one may take to answer.
PATIENCE = 60.0


class HolderDiedError(Exception):
    """A process of clients has ended, or does not answer."""


class Holders:
    """`count` processes, of which each holds the connections of `each` numbers."""

    def __init__(self, count: int, each: int) -> None:
        self._each = each
        self._pipes: list[Connection[Any, Any]] = []
        self._processes: list[BaseProcess] = []
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        context = multiprocessing.get_context("fork")
        gc.freeze()
        for _ in range(count):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            process = context.Process(target=holder.main, args=(theirs, list(self._pipes), descriptors), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid is not None]

    def open(self, target: Target, first: int, end: int, room_size: int) -> int:
        """Let one process open as many of these numbers as it may hold; the first number that is left."""
        place = first // self._each
        end = min(end, (place + 1) * self._each)
        self._order(place, Holder.open, target, first, end, room_size)
        return end

    def stop(self) -> None:
        self._order_all(Holder.stop)

    def listen(self, mark: bytes) -> None:
        """Count the messages that contain this from now on."""
        self._order_all(Holder.listen, mark)
        self.status()

    def leave(self) -> None:
        """Ignore what comes from now on."""
        self._order_all(Holder.leave)

    def status(self) -> Status:
        """The sum of all statuses."""
        self._order_all(Holder.tell)
        told = [self._answer(place) for place in range(len(self._pipes))]
        return Status(
            held=sum(status.held for status in told),
            arriving=sum(status.arriving for status in told),
            unopened=sum(status.unopened for status in told),
            pings=sum(status.pings for status in told),
            heard=sum(status.heard for status in told),
            last_heard=max(status.last_heard for status in told),
            lost=sum((status.lost for status in told), Counter()),
        )

    def _order_all(self, act: Callable[..., None], *arguments: object) -> None:
        for place in range(len(self._pipes)):
            self._order(place, act, *arguments)

    def _order(self, place: int, act: Callable[..., None], *arguments: object) -> None:
        """Have one process call this method of its `Holder`."""
        try:
            self._pipes[place].send((act, arguments))
        except OSError as error:
            raise HolderDiedError(f"process {place + 1} of the clients is gone") from error

    def _answer(self, place: int) -> Status:
        pipe = self._pipes[place]
        try:
            if pipe.poll(PATIENCE):
                status: Status = pipe.recv()
                return status
        except (EOFError, OSError) as error:
            raise HolderDiedError(f"process {place + 1} of the clients is gone") from error
        raise HolderDiedError(f"process {place + 1} of the clients has not answered for {PATIENCE:g} s")
