"""The supervisor, with fake workers: starts, deaths, hangs, replacements."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
import trio

from chatserver.exits import EXIT_BAD_FLAGS
from chatserver.workers.child import END_PATIENCE, MAX_SILENT_CHECKS, MAX_STARTING_CHECKS, Child
from chatserver.workers.link import Ready, Setup
from chatserver.workers.supervisor import MAX_RESTART_PAUSE, MAX_STARTING, RESTART_PAUSE, STABLE_AFTER
from tests.workers.fakes import KILLED, FakeWorker, Supervision, supervised, supervision

pytestmark = pytest.mark.jumping_clock


@contextmanager
def forty_peers(it: Supervision) -> Iterator[list[tuple[str, int]]]:
    """The addresses of peers that have connected: so many that each listening socket has some."""
    port = int(it.supervisor.addresses[0].rpartition(":")[2])
    with ExitStack() as stack:
        peers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(40)]
        yield sorted(peer.getsockname() for peer in peers)


def accepted_by(worker: FakeWorker) -> list[tuple[str, int]]:
    """The addresses of the peers in the queue of a worker."""
    accepted = []
    with listening_socket(worker) as listening, suppress(BlockingIOError):
        while True:
            taken, peer = listening.accept()
            accepted.append(peer)
            with taken, pytest.raises(BlockingIOError):  # it is open: to shut a socket down twice shuts these as well
                taken.recv(1, socket.MSG_DONTWAIT)
    return sorted(accepted)


def listening_socket(worker: FakeWorker) -> socket.socket:
    [number] = worker.setup.listening
    return socket.socket(fileno=os.dup(number))


# -- start ------------------------------------------------------------------------------------------------------------


async def test_one_line_for_each_address_when_all_are_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first worker is ready before the second starts."""
    it = supervision(tmp_path, workers=3, host=("127.0.0.1", "127.0.0.2"), metrics_listen="127.0.0.1:0")
    ready_at: list[int] = []

    def direct(worker: FakeWorker) -> None:
        ready_at.append(sum(child.ready for child in it.supervisor._children))
        worker.ready = worker.number < 3

    it.direct = direct
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        await it.has_started(3)
        await trio.sleep(1)
        assert capsys.readouterr().out == ""
        [third] = [worker for worker in it.started if worker.number == 3]
        await third.link.send(Ready())
        await it.logged("metrics_listening")
        urls = it.supervisor.addresses
        assert capsys.readouterr().out == "".join(f"listening on {url}\n" for url in urls)
        assert [url.rpartition(":")[0] for url in urls] == ["http://127.0.0.1", "http://127.0.0.2"]
        [line] = it.events("metrics_listening")
        assert line["address"].startswith("http://127.0.0.1:")
        for worker in it.started:
            assert {*worker.setup.listening, worker.setup.operators} < set(worker.inherited), "and the locks"
        nursery.cancel_scope.cancel()
    assert ready_at == [0, 1, 1]
    assert sorted(worker.setup.number for worker in it.started) == [0, 1, 2]


async def test_workers_start_in_a_folder_whose_name_is_not_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TMPDIR may name one; the server ended with a traceback."""
    with TemporaryDirectory(suffix="\udcff") as folder:  # shorter than tmp_path: a socket's path has 107 bytes
        monkeypatch.setattr("tempfile.tempdir", folder)
        async with supervised(tmp_path) as it:
            assert [worker.setup.folder.startswith(quote(os.fsencode(folder))) for worker in it.started] == [True, True]


async def test_many_workers_start_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two busy cores, 53 workers that start at once would all be silent for a minute and count as hanging."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    it = supervision(tmp_path, workers=2 + 2 * MAX_STARTING)
    it.direct = lambda worker: setattr(worker, "ready", worker.number == 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        for started in (1 + MAX_STARTING, 1 + 2 * MAX_STARTING, 2 + 2 * MAX_STARTING):
            await it.has_started(started)
            await trio.sleep(1)
            assert len(it.started) == started
            for worker in it.started[-MAX_STARTING:]:
                await worker.link.send(Ready())
        await it.until(lambda: all(child.ready for child in it.supervisor._children))
        nursery.cancel_scope.cancel()


async def test_a_first_worker_that_cannot_start_ends_the_supervisor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker prints the reason if it knows it; no other is started."""
    for code, ends_with in ((2, 2), (3, 3), (4, 4), (1, 1), (0, 1), (KILLED, 1)):
        it = supervision(tmp_path)
        it.manner = {"code_at_start": code}
        await it.run()
        shown = capsys.readouterr()
        assert (it.code, shown.out, it.events("worker_died")) == (ends_with, "", []), code
        assert shown.err == ("" if ends_with > 1 else f"chatserver: worker 1 ended at its start, with code {code}\n")
        assert [worker.returncode for worker in it.started] == [code]
    it = supervision(tmp_path)
    it.failing = [OSError(errno.ENOMEM, "no memory")]
    await it.run()
    assert (it.code, capsys.readouterr().err, len(it.events("worker_not_started"))) == (1, "", 1)


