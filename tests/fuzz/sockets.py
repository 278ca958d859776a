"""Invariant: after hundreds of random peers a real server's counts are as in the beginning, it has met no fault of its
own, its healthy neighbours noticed nothing, and it drains cleanly while peers are still connected.

Owns: what a peer does (the same seed and number give the same choices; they are exchanges of `grammar`, mixed, damaged
and cut), and the judgement of one server process. May not: reach into the server; its counts come from /metrics, and
what it holds from the kernel.
"""

import contextlib
import json
import signal
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from random import Random

import trio

from tests.fuzz.grammar import (
    BYTES_OF_NOTE,
    FRAMES,
    RIGHT_FRAMES,
    RIGHT_REQUESTS,
    ROOMS,
    WRONG_FRAMES,
    WRONG_REQUESTS,
    publish,
    spoil,
)
from tests.fuzz.neighbours import neighbours
from tests.support.certificates import NAMES, certificate
from tests.support.parked import descriptors, reset
from tests.support.peers import Address, ask, chatter, upgrade
from tests.support.peers import publish as publish_over_http
from tests.support.serving import ServerProcess, sample, server_process, until

#: Peers at a time: more than there are places, so that admission and eviction always have work.
AT_ONCE = 120
#: Peers that are still busy when SIGTERM comes, and how many come after it.
STAYING, LATE = 60, 20
#: Seconds after which a peer ends, whatever it does; and for which one in fifty does nothing at the end, and receives
#: nothing: longer than all deadlines but drain's.
PEER_LIFE, STAY, STAYS = 20.0, 10.0, 0.02
#: Seconds: most pauses are zero, some nearly reach a deadline of the server, a few pass it.
PAUSES = (0.0,) * 12 + (0.001, 0.01, 0.05, 0.3, 1.5)
#: Seconds for which a peer receives, at the end or in between.
EARS = (0.0, 0.05, 0.2, 1.0, 3.0)
#: Bytes that a peer receives at a time; after a small piece it pauses, so that it is slow and not busy.
SIPS, LITTLE, SWALLOW = (100, 1_000, 65_536), 1_000, 0.01
#: Bytes of a receive buffer; 0 is the system's own.
WINDOWS = (0, 0, 0, 2304, 8192)
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


async def campaigns(folder: Path, seed: int, *, seconds: float = 0.0, peers: int = 0) -> list[str]:
    """Send the same peers to a server without TLS and to one with it, side by side: as many as start in a time, or a
    number of them. Returns a line on each server.
    """
    reports: list[str] = []

    async def one(kind: str) -> None:
        place = folder / kind
        place.mkdir()
        tls = certificate(place) if kind == "TLS" else None
        reports.append(f"{kind}: {await campaign(place, seed, seconds=seconds, peers=peers, tls=tls)}")

    async with trio.open_nursery() as nursery:
        for kind in ("plain", "TLS"):
            nursery.start_soon(one, kind)
    return reports


async def campaign(folder: Path, seed: int, *, seconds: float, peers: int, tls: tuple[str, str] | None) -> str:
    """Test one server from its start to its end."""
    flags = ("--log", f"sqlite:{folder / 'chat.db'}", *(("--tls-cert", tls[0], "--tls-key", tls[1]) if tls else ()))
    is_forked = not seconds  # in the suite; `make fuzz` tests the program as it is started
    async with server_process(folder, *FLAGS, *flags, life=seconds + 300.0, is_forked=is_forked) as server:
        address = server.address
        await publish_over_http(address, "lobby", "the first")
        async with chatter(address) as friend:  # what is made once is made now
            await friend.ask("join", room="lobby")
            await friend.ask("history", room="ops")
            await friend.close()
        before, size = await _counts(server), _resident(server)
        async with neighbours(address) as heard:
            # In a loop of its own: a neighbour over TLS needs two passes for each record, and beside so many peers it
            # would take longer to come to a ping than a pong may.
            attack = partial(trio.run, _attack, address, seed, seconds, range(peers) if peers else count())
            came = await trio.to_thread.run_sync(attack, abandon_on_cancel=True)
        assert len(set(heard.values())) == 1, "the neighbours received different numbers of messages"
        await until(partial(_counts, server), before.__eq__)
        ended = await _ends(server)
        assert sum(ended.values()) > came / 2, "less than half of the peers connected"
        growth = _resident(server) - size
        assert growth < GROWTH, f"the server grew by {growth / 1e6:.1f} MB"
        await _drain_under_fire(server, seed)
        for line in server.errors.splitlines():
            assert json.loads(line)["level"] not in ("error", "critical"), line
    return f"{came} peers; neighbours heard {heard}; the server grew by {growth / 1e6:.1f} MB; ended: {ended}"


async def _attack(address: Address, seed: int, seconds: float, numbers: Iterable[int]) -> int:
    """Let peers come; their number."""
    coming, came = iter(numbers), 0
    over = trio.current_time() + (seconds or float("inf"))

    async def play_on() -> None:
        nonlocal came
        for number in coming:
            came += 1
            await play(address, seed, number)
            if trio.current_time() >= over:
                return

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(play_on)
    return came


async def _drain_under_fire(server: ServerProcess, seed: int) -> None:
    """Send SIGTERM while peers are connected and more come."""
    async with trio.open_nursery() as nursery:
        for number in range(-STAYING, 0):
            nursery.start_soon(play, server.address, seed, number)
        await trio.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        for number in range(-STAYING - LATE, -STAYING):
            nursery.start_soon(play, server.address, seed, number)
        code = await server.ended()
        nursery.cancel_scope.cancel()
    assert code == 0, f"exit code {code}: {server.errors[-2000:]}"


# -- one peer -------------------------------------------------------------------------------------------------------


