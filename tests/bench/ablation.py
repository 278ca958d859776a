"""The effect of each mechanism of the core: the server with it and without it, in turns, under the load it is for.

How: for each mechanism `PAIRS` pairs of runs, each with a fresh server. The load comes from another process and from
other networks than the victims: twenty WebSockets that ping every 20 ms, and a newcomer every 50 ms that connects,
upgrades, pings and leaves. A row has the medians of both p99, and the share of the processors that the host took; above
4% the row means nothing.
What would fool it: two cores for three processes. A difference below the spread of five runs means nothing.

    python -m tests.bench.ablation            all of them, a minute each
    python -m tests.bench.ablation networks   one of them
"""

import json
import os
import random
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from chatserver import fair
from chatserver.net import poller, scheduler
from chatserver.net.states import Priority
from loadgen import procfs
from tests.support.peers import say, upgrade

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 5
SECONDS = 5.0
VICTIMS = 20
_PING = say(type="ping")


# -- functions that switch a mechanism off, run in the server's process before it starts ----------------------------


def _without_networks() -> None:
    push = fair.FairQueue.push
    fair.FairQueue.push = lambda self, network, entry: push(self, "", entry)  # type: ignore[method-assign]


def _without_bulk() -> None:
    init = scheduler.Scheduler.__init__

    def in_one_class(self: scheduler.Scheduler, **options: object) -> None:
        init(self, **options)  # type: ignore[arg-type]
        first, normal, _ = self._queues
        self._queues = (first, normal, normal)
        self._shares = self._shares[: Priority.BULK]

    scheduler.Scheduler.__init__ = in_one_class  # type: ignore[method-assign]


def _without_newly_come_first() -> None:
    fair.CREDIT = 1
    push = fair.FairQueue.push

    def behind(self: fair.FairQueue[object], network: str, entry: object) -> None:
        push(self, network, entry)
        while self._fresh:
            self._lines[self._fresh[0]].credit = 0
            self._turns.append(self._fresh.popleft())

    fair.FairQueue.push = behind  # type: ignore[method-assign,assignment]


def _without_accepting_first() -> None:
    submit = scheduler.Scheduler.submit

    def among_all(self: scheduler.Scheduler, priority: Priority, *rest: object) -> None:
        submit(self, Priority.NORMAL if priority is Priority.FIRST else priority, *rest)  # type: ignore[arg-type]

    scheduler.Scheduler.submit = among_all  # type: ignore[method-assign,assignment]


def _without_passes() -> None:
    poller.PASS = poller.SHARE = 0.0


def _without_longer_passes() -> None:
    poller.SHARE = 0.0


def _with_large_reads() -> None:
    poller.READ_BYTES = 16 * 1024
    poller._SHORT = (poller._BUFFER[: poller.READ_BYTES],)


MECHANISMS: dict[str, tuple[Callable[[], None], str]] = {
    "networks": (_without_networks, "one-crowd"),
    "bulk": (_without_bulk, "floods"),
    "newly-come-first": (_without_newly_come_first, "floods"),
    "accepting-first": (_without_accepting_first, "newcomers"),
    "passes": (_without_passes, "floods"),
    "longer-passes": (_without_longer_passes, "churn"),
    "short-reads": (_with_large_reads, "floods"),
}


# -- loads ----------------------------------------------------------------------------------------------------------


def _connect(port: int, network: int) -> socket.socket:
    peer = socket.socket()
    peer.bind((f"127.0.{network}.{random.randint(1, 250)}", 0))
    peer.connect(("127.0.0.1", port))
    return peer


def _connect_from_one(port: int, _: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), source_address=("127.0.9.9", 0))


def _flood(port: int, until: float, number: int = 200, connect: Callable[[int, int], socket.socket] = _connect) -> None:
    """WebSockets that send chat.v1 pings as fast as the server reads, and reconnect at once."""

    def begin() -> socket.socket:
        peer = connect(port, 10 + random.randrange(16))
        peer.sendall(upgrade())
        peer.setblocking(False)
        return peer

    peers = deque(begin() for _ in range(number))
    many = _PING * 16
    while time.monotonic() < until:
        peer = peers.popleft()
        if _is_over(peer, many):
            peer.close()
            peer = begin()
        peers.append(peer)


def _is_over(peer: socket.socket, data: bytes) -> bool:
    """Send once more; return whether the server has closed the connection."""
    try:
        if not peer.recv(1 << 16):
            return True
    except BlockingIOError:
        pass
    except OSError:
        return True
    try:
        peer.send(data)
    except BlockingIOError:
        pass
    except OSError:
        return True
    return False


def _one_crowd(port: int, until: float) -> None:
    """The same from one address, with fewer peers than its cap: closed connections count for a while."""
    _flood(port, until, 100, _connect_from_one)


def _newcomers(port: int, until: float) -> None:
    """Peers that connect, upgrade and leave at once."""
    while time.monotonic() < until:
        peers = [_connect(port, 10 + number % 16) for number in range(100)]
        for peer in peers:
            peer.sendall(upgrade())
        for peer in peers:
            peer.close()


