"""The real server for tests: in this process, on a real port; or in a process of its own, to be killed.

Owns: its start, its end, its counts, the healthy neighbour. Assertions are about answers over HTTP. May not: reach into
the server's parts, except to wait cheaply before it asks, and to see that no fault of the server was hidden.

    async with serving(head_deadline=0.5) as server, neighbour(server):
        ...
        await server.counted("head-deadline")
"""

import math
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import trio
from structlog.testing import capture_logs

from chatserver import server as server_module
from chatserver.log import open_log
from chatserver.log.interface import Log
from chatserver.net.states import State
from chatserver.observe import rationed
from chatserver.observe.memory import Collector
from chatserver.reasons import Reason
from chatserver.server import Server
from chatserver.settings.fields import Settings
from tests.support.forking import Running, run
from tests.support.peers import PATIENCE, Address, Chatter, ask, chatter

#: Seconds that a server may run in one test, so that a test that would wait for ever fails.
LIFE = 90.0
#: Seconds for a server's first lines: a start is half a second of a processor, for each of its workers.
START_PATIENCE = 80.0
#: Seconds between the first two checks of something that should soon be true, the factor by which each pause grows, and
#: the longest pause: reading /metrics is work for the server, and takes longer than most tests wait.
LOOK, SLOWER, LOOK_MAX = 0.02, 1.2, 0.2
#: Seconds between a neighbour's round trips.
NEIGHBOUR_PAUSE = 0.1
#: Limits that a test's only client, fast and on one address, would run into.
RATES = ("publish_rate", "message_rate", "request_rate", "search_rate")
#: A short name of the server for tests of raw bytes: a short head is easier to read and to drip.
SHORT_HOST = "t"
_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)

LogLine = MutableMapping[str, Any]
T = TypeVar("T")


async def eventually(look: Callable[[], bool | Awaitable[bool]], *, within: float = PATIENCE) -> None:
    """Wait until a condition holds. Raises trio.TooSlowError."""
    pause = LOOK
    with trio.fail_after(within):
        # The condition depends on the other end of a socket.
        while not (await found if isinstance(found := look(), Awaitable) else found):
            await trio.sleep(pause)
            pause = min(pause * SLOWER, LOOK_MAX)


