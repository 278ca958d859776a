"""Hints between processes: sent hints arrive, a bounded number waits, and garbage is ignored."""

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chatserver.log.interface import LogOpenError
from chatserver.log.neighbours import MAX_UNSENT, Neighbours
from tests.log.support import neighbours_in
from tests.support.serving import eventually


@contextmanager
def opened(folder: Path, number: int, count: int = 3) -> Iterator[Neighbours]:
    found = neighbours_in(folder, number, count)
    found.open()
    try:
        yield found
    finally:
        found.close()


@asynccontextmanager
async def hearing(neighbours: Neighbours) -> AsyncIterator[dict[str, int]]:
    """The hints that it receives until the end of the block."""
    heard: dict[str, int] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbours.run, heard.update)
        yield heard
        nursery.cancel_scope.cancel()


async def test_all_other_processes_hear_a_hint_and_its_sender_does_not(tmp_path: Path) -> None:
    with opened(tmp_path, 0) as ours, opened(tmp_path, 1) as first, opened(tmp_path, 2) as second:
        async with hearing(ours) as own, hearing(first) as one, hearing(second) as two:
            ours.tell({"lobby": 3, "ops": 7})
            ours.tell({"lobby": 4, "*sanctions": 1})
            expected = {"lobby": 4, "ops": 7, "*sanctions": 1}
            await eventually(lambda: one == two == expected)
            assert own == {}


async def test_of_hints_that_arrive_together_the_highest_counts(tmp_path: Path) -> None:
    """Neighbours commit one after the other, but their hints may overtake each other."""
    with opened(tmp_path, 0) as ours, opened(tmp_path, 1) as first, opened(tmp_path, 2) as second:
        first.tell({"lobby": 9})
        second.tell({"lobby": 8})
        async with hearing(ours) as heard:
            await eventually(lambda: bool(heard))
            assert heard == {"lobby": 9}


async def test_an_absent_neighbour_is_no_error(tmp_path: Path) -> None:
    with opened(tmp_path, 0) as ours, opened(tmp_path, 1) as first:
        ours.tell({"lobby": 1})  # process 2 never ran
        first.close()
        ours.tell({"lobby": 2})
        with opened(tmp_path, 1) as again:  # a process with the same number takes its place
            async with hearing(again) as heard:
                ours.tell({"lobby": 3})
                await eventually(lambda: heard == {"lobby": 3})
    ours.tell({"lobby": 4})  # a change that hung ends after the log


async def test_hints_over_the_socket_buffer_are_sent_later(tmp_path: Path) -> None:
    """The kernel keeps ten datagrams; the newest hint of each room arrives in the end."""
    with opened(tmp_path, 0, 2) as ours, opened(tmp_path, 1, 2) as other:
        for number in range(1, 2_000):
            ours.tell({"lobby": number, f"room-{number % 7}": number})
        async with hearing(ours), hearing(other) as heard:
            expected = {"lobby": 1_999, **{f"room-{number % 7}": number for number in range(1_993, 2_000)}}
            await eventually(lambda: heard == expected)
        assert not any(ours._unsent.values())
        assert not ours._blocked.is_set()


async def test_hints_for_a_hanging_process_are_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, 0, 2) as ours, opened(tmp_path, 1, 2):
        for number in range(3 * MAX_UNSENT):
            ours.tell({f"room-{number}": 1})
        (unsent,) = ours._unsent.values()
        assert list(unsent) == [f"room-{number}" for number in range(2 * MAX_UNSENT, 3 * MAX_UNSENT)]


async def test_many_rooms_are_several_datagrams(tmp_path: Path) -> None:
    hints = {f"{number:064}": 1 << 36 for number in range(200)}
    with opened(tmp_path, 0, 2) as ours, opened(tmp_path, 1, 2) as other:
        ours.tell(hints)
        async with hearing(other) as heard:
            await eventually(lambda: heard == hints)


@given(
    st.lists(
        st.binary(max_size=200)
        | st.sampled_from([b"", b"{}", b"[]", b'{"a":-1}', b'{"a":"b"}', b'{"a":1e9}', b'{"\xff":1}'])
    )
)
def test_garbage_is_ignored(datagrams: list[bytes]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        neighbours = Neighbours(Path("/nowhere"), 0, 2)
        for datagram in datagrams:
            theirs.send(datagram)
            assert all(offset >= 0 for offset in neighbours._receive(ours).values())
        theirs.send(b'{"lobby":4}')
        assert neighbours._receive(ours) == {"lobby": 4}


def test_a_failing_receive_costs_no_hint_and_no_process(tmp_path: Path) -> None:
    """recv(2) may fail for lack of memory too, which ended the worker."""
    source = Mock(recv=Mock(side_effect=[b'{"lobby": 3}', OSError(errno.ENOMEM, "Cannot allocate memory")]))
    assert neighbours_in(tmp_path, 0, 1)._receive(source) == {"lobby": 3}


def test_a_long_or_missing_path_is_refused_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 200)
    with pytest.raises(LogOpenError, match=r"cannot listen at .*: AF_UNIX path too long"):
        Neighbours(long, 0, 2).open()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LogOpenError, match=r"cannot listen at no/0: .*No such file"):
        Neighbours(Path("no"), 0, 2).open()
    with pytest.raises(LogOpenError, match=r"cannot open no/writing: No such file.*; check its owner, and"):
        Neighbours(Path("no"), 0, 2).lock("writing")
