"""How the supervisor ends, with fake workers: signals, drains, what it removes."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
import trio

from chatserver.workers import shared_log as shared_log_module
from chatserver.workers import supervisor
from chatserver.workers.link import Ready
from chatserver.workers.shared_log import SharedLog, shared_log
from chatserver.workers.supervisor import MAX_RESTART_PAUSE
from tests.workers.fakes import KILLED, hang_up, supervised, supervision

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_drain_concurrently_and_a_second_signal_ends_them_at_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    for signals in (1, 2):
        it = supervision(tmp_path, drain_timeout=20.0)
        it.manner = {"drains": False}
        async with trio.open_nursery() as nursery:
            await nursery.start(it.run)
            began = trio.current_time()
            for _ in range(signals):
                signal.raise_signal(number)
                await trio.sleep(0.1)
            assert [worker.stops for worker in it.started] == [signals] * 2
        assert it.code == 0
        took = trio.current_time() - began
        assert (took < 5) if signals == 2 else (20 <= took <= 28)
        assert [worker.returncode for worker in it.started] == [KILLED if signals == 1 else 0] * 2


async def test_newcomers_are_refused_while_workers_drain(tmp_path: Path) -> None:
    """Else the kernel would accept them for a queue that nobody serves, until the last worker has drained."""
    async with supervised(tmp_path, metrics_listen="127.0.0.1:0") as it:
        listening = it.supervisor._listening
        assert listening.operators is not None
        addresses = [each.getsockname() for each in (listening.workers[0][0], listening.operators)]
        for worker in it.started:
            worker.drains = False
        signal.raise_signal(signal.SIGTERM)
        await it.until(lambda: all(worker.stops for worker in it.started))
        for address in addresses:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)


async def test_a_signal_ends_a_long_check_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write-ahead log of 480 MB took 13 s, on a busy machine a minute."""
    began, go_on = Event(), Event()

    def check(path: Path) -> None:
        began.set()
        go_on.wait(2)

    monkeypatch.setattr(shared_log_module, "check_wal", check)
    it = supervision(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        await it.until(began.is_set)
        signal.raise_signal(signal.SIGTERM)
    go_on.set()
    assert (it.code, it.started) == (0, [])


@pytest.mark.parametrize("first", ["hangup", "signal", "start"])
async def test_only_a_second_signal_shortens_a_drain(tmp_path: Path, first: str) -> None:
    """A reload and the signal both make a worker drain, in either order; so does a signal while others start."""
    it = supervision(tmp_path, drain_timeout=20.0)
    it.manner = {"drains": False}
    slow = {"signal": 3, "start": 2}.get(first)  # the worker that does not become ready
    it.direct = lambda worker: setattr(worker, "ready", len(it.started) != slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        await it.has_started(2)
        await trio.sleep(1.0)
        if first != "start":
            await hang_up()
            await trio.sleep(1.0)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(1.0)
        late = it.started[-1]
        if not late.ready:
            await late.link.send(Ready())
            await trio.sleep(1.0)
        assert [worker.stops for worker in it.started] == [1] * (2 if first == "start" else 3)
        signal.raise_signal(signal.SIGTERM)
    assert {worker.returncode for worker in it.started} == {0}
    assert it.code == 0


async def test_a_closed_terminal_is_no_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel and the shell may both send the signal, which shortens no drain."""
    monkeypatch.setattr(supervisor, "watch_terminal", lambda: lambda: True)
    async with supervised(tmp_path, drain_timeout=20.0) as it:
        for worker in it.started:
            worker.drains = False
        await hang_up()
        await hang_up()
        assert [worker.stops for worker in it.started] == [1, 1]
        for worker in it.started:
            worker.end(0)
        await it.until(lambda: it.code == 0)


@pytest.mark.parametrize("before", ["death", "hangup"])
async def test_no_worker_starts_after_the_signal(tmp_path: Path, before: str) -> None:
    """It would not be told to drain, and be killed with its clients when the others have ended."""
    async with supervised(tmp_path, drain_timeout=20.0) as it:
        one, other = it.started
        one.drains = other.drains = False
        if before == "death":
            it.supervisor._slots[0].pause = MAX_RESTART_PAUSE
            one.end(KILLED)
            await it.logged("worker_died")
        else:
            await hang_up()
            await it.until(lambda: one.stops)
        signal.raise_signal(signal.SIGTERM)
        await it.until(lambda: other.stops)
        one.end(0)
        started = len(it.started)
        await it.until(lambda: it.code == 0)
        assert len(it.started) == started
        assert it.events("workers_replaced") == []


async def test_a_signal_does_not_interrupt_the_removal_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies of a signal that nobody receives."""
    order: list[str] = []

    @contextmanager
    def slow_removal(url: str) -> Iterator[SharedLog]:
        with shared_log(url) as shared:
            yield shared
            signal.raise_signal(signal.SIGTERM)
            order.append("removed")

    monkeypatch.setattr(supervisor, "shared_log", slow_removal)
    it = supervision(tmp_path)
    before = signal.signal(signal.SIGTERM, lambda *_: order.append("died"))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(it.run)
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert order[0] == "removed"
