"""Whatever a server answers, and however it hangs up, no process of loadgen ends: personas and victims play on."""

from __future__ import annotations

import os
import re
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from itertools import count
from random import Random

import pytest
import trio
from wsproto.utilities import generate_accept_token

from loadgen.clients.cohort import Cohort, Place
from loadgen.clients.engine import Engine
from loadgen.clients.messages import Role
from loadgen.clients.traffic import Traffic
from loadgen.net import target
from loadgen.personas import registry
from loadgen.protocols import VICTIMS
from loadgen.report.latency import Lag
from loadgen.run.experiment import Probes
from loadgen.run.runner import ProbeRunner
from tests.loadgen.stage import answering, reset, until

_POLL = b'{"cursor":"e-1","messages":[]}'
_ANSWERS = (
    b"HTTP/1.1 200 X\r\nContent-Length: 30\r\n\r\n" + _POLL,
    b"HTTP/1.1 200 X\r\nContent-Length: 30\r\n\r\n" + _POLL.replace(b"e", b"\xff"),
    b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n-6\r\n" + _POLL,
    b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\ndata: {\n\ndata",
    b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 101 X\r\n\r\n",
    b"HTTP/1.0 404 X\r\n\r\nnothing here",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 1500,
    b"SSH-2.0-X\r\n\r\n",
    b"\x15\x03\x03\0\x02\x02\x46",
)
_TEXTS = (
    b'{"type":"joined","id":-1,"room":"lobby","cursor":"e-1"}', b'{"type":"joined","id":0}', b'{"type":"ack","id":1}',
    b'{"type":"error","id":1,"code":"bad"}', b'{"type":"message","offset":5,"text":"\xff"}', b'{"type":"gap"}',
    b'{"type":"message","offset":3}', b'{"type":3}', b"[" * 3000, b"null",
)  # fmt: skip
_KEY = re.compile(rb"sec-websocket-key: (\S+)", re.IGNORECASE)


def _frames(random: Random) -> bytes:
    texts = [b"\x81" + len(text).to_bytes(1) + text for text in random.choices(_TEXTS, k=3) if len(text) < 126]
    return b"".join([*texts, random.choice((b"\x89\0", b"\x88\x02\x03\xe8", b"\x81\x85", b"\x0f\0"))])


async def _serve(stream: trio.SocketStream, numbers: count[int]) -> None:
    random = Random(next(numbers))
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        while data := await stream.receive_some():
            answer = random.choice(_ANSWERS)
            if (key := _KEY.search(data)) and random.random() < 0.8:
                accept = generate_accept_token(key[1])
                answer = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                answer += b"Sec-WebSocket-Accept: %s\r\n\r\n%s" % (accept, _frames(random))
            os.write(stream.socket.fileno(), answer)
            if random.random() < 0.4:
                reset(stream)


def _serving() -> AbstractAsyncContextManager[int]:
    return answering(partial(_serve, numbers=count()))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_every_persona_plays_on(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _serving() as port, trio.open_nursery() as nursery:
        engine = Engine(target.find(f"{scheme}://127.0.0.1:{port}"), connect_rate=0.0)
        traffic = Traffic(Random(1), at=lambda when, action: None, lag=Lag())
        place = Place(host="x", rooms=("lobby",), poll_wait_seconds=0.3, random=Random(1), traffic=traffic)
        cohorts = []
        for persona in registry().values():
            monkeypatch.setattr(persona, "returns_seconds", 0.02)
            cohorts.append(Cohort(persona="", group="", kind=persona, engine=engine, place=place, wanted=4))
        nursery.start_soon(engine.run)
        engine.open([client for cohort in cohorts for client in cohort.make(4)])
        await until(lambda: all(cohort.opened or cohort.failed or cohort.refused for cohort in cohorts))
        for _ in range(30):
            traffic.start(0.001)
            await trio.sleep(0.03)
        connected = [client for client in engine._clients if client is not None]
        assert len(connected) == len(set(connected)), "no client has two connections"
        nursery.cancel_scope.cancel()


async def test_every_victim_plays_on() -> None:
    async with _serving() as port, trio.open_nursery() as nursery:
        runner = ProbeRunner(Role(target=target.find(f"http://127.0.0.1:{port}"), seed=1, connect_rate=0.0))
        nursery.start_soon(runner.run)
        asked = Probes(victims=dict.fromkeys(VICTIMS, 4), newcomers_per_s=100.0, timeout_seconds=0.5)
        runner.make(asked, interval_seconds=0.05)
        await trio.sleep(1.5)
        runner.stop()
        await runner.end(reread=True)
        assert all(result.expected == result.latency.count for result in runner.result().phases)
        nursery.cancel_scope.cancel()
