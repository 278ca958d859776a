"""The main process's side of its workers, which are child processes.

Owns: starting and ending them, the pipes, and merging their results. May not: know what a scenario is.
"""

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import reduce
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeAlias

import msgspec
import trio

from loadgen.clients.messages import Result, Role, Status, encode, merged, merged_groups, messages_in
from loadgen.report.latency import Recent
from loadgen.run.crowd import Crowd
from loadgen.run.experiment import Group
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Process
from loadgen.run.worker import Part

#: Time for a worker to start or to answer, and to end. Generous, because a machine under attack is slow.
ANSWER_SECONDS: Final = 60.0
LEAVE_SECONDS: Final = 10.0

PartName: TypeAlias = Literal["crowd", "victims"]

P = ParamSpec("P")


class WorkerError(InvalidRunError):
    """A process of the generator's own ended, or does not answer, which is not the target's doing."""


_NOT_STARTED: Final = "a process of the generator could not start; its output is above"
_SILENT: Final = "a process of the generator's own does not answer"
_DIED: Final = "a process of the generator died; its output is above"


class Worker:
    def __init__(self, process: trio.Process) -> None:
        self.watched = Process(process.pid)
        self.status: Status | None = None
        self.recent = Recent()
        self.ended = False
        self._process = process
        self._sent = 0
        self._finished, self._results = trio.open_memory_channel[Result](1)

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        assert self._process.stdout is not None
        async with self._finished, aclosing(messages_in(self._process.stdout)) as received:
            async for message in received:
                if isinstance(message, Result):
                    await self._finished.send(message)
                    continue
                self.recent.merge(message.recent)
                if self.status is None:
                    task_status.started()
                self.status = message
        self.ended = True
        if self.status is None:
            raise WorkerError(_NOT_STARTED)

    async def call(
        self, method: Callable[Concatenate[Any, P], object], *arguments: P.args, **keywords: P.kwargs
    ) -> None:
        """Call a method of what the worker plays. It makes the calls in sequence, and no value is returned."""
        assert self._process.stdin is not None
        self._sent += 1
        try:
            await self._process.stdin.send_all(encode((method.__name__, arguments, keywords)))
        except trio.BrokenResourceError:
            raise WorkerError(_DIED) from None

    @property
    def current(self) -> Status:
        """The latest status, which may be from before the last call."""
        if self.ended:
            raise WorkerError(_DIED)
        assert self.status is not None, "a worker is spawned when its first status has come"
        return self.status

    @property
    def up_to_date(self) -> bool:
        """Whether its status is from after our last call."""
        return self.current.calls >= self._sent

    async def send_result(self) -> Result:
        """Ask for the result; the caller puts a timeout on it."""
        await self.call(Part.result)
        try:
            return await self._results.receive()
        except trio.EndOfChannel:
            raise WorkerError(_DIED) from None

    async def leave(self) -> None:
        assert self._process.stdin is not None
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            await self._process.stdin.aclose()
            await self._process.wait()
            return
        self._process.kill()
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            await self._process.wait()


async def start(part: PartName) -> trio.Process:
    """Start a process that plays this part; it shares our standard error.

    It is in a process group of its own, so that Ctrl-C does not end it while it starts.
    """
    # With the import path of this one, and not the current folder (-P), whose modules may have the names of ours.
    command = [sys.executable, "-P", "-m", "loadgen.run.worker", part]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await trio.lowlevel.open_process(command, stdin=-1, stdout=-1, process_group=0, env=environment)


async def spawn(nursery: trio.Nursery, part: PartName, role: Role) -> Worker:
    process = await start(part)
    assert process.stdin is not None
    worker = Worker(process)
    try:
        await process.stdin.send_all(encode(role))
        with trio.fail_after(ANSWER_SECONDS):
            await nursery.start(worker.listen)
    except trio.BrokenResourceError:  # it ended before it read its role
        raise WorkerError(_NOT_STARTED) from None
    except trio.TooSlowError:
        raise WorkerError(_SILENT) from None
    finally:
        if worker.status is None:  # nobody else will end it
            await worker.leave()
    return worker


def merge(results: Iterable[Result]) -> Result:
    whole = reduce(merged, results, Result())
    return msgspec.structs.replace(whole, groups=merged_groups(whole.groups))


class Workers:
    """The crowd, in one process or several."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self.attacker_addresses = 0
        self._next_index = 0

    async def make(self, group: Group) -> None:
        """Make a group's clients, spread evenly over the processes."""
        number = len(self.workers)
        for place, worker in enumerate(self.workers):
            # the remainders of different personas go to different workers
            share = {
                persona.name: count // number + ((place + offset) % number < count % number)
                for offset, (persona, count) in enumerate(group.counts.items())
            }
            counts = {name: count for name, count in share.items() if count}
            # by name, because a class of a --persona file cannot be pickled
            await worker.call(Crowd.make, replace(group, counts={}), counts, self._next_index)
            self._next_index += sum(share.values())
            self.attacker_addresses += group.attacks * -(-sum(share.values()) // group.per_address)

    async def speak(self, rate: float, *, text_bytes: int = 0, over_seconds: float = 0.0) -> None:
        """Set the schedule; the rate is divided in proportion to the speakers of each process."""
        speakers = [worker.current.speakers for worker in self.workers]
        for worker, number in zip(self.workers, speakers, strict=True):
            if number:
                each = rate * number / sum(speakers)
                await worker.call(Crowd.speak, each, text_bytes=text_bytes, over_seconds=over_seconds)

    async def call(
        self, method: Callable[Concatenate[Any, P], object], *arguments: P.args, **keywords: P.kwargs
    ) -> None:
        for worker in self.workers:
            await worker.call(method, *arguments, **keywords)

    @property
    def has_opened(self) -> bool:
        return all(worker.up_to_date and worker.current.has_opened for worker in self.workers)

    @property
    def quiet(self) -> bool:
        return all(worker.up_to_date and not worker.current.outstanding for worker in self.workers)

    def held(self, group: str) -> int:
        return sum(each.held for worker in self.workers for each in worker.current.groups if each.group == group)

    @property
    def acknowledged(self) -> int:
        return sum(worker.status.acknowledged for worker in self.workers if worker.status)

    @property
    def last_came(self) -> float:
        """When a client last became held, also if a process has died since."""
        return max((worker.status.last_came for worker in self.workers if worker.status), default=0.0)
