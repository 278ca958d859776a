"""Invariant: after thousands of random peers a real server's counts are as in the beginning, it has met no fault of its
own, its healthy neighbours noticed nothing, and it drains cleanly while peers are still connected.

Owns: the running peers, and the judgement of one server process. May not: reach into the server; its counts come from
/metrics, and what it holds from the kernel.
"""

import contextlib
import json
import signal
import socket
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import trio

from tests.fuzz.neighbours import neighbours
from tests.fuzz.scripts import LITTLE, SWALLOW, Move, Script, script
from tests.support.certificates import NAMES, certificate
from tests.support.parked import descriptors, reset
from tests.support.peers import Address, ask, chatter, publish
from tests.support.serving import ServerProcess, eventually, sample, server_process

#: Peers at a time: more than there are places, so that admission and eviction always have work.
AT_ONCE = 120
#: Peers that are still busy when SIGTERM comes, and how many come after it.
STAYING, LATE = 60, 20
#: Seconds after which a peer ends, even if its script is not finished.
PEER_LIFE = 20.0
#: Bytes by which the server may have grown afterwards: rings, answers and pools fill once.
GROWTH = 64 << 20
#: Short limits, but long enough for a healthy neighbour on a busy machine.
FLAGS = (
    "--port 0 --log-format json --max-connections 95 --per-ip 50 --evict-after 4 --tls-deadline 1 --head-deadline 1 "
    "--body-deadline 1 --body-deadline-max 2 --keepalive-deadline 6 --poll-wait-max 3 --heartbeat-interval 2 "
    "--ping-interval 3 --pong-deadline 6 --message-deadline 1 --flush-window 6 --close-deadline 0.5 --drain-timeout 4 "
    "--send-buffer 8192 --ring-messages 32 --ring-bytes 65536 --retain-messages 20000 "
    "--all-unfinished-bytes 65536"
).split()

#: Counts that must return to what they were, besides the descriptors.
COUNTS = ("connections", "addresses", "members", "held_polls", "log_pending", "unfinished_bytes")


@dataclass
class Report:
    """The figures of a run."""

    seed: int
    secure: bool
    peers: int = 0
    ended: dict[str, int] = field(default_factory=dict)  # connections, by reason
    heard: dict[str, int] = field(default_factory=dict)  # messages, by the transport of a healthy neighbour
    growth: int = 0  # bytes

    def __str__(self) -> str:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(self.ended.items()) if number)
        return (
            f"{'TLS' if self.secure else 'plain'}: {self.peers} peers, seed {self.seed}; neighbours heard {self.heard};"
            f" the server grew by {self.growth / 1e6:.1f} MB; ended: {reasons}"
        )


@dataclass(frozen=True)
class Assault:
    """The numbers of the peers: a fixed number of them, or as many as start in a time."""

    seed: int
    first: int = 0
    peers: int | None = None
    seconds: float | None = None


async def campaign(folder: Path, assault: Assault, *, secure: bool) -> Report:
    """Test one server from its start to its end."""
    report = Report(assault.seed, secure)
    life = (assault.seconds or 0.0) + 300.0
    cert, key = certificate(folder) if secure else ("", "")
    tls = ("--tls-cert", cert, "--tls-key", key) if secure else ()
    log = f"sqlite:{folder / 'chat.db'}"
    async with server_process(folder, *FLAGS, "--log", log, *tls, life=life) as server:
        await _warm_up(server.address)
        before, size = await _counts(server), _resident(server)
        async with neighbours(server.address) as report.heard:
            report.peers = await _attack(server.address, assault)
        await _as_before(server, before)
        await _read_metrics(server, report)
        report.growth = _resident(server) - size
        assert report.growth < GROWTH, f"the server grew by {report.growth / 1e6:.1f} MB"
        await _drain_under_fire(server, assault)
        _check_log(server)
    return report


async def _warm_up(address: Address) -> None:
    """Let the server make what is made once: the log's files, a room, the first objects of each kind."""
    await publish(address, "lobby", "the first")
    async with chatter(address) as friend:
        await friend.ask("join", room="lobby")
        await friend.ask("history", room="ops")
        await friend.close()