def _churn(port: int, until: float) -> None:
    """Two thousand members of one room that leave together and come back."""
    while time.monotonic() < until:
        peers = [_connect(port, 10 + number % 16) for number in range(2000)]
        for peer in peers:
            peer.sendall(upgrade() + say(type="join", room="churn"))
        time.sleep(0.5)
        for peer in peers:
            peer.close()
        time.sleep(0.3)


LOADS: dict[str, Callable[[int, float], None]] = {
    "floods": _flood,
    "one-crowd": _one_crowd,
    "newcomers": _newcomers,
    "churn": _churn,
}


# -- victims --------------------------------------------------------------------------------------------------------


def _newcomers_beside(port: int, until: float, found: list[float]) -> None:
    """Connect, upgrade, ping and leave every 50 ms, and record the seconds of each."""
    due = time.monotonic()
    while due < until:
        time.sleep(max(0.0, due - time.monotonic()))
        with _connect(port, 210) as peer:
            peer.sendall(upgrade() + _PING)
            answer = b""
            while b"pong" not in answer:
                data = peer.recv(1 << 16)
                if not data:
                    raise ConnectionError(f"a newcomer was hung up on after {answer!r}")
                answer += data
        found.append(time.monotonic() - due)
        due = max(due + 0.05, time.monotonic() - 0.05)


def _victims(port: int, until: float) -> tuple[list[float], list[float]]:
    """Seconds of each member's ping from when it was due, and of each newcomer."""
    selector = selectors.DefaultSelector()
    for number in range(VICTIMS):
        peer = _connect(port, 200 + number % 4)
        peer.sendall(upgrade())
        peer.recv(1 << 16)
        peer.setblocking(False)
        selector.register(peer, selectors.EVENT_READ, deque[float]())
    members: list[float] = []
    newcomers: list[float] = []
    beside = threading.Thread(target=_newcomers_beside, args=(port, until, newcomers))
    beside.start()
    due = time.monotonic()
    while (now := time.monotonic()) < until:
        if now >= due:
            for key in list(selector.get_map().values()):
                key.data.append(due)
                key.fileobj.send(_PING)  # type: ignore[union-attr]
            due += 0.02
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            pongs = key.fileobj.recv(1 << 16).count(b'"pong"')  # type: ignore[union-attr]
            now = time.monotonic()
            members += [now - key.data.popleft() for _ in range(min(pongs, len(key.data)))]
    for key in list(selector.get_map().values()):
        members += [until - sent for sent in key.data]  # never answered
        key.fileobj.close()  # type: ignore[union-attr]
    beside.join()
    return members, newcomers


def _p99(seconds: list[float]) -> float:
    """The 99th percentile in milliseconds."""
    return statistics.quantiles(seconds, n=100)[-1] * 1000


# -- runs -----------------------------------------------------------------------------------------------------------


def _run(mechanism: str, load: str, *, off: bool) -> tuple[float, float]:
    """The p99 of members and of newcomers, in milliseconds."""
    flags = ["--port", "0", "--log", "memory:", "--quiet"]
    command = [sys.executable, "-m", "tests.bench.ablation", "--serve", mechanism if off else "nothing", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        begin = time.monotonic()
        attack = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.ablation", "--load", load, str(port), str(SECONDS + 1)], cwd=ROOT
        )
        time.sleep(1.0)
        members, newcomers = _victims(port, begin + 1.0 + SECONDS)
        attack.wait()
        for _ in range(2):
            server.send_signal(signal.SIGTERM)
            time.sleep(0.2)
    return _p99(members), _p99(newcomers)


def measure(mechanism: str) -> Iterator[str]:
    _, load = MECHANISMS[mechanism]
    before = procfs.ticks()
    runs: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(PAIRS):
        for off in (False, True):
            runs[off].append(_run(mechanism, load, off=off))
    with_it, without = ([statistics.median(side) for side in zip(*runs[off], strict=True)] for off in (False, True))
    stolen = procfs.stolen_percent(before, procfs.ticks())
    yield (
        f"| {mechanism} | {load} | {with_it[0]:.1f} / {with_it[1]:.1f} | {without[0]:.1f} / {without[1]:.1f} |"
        f" {stolen}% | {json.dumps([[round(p, 1) for p in run] for run in runs[True]])} |"
    )


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--serve"]:
        if arguments[1] in MECHANISMS:
            MECHANISMS[arguments[1]][0]()
        from chatserver.cli import run_command

        sys.exit(run_command(["serve", *arguments[2:]]))
    if arguments[:1] == ["--load"]:
        os.nice(5)
        LOADS[arguments[1]](int(arguments[2]), time.monotonic() + float(arguments[3]))
        return
    print("| mechanism | load | with it: p99 of members / newcomers, ms | without | host took | runs without |")
    for mechanism in arguments or MECHANISMS:
        for row in measure(mechanism):
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
