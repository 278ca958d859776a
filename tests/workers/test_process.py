"""A worker's end of the link, with a real server: its reports, and the reasons to drain."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock
from urllib.parse import quote

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from chatserver import server as server_module
from chatserver.api.read_markers import ReadMarkerHandlers
from chatserver.edge.tasks import MAX_SLOW_TASKS, MAX_TASKS
from chatserver.exits import EXIT_CLEAN, EXIT_FAULT
from chatserver.net.listener import bind
from chatserver.net.states import State
from chatserver.observe.metrics import ServerMetrics
from chatserver.server import Server
from chatserver.settings.fields import Settings
from chatserver.workers import process
from chatserver.workers.child import spawn_worker
from chatserver.workers.link import Alive, Ask, Collect, Link, Message, Numbers, Ready, Setup, Stop, Text
from chatserver.workers.process import Worker
from tests.support.key_provider import provider
from tests.support.peers import Address, ask, chatter, connect
from tests.support.serving import LIFE, CalmCollector, eventually, until
from tests.support.tokens import jwk, token


class Working:
    """A worker in this process, and the supervisor's end of its link."""

    def __init__(self, settings: Settings, listening: socket.socket, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        self.link = Link(ours)
        setup = Setup(settings, [listening.fileno()], None, folder=quote(os.fsencode(folder)), number=0, count=1)
        self.worker = Worker(Link(theirs), setup)
        self.worker.neighbours = None  # type: ignore[assignment]  # a log in memory has none
        self.server = Server(settings, total=100, supervised=self.worker)
        self.address = Address(*listening.getsockname()[:2])
        self.heard: list[Message] = []
        self.code: int | None = None

    async def run(self) -> None:
        self.code = await self.worker.run(self.server)

    async def hear(self, kind: type[Message]) -> Message:
        while True:
            message = await self.link.receive()
            assert message is not None
            self.heard.append(message)
            if isinstance(message, kind):
                return message


@asynccontextmanager
async def working(folder: Path, *, starts: bool = True, **options: object) -> AsyncIterator[Working]:
    """A worker that is ready, unless its start is to hang; it has ended after the block."""
    settings = Settings(log="memory:", port=0, **options)  # type: ignore[arg-type]
    with closing(bind("127.0.0.1", 0, send_buffer=65_536)) as listening:
        number = listening.detach()  # the worker's own descriptor, as if inherited
    with (
        capture_logs(),
        mock.patch.object(server_module, "Collector", CalmCollector),
        socket.socket(fileno=number) as inherited,
        trio.fail_after(LIFE),
    ):
        async with trio.open_nursery() as nursery:
            found = Working(settings, inherited, folder)
            inherited.detach()
            nursery.start_soon(found.run)
            if starts:
                await found.hear(Ready)
            yield found
        assert found.code == 0
        found.link.close()
        found.worker.listening.workers[0][0].close()  # which a server that did not start has not taken


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of the workers' sockets, whose paths may have 107 bytes, of any kind."""
    with TemporaryDirectory(suffix="\udcff") as made:
        yield Path(made)


async def test_a_worker_sends_beats_and_its_numbers_on_request_and_at_its_end(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.object(process, "HEARTBEAT", 0.01):
        async with working(folder) as one, chatter(one.address):
            for _ in range(3):
                await one.hear(Alive)
            await one.link.send(Collect())
            numbers = await one.hear(Numbers)
            assert isinstance(numbers, Numbers)
            [held] = [family for family in numbers.families if family.name == "chatserver_connections"]
            assert sum(value for _, _, value in held.samples) == 1
            await one.link.send(Stop())
            numbers = await one.hear(Numbers)
            assert isinstance(numbers, Numbers)
    assert capsys.readouterr().out == "", "the supervisor prints this line"


async def test_a_fault_in_its_numbers_does_not_end_a_worker(folder: Path) -> None:
    """It is a fault of one request in a server without workers; here each scrape would have ended all of them."""
    async with working(folder) as one:
        with mock.patch.object(ServerMetrics, "collect", side_effect=ZeroDivisionError):
            await one.link.send(Collect())
            await eventually(lambda: one.server.parts.connections.faults.count == 1)
        await one.link.send(Stop())
        await one.hear(Numbers)


async def test_metrics_come_from_the_supervisor(folder: Path) -> None:
    async with working(folder) as one:
        answers = []

        async def scrape() -> None:
            """The request has the fields of a proxy, which change nothing; a server alone answers it too."""
            answers.append(await ask(one.address, "GET", "/metrics", headers={"Authorization": "Bearer of-the-proxy"}))

        with mock.patch.object(process, "METRICS_PATIENCE", LIFE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scrape)
                await one.hear(Ask)
                await one.link.send(Text("chatserver_messages_total 12.0\n"))
        [answer] = answers
        assert (answer.status, answer.body) == (200, b"chatserver_messages_total 12.0\n")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        with mock.patch.object(process, "METRICS_PATIENCE", 0.05):
            answer = await ask(one.address, "GET", "/metrics")
        assert (answer.status, answer.error) == (503, "unavailable"), "a supervisor that does not answer"
        assert (await ask(one.address, "HEAD", "/healthz")).status == 200
        await one.link.send(Stop())


async def test_a_supervisor_that_does_not_answer_delays_no_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests wait for it than there are tasks for reads."""
    monkeypatch.setattr(process, "METRICS_PATIENCE", LIFE)
    waiting = MAX_TASKS + MAX_SLOW_TASKS
    async with working(folder, serving_deadline=LIFE, drain_timeout=0.1) as one:
        async with trio.open_nursery() as nursery:
            for _ in range(waiting):
                nursery.start_soon(ask, one.address, "GET", "/metrics")
            table = one.server.parts.connections.table
            await eventually(lambda: [each and each.state for each in table].count(State.SERVING) == waiting)
            assert (await ask(one.address, "GET", "/rooms")).status == 200
            nursery.cancel_scope.cancel()
        await one.link.send(Stop())


async def test_metrics_do_not_wait_for_slow_requests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database was locked, a scrape waited behind the read markers of users, and timed out."""

    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(ReadMarkerHandlers, "_show_later", never)
    async with working(folder, serving_deadline=LIFE, drain_timeout=0.1) as one:
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_SLOW_TASKS):
                nursery.start_soon(ask, one.address, "GET", "/unread")
            table = one.server.parts.connections.table
            await eventually(lambda: [each and each.state for each in table].count(State.SERVING) == MAX_SLOW_TASKS)
            nursery.start_soon(ask, one.address, "GET", "/metrics")
            with trio.fail_after(5):
                await one.hear(Ask)
            nursery.cancel_scope.cancel()
        await one.link.send(Stop())


async def test_a_worker_that_starts_while_the_provider_is_away_has_the_keys_of_those_before(folder: Path) -> None:
    """A renewed certificate, or the death of one worker, signed everybody out until the provider was back."""
    with provider() as it:
        it.publish(jwk("ES256", kid="one"))
        other = it.url.replace("keys", "others")
        for status, url, expected in ((200, it.url, 200), (503, it.url, 200), (503, other, 401)):
            it.status, headers = status, {"Authorization": f"Bearer {token('ES256', kid='one')}"}
            async with working(folder, token_jwks=url) as one:
                get = partial(ask, one.address, "GET", "/session", headers=headers)
                await until(get, lambda answer, expected=expected: answer.status == expected)  # type: ignore[misc]
                await one.link.send(Stop())


@pytest.mark.parametrize(
    ("tell", "stays"),
    [(lambda one: one.link.close(), False), (lambda one: signal.raise_signal(signal.SIGTERM), True)],
    ids=["without its supervisor", "after a signal"],
)
async def test_a_worker_that_is_told_to_stop_drains(tell: Callable[[Working], None], stays: bool, folder: Path) -> None:
    """Without a supervisor, nobody else removes the folder of the sockets. Newcomers wait in no queue meanwhile."""
    async with working(folder) as one, chatter(one.address) as friend:
        with one.worker.listening.workers[0][0].dup() as of_supervisor:
            tell(one)
            assert (await friend.next("goaway"))["reason"] == "restart"
            assert not of_supervisor.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert await trio.Path(folder).exists() == stays


async def test_a_worker_is_told_to_stop_any_number_of_times(folder: Path) -> None:
    async with working(folder) as one, chatter(one.address):
        for _ in range(5):
            await one.link.send(Stop())


@pytest.mark.jumping_clock
async def test_a_new_connection_is_answered_while_its_worker_is_replaced(folder: Path) -> None:
    """Its request comes seconds later, as after a TLS handshake over a slow link; it was closed after half a second."""
    async with working(folder) as one, connect(one.address) as early, chatter(one.address) as friend:
        await eventually(lambda: one.server.parts.connections.held == 2)
        with one.worker.listening.workers[0][0].dup() as of_supervisor:
            await one.link.send(Stop(replaced=True))
            await eventually(lambda: not one.server.parts.poller._listeners)
            assert of_supervisor.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        await trio.sleep(3)
        await friend.ask("ping")
        answer = await early.request("GET", "/healthz")
        assert answer.status == 200
        assert (await friend.next("goaway"))["reason"] == "restart"
        await friend.close()


@pytest.mark.jumping_clock
async def test_a_silent_connection_does_not_keep_a_replaced_worker_from_draining(folder: Path) -> None:
    async with working(folder) as one, connect(one.address) as silent, chatter(one.address) as friend:
        await eventually(lambda: one.server.parts.connections.held == 2)
        began = trio.current_time()
        await one.link.send(Stop(replaced=True))
        assert (await friend.next("goaway"))["reason"] == "restart"
        assert trio.current_time() - began >= 5, "half of the time"
        assert await silent.rest() == b""
        await friend.close()


@pytest.mark.parametrize("tell", [Stop(), Stop(replaced=True), None])
async def test_a_worker_that_is_told_to_stop_while_it_starts_ends_at_once(
    tell: Stop | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waits ten minutes for a lock in the database. Until then no signal had an effect, not even two."""
    opening = trio.Event()

    async def wait_for_a_lock(*values: object, **options: object) -> None:
        opening.set()
        await trio.sleep_forever()

    monkeypatch.setattr("chatserver.log.groups.GroupWriter.run", wait_for_a_lock)
    async with working(folder, starts=False) as one:
        await opening.wait()
        if tell is None:
            signal.raise_signal(signal.SIGTERM)
        else:
            await one.link.send(tell)


@pytest.mark.parametrize("first", ["message", "signal"])
async def test_a_signal_to_all_processes_does_not_shorten_the_drain(first: str, folder: Path) -> None:
    """Some service managers signal all processes; only the supervisor may end a drain at once."""
    async with working(folder, close_deadline=60.0, drain_timeout=60.0) as one, chatter(one.address) as stubborn:
        stop, terminate = partial(one.link.send, Stop()), partial(signal.raise_signal, signal.SIGTERM)
        if first == "message":
            await stop()
        else:
            terminate()
        assert (await stubborn.next("goaway"))["reason"] == "restart"
        for _ in range(3):
            terminate()
            await trio.sleep(0.02)
        if first == "signal":
            await stop()
        for _ in range(5):  # it has read what was sent before, and would have closed its link
            await one.link.send(Collect())
            await one.hear(Numbers)
        assert one.code is None
        await stop()
        await eventually(lambda: one.code == 0)  # the client is still there


async def test_a_worker_serves_although_it_cannot_hear_the_others(folder: Path) -> None:
    """A program that cleans /tmp may remove the folder of the sockets; each new worker then ended at once."""
    async with working(folder / "gone") as one, chatter(one.address) as ann:
        await ann.ask("join", room="lobby")
        await eventually(lambda: one.server.parts.connections.faults.count > 0)
        assert (await ask(one.address, "GET", "/healthz")).status == 200
        await one.link.send(Stop())


async def test_a_worker_ends_without_the_interpreters_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it took so long that the supervisor killed the worker, and its exit code was lost."""
    (tmp_path / "sitecustomize.py").write_text("import atexit, time\natexit.register(time.sleep, 3600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    ours, theirs = socket.socketpair()
    with theirs:
        worker = await spawn_worker(1, theirs.fileno(), [])
    try:
        ours.close()  # it is to end before it begins
        with trio.fail_after(LIFE):
            assert await worker.wait() == EXIT_CLEAN
    finally:
        worker.kill()


async def test_a_worker_can_be_started_by_a_supervisor_of_an_earlier_version() -> None:
    """Between an installation and the restart each worker that was started ended with a traceback.

    The folder had become base64 in this message, which it was not before. Fields that are gone are ignored.
    """
    ours, theirs = socket.socketpair()
    with ours, closing(Link(theirs)) as link:
        ours.sendall(
            '{"type":"Setup","settings":{"workers":2,"log":"sqlite:chat.db","unwritten_rooms":5},"listening":[],'
            '"operators":null,"folder":"/run/chatserver-\u00e9","number":1,"count":4}\n'.encode()
        )
        setup = await link.receive()
        assert isinstance(setup, Setup)
        assert setup.settings.workers == 2
        assert Worker(link, setup).folder == Path("/run/chatserver-\u00e9")


def test_a_supervisor_whose_setup_cannot_be_understood_is_to_be_restarted(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, mock.patch.object(process, "Link", autospec=True) as link:
        link.return_value.receive.side_effect = msgspec.ValidationError("Invalid base64 encoded string")
        assert process.run(1, theirs.detach()) == EXIT_FAULT
        link.call_args.args[0].close()
    assert capsys.readouterr().err.endswith("does not fit the server that runs; restart the server\n")
