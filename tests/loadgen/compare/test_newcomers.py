"""Who is let in during an attack, by a server that lets everybody in, and by some that do not."""

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, cast

import pytest
import trio

from loadgen.compare import newcomers
from loadgen.compare.newcomers import Watch, threads
from loadgen.compare.process import Server
from loadgen.report import Sample

Handler = Callable[[trio.SocketStream], Awaitable[None]]


async def welcome(stream: trio.SocketStream) -> None:
    request = await stream.receive_some()
    assert request.startswith(b"GET /ws HTTP/1.1\r\n")
    assert b"Upgrade: websocket\r\n" in request
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


async def full(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


async def slam(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def ignore(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


class Standing:
    """What a watch looks at of a server: where it is, and its process."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pid = os.getpid()


def timeline(*phases: tuple[float, str]) -> list[Sample]:
    return [Sample(seconds=seconds, phase=phase, held={}, ended={}, refused={}) for seconds, phase in phases]


ALL_ATTACK: Final = timeline((0.0, "attack"), (1e9, "attack"))


@pytest.mark.parametrize(("handler", "served"), [(welcome, 100), (full, 0), (slam, 0), (ignore, 0)])
async def test_newcomers(handler: Handler, served: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "EVERY_SECONDS", 0.01)
    if handler is ignore:
        monkeypatch.setattr(newcomers, "PATIENCE_SECONDS", 0.05)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        standing = Standing(listener.socket.getsockname()[1])
        watch = Watch(cast(Server, standing), "/ws")
        nursery.start_soon(watch.run)
        with trio.fail_after(30):
            while watch.served_percent(ALL_ATTACK) is None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert watch.served_percent(ALL_ATTACK) == served
    assert watch.most_threads >= 1
    before = timeline((-2.0, "attack"), (-1.0, "attack"), (1e9, "recovery"))
    assert watch.served_percent(before) is None, "nobody came during that attack"
    assert watch.served_percent([]) is None


def test_threads() -> None:
    assert threads(os.getpid()) >= 1
    assert threads(2**22 + 1) == 0