async def _attack(address: Address, assault: Assault) -> int:
    """Let peers come; their number."""
    numbers = count(assault.first) if assault.peers is None else range(assault.first, assault.first + assault.peers)
    coming = iter(numbers)
    came = 0

    async def play_on() -> None:
        nonlocal came
        for number in coming:
            came += 1
            await play(address, script(assault.seed, number))
            if trio.current_time() >= over:
                return

    over = trio.current_time() + (assault.seconds or float("inf"))
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(play_on)
    return came


async def _drain_under_fire(server: ServerProcess, assault: Assault) -> None:
    """Send SIGTERM while peers are connected and more come."""
    first = assault.first + 1_000_000
    async with trio.open_nursery() as nursery:
        for number in range(first, first + STAYING):
            nursery.start_soon(play, server.address, script(assault.seed, number))
        await trio.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        for number in range(first + STAYING, first + STAYING + LATE):
            nursery.start_soon(play, server.address, script(assault.seed, number))
        code = await server.ended()
        nursery.cancel_scope.cancel()
    assert code == 0, f"exit code {code}: {server.errors[-2000:]}"


# -- one peer -------------------------------------------------------------------------------------------------------


async def play(address: Address, part: Script) -> None:
    """Do the moves of a script until the server closes."""
    with trio.move_on_after(PEER_LIFE), trio.socket.socket() as connected:
        if part.window:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, part.window)
        await connected.bind((part.source, 0))
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await connected.connect((address.host, address.port))
            raw = trio.SocketStream(connected)
            stream: trio.abc.Stream = raw
            if address.tls is not None and part.handshake:
                stream = trio.SSLStream(raw, address.tls, server_hostname=NAMES[0], https_compatible=True)
            for move in part.moves:
                await _make(move, raw, stream)


async def _make(move: Move, raw: trio.SocketStream, stream: trio.abc.Stream) -> None:
    match move:
        case "say", wire:
            await stream.send_all(wire)
        case "scrawl", wire:
            await raw.send_all(wire)
        case "pause", seconds:
            await trio.sleep(seconds)
        case "hear", (seconds, most):
            with trio.move_on_after(seconds):
                while await stream.receive_some(most):
                    if most <= LITTLE:
                        await trio.sleep(SWALLOW)
        case "end", _:
            await raw.send_eof()
        case "reset", _:
            reset(raw.socket)
        case _:
            raise AssertionError(move)


# -- judging --------------------------------------------------------------------------------------------------------


async def _counts(server: ServerProcess) -> dict[str, float]:
    """The present counts, with the connection that asks, which has no descriptor any more."""
    metrics = (await ask(server.address, "GET", "/metrics")).body
    found = {name: sample(metrics, f"chatserver_{name}") for name in COUNTS}
    return {**found, "descriptors": descriptors(server.process.pid)}


async def _as_before(server: ServerProcess, before: dict[str, float]) -> None:
    found = before

    async def again() -> bool:
        nonlocal found
        found = await _counts(server)
        return found == before

    try:
        await eventually(again)
    except trio.TooSlowError:
        raise AssertionError(f"the server began with {before} and has kept {found}") from None


async def _read_metrics(server: ServerProcess, report: Report) -> None:
    metrics = (await ask(server.address, "GET", "/metrics")).body
    assert sample(metrics, "chatserver_faults_total") == 0, server.errors[-5000:]
    assert sample(metrics, "chatserver_log_failures_total") == 0
    for line in metrics.decode().splitlines():
        if line.startswith("chatserver_closes_total{"):
            report.ended[line.split('"')[1]] = int(float(line.rpartition(" ")[2]))


def _resident(server: ServerProcess) -> int:
    statm = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(statm.split()[1]) * 4096


def _check_log(server: ServerProcess) -> None:
    """The log has no error, and no line that is not JSON."""
    for line in server.errors.splitlines():
        assert json.loads(line)["level"] not in ("error", "critical"), line


async def campaigns(folder: Path, assault: Assault) -> list[Report]:
    """Send the same peers to a server without TLS and to one with it, side by side."""
    reports: list[Report] = []

    async def one(*, secure: bool) -> None:
        place = folder / ("secure" if secure else "plain")
        place.mkdir()
        reports.append(await campaign(place, assault, secure=secure))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(one, secure=False))
        nursery.start_soon(partial(one, secure=True))
    return reports