async def until(ask: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
    """Ask until the answer is as expected. Returns it, or raises trio.TooSlowError."""
    answers: list[T] = []

    async def look() -> bool:
        answers[:] = [await ask()]
        return bool(holds(answers[0]))

    await eventually(look)
    return answers[0]


def sample(text: bytes, name: str, **labels: str) -> float:
    """A sample of a text of /metrics, summed over the labels that are not given."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(value)
        for found, given, value in _SAMPLE.findall(text.decode())
        if found == name and all(label in given for label in wanted)
    )


class CalmCollector(Collector):
    """Collects nothing: a full collection of a test run's objects takes longer than most tests."""

    def __enter__(self) -> "CalmCollector":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tick(self, now: float) -> None:
        """Nothing is due."""


class Serving:
    """A server in this process."""

    def __init__(self, server: Server, logs: list[LogLine]) -> None:
        self.server = server
        self.logs = logs
        self.address = Address.of(server.addresses[0])
        self.metrics_address = Address.of(server.metrics_address) if server.metrics_address else self.address

    async def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics, summed over the labels that are not given."""
        return sample((await ask(self.metrics_address, "GET", "/metrics")).body, name, **labels)

    async def reaches(self, value: float, name: str, **labels: str) -> None:
        """Wait until a sample of /metrics has this value."""
        await until(lambda: self.metric(name, **labels), lambda found: found == value)

    async def closes(self, reason: str) -> int:
        return int(await self.metric("chatserver_closes_total", reason=reason))

    def ended(self, *reasons: Reason) -> int:
        """Connections that ended for one of these reasons, read without HTTP."""
        return sum(self.server.parts.stats.closes[reason] for reason in reasons)

    async def counted(self, reason: str, times: int = 1) -> None:
        """Wait until exactly `times` connections have ended for a reason."""
        [named] = [each for each in Reason if each.label == reason]
        await eventually(lambda: self.ended(named) >= times)
        assert await self.closes(reason) == times, (reason, self.logs)

    async def held(self, connections: int) -> None:
        """Wait until `connections` connections are held, without the one for this request."""
        await eventually(lambda: self.server.parts.connections.held == connections)
        await self.reaches(connections + 1, "chatserver_connections")

    async def in_phase(self, phase: str, count: int = 1) -> None:
        """Wait until `count` connections are in a phase."""
        table, state = self.server.parts.connections.table, State[phase.upper()]
        await eventually(lambda: sum(each is not None and each.state is state for each in table) >= count)
        await until(lambda: self.metric("chatserver_connections", phase=phase), lambda found: found >= count)


@asynccontextmanager
async def serving(
    *, total: int = 1000, faults: int = 0, engine: Log | None = None, **settings: Any
) -> AsyncIterator[Serving]:
    """Serve until the block ends. No address cap and no rates, unless the test gives them; `faults` that it plants.

    With an `engine`, that is the log.
    """
    options = {
        "port": 0, "log": "memory:", "per_ip": 0, "allow_host": (SHORT_HOST,), **dict.fromkeys(RATES, 0.0), **settings,
    }  # fmt: skip
    opening = open_log if engine is None else lambda *_: engine
    with (
        mock.patch.object(server_module, "Collector", CalmCollector),
        mock.patch.object(server_module, "open_log", opening),
        # On a busy machine /metrics may exceed its share of time, and would return an old answer.
        mock.patch.object(rationed, "AT_ONCE_SECONDS", math.inf),
        capture_logs() as logs,
        trio.fail_after(LIFE),
    ):
        server = Server(Settings(**options), total=total)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.main)
            running = Serving(server, logs)
            yield running
            found = server.parts.connections.faults.count
            nursery.cancel_scope.cancel()
    assert found == faults, logs
    assert [line for line in logs if line["log_level"] in ("error", "critical") and line["event"] != "fault"] == []


@asynccontextmanager
async def neighbour(server: "Serving | ServerProcess", room: str = "neighbours") -> AsyncIterator[None]:
    """A healthy client during the block: it publishes and receives over WebSocket and HTTP, and never fails."""
    async with chatter(server.address) as friend, trio.open_nursery() as nursery:
        await friend.ask("join", room=room)
        stop = trio.Event()
        done = trio.Event()
        nursery.start_soon(_live, server.address, friend, room, stop, done)
        yield
        stop.set()
        await done.wait()


async def _live(address: Address, friend: Chatter, room: str, stop: trio.Event, done: trio.Event) -> None:
    last_trip = False
    while not last_trip:
        last_trip = stop.is_set()
        ack = await friend.ask("publish", room=room, text="still here")
        assert ack["type"] == "ack", ack
        heard = await friend.next("message")
        assert heard["offset"] == ack["offset"], "a message was lost or is out of order"
        answered = await ask(address, "GET", f"/rooms/{room}/messages?limit=1")
        assert answered.status == 200, answered
        with trio.move_on_after(NEIGHBOUR_PAUSE):
            await stop.wait()
    await friend.close()
    done.set()


@asynccontextmanager
async def reader(server: Serving, room: str = "lobby") -> AsyncIterator[None]:
    """A healthy client that only reads: the neighbour of a log that cannot store."""
    async with chatter(server.address) as friend, trio.open_nursery() as nursery:
        await friend.ask("join", room=room)

        async def live() -> None:
            while True:
                assert (await friend.ask("ping"))["type"] == "pong"
                assert (await friend.ask("history", room=room))["type"] == "history"
                assert (await ask(server.address, "GET", f"/rooms/{room}/messages?limit=1")).status == 200
                await trio.sleep(NEIGHBOUR_PAUSE)

        nursery.start_soon(live)
        yield
        nursery.cancel_scope.cancel()


# -- in a process of its own ------------------------------------------------------------------------------------------


class ServerProcess:
    """`chatserver serve` as a user starts it."""

    def __init__(self, process: trio.Process | Running, lines: list[str], errors: Path) -> None:
        self.process = process
        self.lines = lines
        self._errors = errors

    @property
    def address(self) -> Address:
        return Address.of(self.lines[0].removeprefix("listening on "))

    @property
    def errors(self) -> str:
        """All whole lines on standard error so far; the next one may be half written."""
        text = self._errors.read_text()
        return text[: text.rfind("\n") + 1]

    async def ended(self) -> int:
        """Wait for the end of the process. Returns the exit code."""
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def server_process(
    directory: Path,
    *flags: str,
    lines: int = 1,
    descriptors: int = 0,
    life: float = LIFE,
    group: int | None = None,
    is_forked: bool = False,
    cwd: Path | None = None,
) -> AsyncIterator[ServerProcess]:
    """Start it and read the lines it prints when ready (fewer, if it ends before); dead when the block ends.

    It runs in `cwd`, or in the directory that has what it writes to standard error.
    With a `group` of 0 a Ctrl-C at the terminal is not for it. One that is forked starts in a tenth of the time; its
    memory is not only its own. With `descriptors` it is under that `ulimit -n`, which only a forked one can be.
    """
    assert is_forked or not descriptors
    process: trio.Process | Running
    errors = directory / "server.err"
    with errors.open("a") as stderr:
        if is_forked:
            process = await run(
                "chatserver.cli", "serve", *flags, stderr=stderr.fileno(), folder=cwd or directory,
                needs=(server_module.__name__,), most_descriptors=descriptors,
            )  # fmt: skip
        else:
            process = await trio.lowlevel.open_process(
                [str(Path(sys.executable).with_name("chatserver")), "serve", *flags],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, cwd=cwd or directory,
                process_group=group,
            )  # fmt: skip
    try:
        assert process.stdout is not None
        with trio.fail_after(life):
            yield ServerProcess(process, await _read_lines(process.stdout, lines), errors)
    finally:
        process.kill()
        # everything here is shielded: closing the pipe raises as well when the test is being cancelled
        with trio.CancelScope(shield=True), trio.fail_after(PATIENCE):
            if process.stdout is not None:
                await trio.aclose_forcefully(process.stdout)
            await process.wait()


async def _read_lines(stream: trio.abc.ReceiveStream, count: int) -> list[str]:
    text = b""
    with trio.fail_after(START_PATIENCE):
        while text.count(b"\n") < count:
            data = await stream.receive_some()
            if not data:
                break
            text += data
    return text.decode().splitlines()


def free_flags(directory: Path, *more: str, port: int = 0) -> Sequence[str]:
    """Flags for any port, a log in the test's directory, and no caps."""
    log = f"sqlite:{directory / 'chat.db'}"
    rates = [word for name in RATES for word in (f"--{name.replace('_', '-')}", "0")]
    return ("--port", str(port), "--log", log, "--per-ip", "0", *rates, *more)