async def test_a_worker_that_is_killed_while_the_others_start_is_restarted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel does that when memory is short; all workers were ended, with exit code 1."""
    it = supervision(tmp_path, workers=3)

    def direct(worker: FakeWorker) -> None:
        if worker.number == 2 and [each.number for each in it.started].count(2) == 1:
            worker.code_at_start = KILLED

    it.direct = direct
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        assert capsys.readouterr().out.count("listening") == 1
        await it.until(lambda: sum(child.ready for child in it.supervisor._children) == 3)
        assert sorted(worker.number for worker in it.started) == [1, 2, 2, 3]
        assert [(line["worker"], line["code"]) for line in it.events("worker_died")] == [(2, KILLED)]
        assert it.started[0].returncode is None
        nursery.cancel_scope.cancel()


async def test_a_port_of_another_servers_workers_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SO_REUSEPORT alone would let the workers share it."""
    async with supervised(tmp_path) as it:
        port = int(it.supervisor.addresses[0].rpartition(":")[2])
        capsys.readouterr()
        for options, code, words in (
            ({"port": port}, 3, f"cannot listen on 127.0.0.1 port {port}: Address already in use; stop"),
            ({"metrics_listen": f"127.0.0.1:{port}"}, 3, "--metrics-listen: cannot listen on 127.0.0.1 port "),
            ({}, 4, "--log sqlite:"),
        ):
            other = supervision(tmp_path, **options)
            await other.run()
            shown = capsys.readouterr()
            assert (other.code, shown.out, shown.err.count("\n"), words in shown.err) == (code, "", 1, True), shown
            assert other.started == []


