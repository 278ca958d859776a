"""Messages between the workers of one machine: each receives those of the others, and none waits for a lost one."""

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import trio

from chatserver.shared.datagrams import MAX_MESSAGE, Datagrams
from tests.support.serving import eventually


@asynccontextmanager
async def hearing(folder: Path, number: int, count: int = 3) -> AsyncIterator[tuple[Datagrams, list[bytes]]]:
    heard: list[bytes] = []
    one = Datagrams(folder, number, count)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, heard.append)
        await eventually(lambda: one._socket is not None)
        yield one, heard
        nursery.cancel_scope.cancel()


async def test_all_others_receive_and_an_absent_one_delays_nothing(tmp_path: Path) -> None:
    first = Datagrams(tmp_path, 0, 3)
    first.tell(b"too early")
    async with hearing(tmp_path, 0) as (first, of_first), hearing(tmp_path, 1) as (second, of_second):
        first.tell(b"a" * (MAX_MESSAGE // 2))
        second.tell(b"b")
        await eventually(lambda: bool(of_first and of_second))
        assert (of_first, of_second) == ([b"b"], [b"a" * (MAX_MESSAGE // 2)])
        # The next process with its number receives in its place.
        async with hearing(tmp_path, 2) as (_, before):
            first.tell(b"c")
            await eventually(lambda: bool(before))
        async with hearing(tmp_path, 2) as (_, after):
            first.tell(b"d")
            await eventually(lambda: bool(after))
        assert (before, after) == ([b"c"], [b"d"])


async def test_a_worker_that_does_not_read_delays_nothing(tmp_path: Path) -> None:
    """Messages beyond its buffer are lost, and it receives new ones when it reads again."""
    async with hearing(tmp_path, 0) as (first, _), hearing(tmp_path, 1) as (_, slow):
        for number in range(2000):
            first.tell(b"%d" % number)
        await eventually(lambda: bool(slow))
        count = len(slow)
        assert count < 2000
        first.tell(b"again")
        await eventually(lambda: slow[-1] == b"again")


async def test_between_two_messages_other_tasks_have_a_turn(tmp_path: Path, nursery: trio.Nursery) -> None:
    """A message takes up to half a millisecond, and sixteen were handled in one go."""
    first, second = Datagrams(tmp_path, 0, 2), Datagrams(tmp_path, 1, 2)
    turns, seen = count(), list[int]()

    async def work() -> None:
        for _ in turns:
            await trio.lowlevel.checkpoint()

    nursery.start_soon(first.run, lambda message: None)
    nursery.start_soon(second.run, lambda message: seen.append(next(turns)))
    await eventually(lambda: first._socket is not None and second._socket is not None)
    nursery.start_soon(work)
    for _ in range(5):
        first.tell(b"hi")
    await eventually(lambda: len(seen) == 5)
    assert seen[-1] - seen[0] >= 4 + 3, "in each pass of the loop, one message and a turn of the other task"
    nursery.cancel_scope.cancel()


async def test_a_message_of_a_hundred_people_reaches_forty_late_readers(tmp_path: Path) -> None:
    """One sending buffer of 208 KiB for all, Linux's default, would limit 10 KB messages to thirteen readers."""
    others = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(40)]
    with ExitStack() as stack:
        for number, other in enumerate(others, start=1):
            stack.enter_context(other).bind(str(tmp_path / f"said-{number}"))
        async with hearing(tmp_path, 0, len(others) + 1) as (one, _):
            one.tell(b"x" * 5_000)
            assert [len(other.recv(MAX_MESSAGE, socket.MSG_DONTWAIT)) for other in others] == [5_000] * len(others)