async def play(address: Address, seed: int, number: int) -> None:
    """Be one peer until it has enough, or the server closes."""
    rng = Random(f"{seed} {number}")
    # Most peers come from one address.
    source = rng.choice(("127.0.1.1", "127.0.1.1", f"127.0.1.{rng.randrange(2, 5)}", f"127.0.2.{rng.randrange(1, 30)}"))
    with trio.move_on_after(PEER_LIFE), trio.socket.socket() as connected:
        if window := rng.choice(WINDOWS):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        await connected.bind((source, 0))
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await connected.connect((address.host, address.port))
            raw = trio.SocketStream(connected)
            stream: trio.abc.Stream = raw
            if rng.random() < 0.8 and address.tls is not None:  # else it speaks no TLS
                stream = trio.SSLStream(raw, address.tls, server_hostname=NAMES[0], https_compatible=True)
            for wire in _wires(rng):
                for piece in _cut(rng, wire):
                    await stream.send_all(piece)
                    await trio.sleep(rng.choice(PAUSES))
                if rng.random() < 0.3:
                    await _hear(rng, stream)
                if rng.random() < 0.02:
                    await raw.send_all(rng.randbytes(rng.randrange(1, 60)))
            await _end(rng, raw, stream)


async def _hear(rng: Random, stream: trio.abc.Stream) -> None:
    most = rng.choice(SIPS)
    with trio.move_on_after(rng.choice(EARS)):
        while await stream.receive_some(most):
            if most <= LITTLE:
                await trio.sleep(SWALLOW)


async def _end(rng: Random, raw: trio.SocketStream, stream: trio.abc.Stream) -> None:
    """Stay silent, or hear some more, end with FIN, reset, or just close."""
    if rng.random() < STAYS:
        await trio.sleep(STAY)
        return
    for move in rng.choice((["hear"], ["hear"], ["reset"], ["hear", "reset"], ["fin", "hear"], ["fin"], ["pause"], [])):
        match move:
            case "hear":
                await _hear(rng, stream)
            case "fin":
                await raw.send_eof()
            case "reset":
                reset(raw.socket)
            case "pause":
                await trio.sleep(rng.choice(EARS))


def _wires(rng: Random) -> Iterator[bytes]:
    """What a peer sends: nothing, requests, frames, more publishes than a room's members are told of at once, noise."""
    kind = rng.choice(("nothing", *["requests"] * 2, *["frames"] * 3, *["publishes"] * 2, *["noise"]))
    if kind == "requests":
        for _ in range(rng.randrange(1, 5)):
            yield _spoil(rng, _choose(rng, RIGHT_REQUESTS, WRONG_REQUESTS))
    elif kind == "frames":
        joins = FRAMES[rng.choice(("join lobby", "join all", "join lobby from the beginning"))]
        said = [_choose(rng, RIGHT_FRAMES, WRONG_FRAMES) for _ in range(rng.randrange(12))]
        if rng.random() < 0.3:
            yield b"".join((upgrade(), joins, *said))
        else:
            yield from (_spoil(rng, upgrade(), 0.05), joins, *(_spoil(rng, wire, 0.1) for wire in said))
    elif kind == "publishes":
        frames = rng.random() < 0.6
        said_often = publish(rng.choice(ROOMS), frames=frames) * rng.choice((5, 40, 100))
        yield upgrade() + FRAMES["join all"] + said_often if frames else said_often
    elif kind == "noise":
        for _ in range(rng.randrange(1, 4)):
            yield rng.randbytes(rng.choice((1, 5, 100, 5000)))


def _choose(rng: Random, right: dict[str, bytes], wrong: dict[str, bytes]) -> bytes:
    """A sample, more often a right one: a wrong one ends the connection."""
    return rng.choice(list((right if rng.random() < 0.7 else wrong).values()))


def _spoil(rng: Random, wire: bytes, likely: float = 0.4) -> bytes:
    while rng.random() < likely:
        added = rng.choice((*BYTES_OF_NOTE, b"", rng.randbytes(1)))
        wire = spoil(wire, [(rng.randrange(len(wire) + 1), rng.randrange(4), added)])
    return wire


def _cut(rng: Random, wire: bytes) -> list[bytes]:
    """Usually one piece; else a few, or the first bytes one by one."""
    kind = rng.random()
    if kind < 0.6:
        return [wire]
    edges = {0, len(wire)}
    if kind < 0.9:
        edges.update(rng.randrange(len(wire) + 1) for _ in range(rng.randrange(1, 4)))
    else:
        edges.update(range(min(rng.randrange(1, 40), len(wire))))
    return [wire[start:end] for start, end in pairwise(sorted(edges))]


# -- judging --------------------------------------------------------------------------------------------------------


async def _counts(server: ServerProcess) -> dict[str, float]:
    """The present counts, with the connection that asks, which has no descriptor any more."""
    metrics = (await ask(server.address, "GET", "/metrics")).body
    found = {name: sample(metrics, f"chatserver_{name}") for name in COUNTS}
    return {**found, "descriptors": descriptors(server.process.pid)}


async def _ends(server: ServerProcess) -> dict[str, int]:
    """The number of connections that ended, by reason. The server has met no fault."""
    metrics = (await ask(server.address, "GET", "/metrics")).body
    assert sample(metrics, "chatserver_faults_total") == 0, server.errors[-5000:]
    assert sample(metrics, "chatserver_log_failures_total") == 0
    lines = [line for line in metrics.decode().splitlines() if line.startswith("chatserver_closes_total{")]
    ended = {line.split('"')[1]: int(float(line.rpartition(" ")[2])) for line in lines}
    return {reason: number for reason, number in sorted(ended.items()) if number}


def _resident(server: ServerProcess) -> int:
    statm = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(statm.split()[1]) * 4096