async def test_without_a_folder_for_sockets_the_log_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """This happens in a container with read-only files and without /tmp."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    it = supervision(tmp_path, log="postgresql://chat:secret@db.example/chat")
    await it.run()
    shown = capsys.readouterr()
    assert (it.code, shown.out, it.started) == (4, "", [])
    assert "secret" not in shown.err
    assert "cannot make a folder for the workers' sockets: No such file or directory" in shown.err


@pytest.mark.parametrize(
    ("start_takes", "manner", "code"),
    [(0.0, {}, 0), (2.0, {}, 0), (0.0, {"drains": False}, KILLED)],
    ids=["the worker", "its process", "on a disk that hangs"],
)
async def test_a_signal_while_it_starts_ends_it(
    start_takes: float, manner: dict[str, object], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = supervision(tmp_path)
    it.start_takes = start_takes
    it.manner = {"ready": False, **manner}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        await it.until(lambda: it.supervisor._children)
        await trio.sleep(1.0)
        signal.raise_signal(signal.SIGTERM)
    assert (it.code, [worker.returncode for worker in it.started]) == (0, [code])
    assert capsys.readouterr().out == ""


# -- death ------------------------------------------------------------------------------------------------------------


async def test_repeated_early_deaths_delay_the_restart_more_and_more(tmp_path: Path) -> None:
    """The other worker is not affected; a worker that ran for a while is restarted at once."""
    async with supervised(tmp_path) as it:
        first, _ = it.started
        for deaths in range(1, 9):
            it.started[-1].end(KILLED)
            await it.has_started(2 + deaths)
        pauses = [line["again_in"] for line in it.events("worker_died")]
        assert pauses[:3] == [RESTART_PAUSE * 2, RESTART_PAUSE * 4, RESTART_PAUSE * 8]
        assert all(0 < former <= latter <= MAX_RESTART_PAUSE for former, latter in pairwise(pauses))
        assert pauses[-1] == MAX_RESTART_PAUSE
        for (before, after), pause in zip(pairwise(it.started[1:]), pauses, strict=True):
            assert after.began - before.began >= pause
        await trio.sleep(STABLE_AFTER + 1)
        it.started[-1].end(1)
        await it.has_started(11)
        assert it.events("worker_died")[-1]["again_in"] == RESTART_PAUSE
        assert [worker.number for worker in it.started] == [1, *[2] * 10]
        assert first.returncode is None


async def test_a_process_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.failing = [OSError(errno.EAGAIN, "no more processes"), OSError(errno.ENOMEM, "no memory")]
        it.started[0].end(KILLED)
        await it.has_started(3)
        assert len(it.events("worker_not_started")) == 2
        assert it.started[2].number == 1


async def test_a_silent_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    """The other worker, which beats, is not affected."""
    async with supervised(tmp_path) as it:
        await trio.sleep(3 * MAX_SILENT_CHECKS)
        assert len(it.started) == 2
        well, stuck = it.started
        stuck.beats, began = False, trio.current_time()
        await it.has_started(3)
        assert MAX_SILENT_CHECKS - 1 <= trio.current_time() - began <= MAX_SILENT_CHECKS + 2
        assert stuck.returncode == KILLED
        [line] = it.events("worker_hung")
        assert (line["worker"], line["log_level"]) == (2, "error")
        assert well.returncode is None
        assert 'chatserver_worker_deaths_total{how="hung"} 1.0' in (await well.ask()).splitlines()


async def test_a_worker_that_sends_garbage_is_killed_and_replaced(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        well, mad = it.started
        await mad.link.send("garbage")  # type: ignore[arg-type]
        await it.has_started(3)
        assert (mad.returncode, well.returncode) == (KILLED, None)
        assert [line["worker"] for line in it.events("worker_fault")] == [2]


@pytest.mark.parametrize(("after", "code"), [(END_PATIENCE / 2, 7), (2 * END_PATIENCE, KILLED)])
async def test_a_worker_that_has_closed_its_link_has_a_moment_to_end(tmp_path: Path, after: float, code: int) -> None:
    """It still closes the log."""
    async with supervised(tmp_path) as it:
        one = it.started[0]
        one.link.close()
        await trio.sleep(after)
        one.end(7)
        await it.logged("worker_died")
        assert [line["code"] for line in it.events("worker_died")] == [code]


async def test_a_process_that_a_kill_does_not_end_delays_neither_its_successor_nor_the_end(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        for worker in it.started:
            worker.is_stuck, worker.beats = True, False
        await it.has_started(4)
        assert [line["code"] for line in it.events("worker_died")] == [None, None]
        for worker in it.started[2:]:
            worker.is_stuck, worker.beats = True, False
        await it.logged("worker_hung", 4)
        await trio.sleep(END_PATIENCE + 1)
        signal.raise_signal(signal.SIGTERM)
        await it.until(lambda: it.code == 0)


async def test_a_starting_worker_has_more_time(tmp_path: Path) -> None:
    it = supervision(tmp_path)
    it.manner = {"ready": False, "beats": False}
    began = trio.current_time()
    await it.run()
    assert it.code == 1
    assert trio.current_time() - began >= MAX_STARTING_CHECKS - 1


async def test_the_next_worker_inherits_the_queue_of_a_dead_workers_socket(tmp_path: Path) -> None:
    """Peers that connect meanwhile are neither refused nor reset."""
    async with supervised(tmp_path) as it:
        with forty_peers(it) as peers:
            for worker in it.started[:2]:
                worker.end(KILLED)
            await it.has_started(4)
            assert sorted(chain(*map(accepted_by, it.running))) == peers


async def test_others_serve_the_newcomers_of_a_worker_that_cannot_start(tmp_path: Path) -> None:
    """With a bad certificate, or a database that was away, they waited for as long as that lasted."""
    async with supervised(tmp_path) as it:
        dead, other = it.started
        it.manner = {"code_at_start": EXIT_BAD_FLAGS}
        dead.end(KILLED)
        await it.logged("worker_died", 3)
        with forty_peers(it) as peers:
            assert accepted_by(other) == peers
        it.manner = {}
        await it.logged("worker_ready", 3)
        with listening_socket(it.running[-1]) as listening:
            listening.listen()  # as a server does
        with forty_peers(it) as peers:
            by_worker = [accepted_by(worker) for worker in it.running]
            assert all(by_worker)
            assert sorted(chain(*by_worker)) == peers


async def test_no_message_overtakes_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """A request for numbers in the moment of a start could come first, and the worker ended."""
    it, listen = supervision(tmp_path), Child._listen
    it._nursery = nursery

    async def stopped_at_once(child: Child, *arguments: Any) -> None:
        child.stop()
        await listen(child, *arguments)

    monkeypatch.setattr("chatserver.workers.child.spawn_worker", it.spawn)
    monkeypatch.setattr(Child, "_listen", stopped_at_once)
    for _ in range(10):
        await Child(1, Setup(it.settings, [], None, str(tmp_path), 0, 2), ask=never).run()
    assert [worker.stops for worker in it.started] == [1] * 10


async def never(child: Child) -> None:
    raise AssertionError("nobody asks for metrics")
