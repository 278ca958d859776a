"""A whole crowd when the server stops: every kind of client, and a third that never reads.

    DRAIN_CLIENTS=5000 python -m pytest -s tests/attacks/test_drain_crowd.py

plays it with as many (`ulimit -n 20000`), and says how long it took.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.bench import wire
from tests.bench.clients import Client, Crowd, Step
from tests.support.peers import PATIENCE
from tests.support.serving import free_flags, server_process

CLIENTS = int(os.environ.get("DRAIN_CLIENTS", "300"))
#: Seconds; so the server has to end while a third has not taken anything.
DRAIN_TIMEOUT = 4.0
FLAGS = ("--drain-timeout", f"{DRAIN_TIMEOUT:g}", "--send-buffer", "4096", "--close-deadline", "1")
TRAFFIC = 30  # messages of 8 KB, so that whoever does not read is behind

WEBSOCKET, POLL, EVENTS, IDLE, HEAD = "websocket", "poll", "events", "idle", "head"
GOAWAY = re.compile(rb'"reason":"restart","retry_after":([0-9.]+)}\x88.\x03\xf4')
RETRY_AFTER = re.compile(rb"Retry-After: (\d+)\r\n")
RETRY = re.compile(rb"retry: (\d+)\n\n$")


class Hearing:
    """What came for a client after the signal."""

    def __init__(self) -> None:
        self.after: dict[Client, bytes] = {}
        self.on = False

    def __call__(self, client: Client, data: bytes) -> None:
        if self.on:
            self.after[client] = self.after.get(client, b"") + data


def steps(kind: str, crowd: Crowd) -> Sequence[Step]:
    address = crowd.address
    return {
        WEBSOCKET: [Step(wire.upgrade(address), b'"hello"'), Step(wire.join("busy"), b'"joined"')],
        POLL: [Step(wire.get(address, "/rooms/quiet/messages?after=0&wait=60"), b"")],
        EVENTS: [Step(wire.get(address, "/rooms/busy/events"), b"retry")],
        IDLE: [Step(wire.get(address, "/healthz"), b"ok")],
        HEAD: [Step(wire.get(address, "/")[:-2] + b"X-a: b\r\n", b"")],
    }[kind]


def fill(crowd: Crowd) -> None:
    """Say so much in the busy room that whoever does not read is behind."""
    acknowledged = 0

    def count(client: Client, data: bytes) -> None:
        nonlocal acknowledged
        acknowledged += data.count(b'"ack"')

    (speaker,) = crowd.open(1, [Step(wire.upgrade(crowd.address), b'"hello"')], count)
    for number in range(TRAFFIC):
        speaker.socket.send(wire.publish("busy", "x" * 8_000))
        until(crowd, lambda number=number: acknowledged > number)  # type: ignore[misc]
    crowd.hang_up([speaker])
    crowd.run(0.5)


def until(crowd: Crowd, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        crowd.turn(0.02)


@pytest.mark.slow
async def test_a_crowd_of_which_a_third_never_reads(tmp_path: Path) -> None:
    each = CLIENTS // 9
    async with server_process(tmp_path, *free_flags(tmp_path, *FLAGS)) as server:
        with Crowd((server.address.host, server.address.port)) as crowd:
            hearing = Hearing()
            readers = {
                kind: crowd.open(each, steps(kind, crowd), hearing) for kind in (WEBSOCKET, POLL, EVENTS, IDLE, HEAD)
            }
            readers[WEBSOCKET] += crowd.open(each, steps(WEBSOCKET, crowd), hearing)
            for kind in (WEBSOCKET, EVENTS):
                crowd.deafen(crowd.open(each, steps(kind, crowd), None, receive_buffer=2048))
            pages = Step(wire.get(crowd.address, "/chat.js") * 50, b"200 OK")
            crowd.deafen(crowd.open(each, [pages], None, receive_buffer=2048))
            fill(crowd)

            hearing.on = True
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            until(crowd, lambda: server.process.returncode is not None)
            took = time.monotonic() - began
            crowd.run(0.2)
            print(f"\n{CLIENTS} clients, {3 * each} of them deaf: the server ended after {took:.1f} s")
    assert server.process.returncode == 0, server.errors
    assert '"stopped"' in server.errors
    assert '"fault"' not in server.errors

    told = {kind: [hearing.after.get(client, b"") for client in clients] for kind, clients in readers.items()}
    assert [text for text in told[IDLE] if text] == [], "nothing can be said on an idle connection"
    assert all(text.startswith(b"HTTP/1.1 200 OK\r\n") for text in told[POLL])
    assert all(text.startswith(b"HTTP/1.1 503 ") and b'"draining"' in text for text in told[HEAD])
    for kind, pattern, unit in (
        (WEBSOCKET, GOAWAY, 1),
        (POLL, RETRY_AFTER, 1),
        (HEAD, RETRY_AFTER, 1),
        (EVENTS, RETRY, 1000),
    ):
        found = [pattern.search(text) for text in told[kind]]
        assert all(found), (kind, [text for text in told[kind] if not pattern.search(text)][:1])
        waits = sorted(float(match[1]) / unit for match in found if match)
        assert 1 <= waits[0] < waits[-1] <= 6, kind
        assert waits[-1] - waits[0] >= 2, "over a window, not all at once"
