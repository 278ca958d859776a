"""The engine with clients that are no personas, against sockets that the test holds itself."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from loadgen import target
from loadgen.client import Client, Cohort, Place, Stage
from loadgen.engine import Engine
from loadgen.timers import now
from loadgen.wire import WireError


class Probe(Client):
    __slots__ = ()

    name = "probe"
    honest = True
    first: bytes = b"hello"
    received: bytes = b""

    def opening(self) -> bytes:
        return type(self).first

    def on_connected(self) -> None:
        self.hold()

    def on_data(self, data: bytes) -> None:
        type(self).received += data
        if data == b"garbage":
            raise WireError("garbage")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Probe.first, Probe.received = b"hello", b""


@contextmanager
def _listener(*, backlog: int = 16) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        listener.settimeout(10)
        yield listener


@asynccontextmanager
async def _engine(listener: socket.socket, persona: type[Client] = Probe) -> AsyncIterator[tuple[Engine, Cohort]]:
    engine = Engine(target.find(f"http://127.0.0.1:{listener.getsockname()[1]}"))
    place = Place(host="x", rooms=("lobby",), poll_wait_seconds=1.0, random=Random(1))
    cohort = Cohort(persona=persona, engine=engine, place=place, wanted=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        yield engine, cohort
        nursery.cancel_scope.cancel()


async def _until(ready: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not ready():  # noqa: ASYNC110  what is waited for has no event
            await trio.sleep(0.005)


async def test_a_large_opening_follows_as_the_peer_reads() -> None:
    Probe.first = os.urandom(8_000_000)
    with _listener() as listener:
        async with _engine(listener) as (engine, cohort):
            client = cohort.member(0)
            engine.open([client])
            peer, _ = await trio.to_thread.run_sync(listener.accept)
            assert client.stage is Stage.CONNECTING, "it is not held before all is sent"
            with peer, trio.socket.from_stdlib_socket(peer) as reader:
                got = bytearray()
                while len(got) < len(Probe.first):
                    got += await reader.recv(1 << 20)
                assert got == Probe.first
                await _until(lambda: cohort.held == 1)


async def test_a_server_that_stops_reading_is_given_up() -> None:
    with _listener() as listener:
        async with _engine(listener) as (engine, cohort):
            client = cohort.member(0)
            engine.open([client])
            peer, _ = await trio.to_thread.run_sync(listener.accept)
            await _until(lambda: cohort.held == 1)
            with peer:
                for _ in range(100):
                    client.send(b"x" * 1_000_000)
            assert cohort.ended == {"the server stopped reading": 1}
            assert client.stage is Stage.OVER


@pytest.mark.parametrize(
    ("reply", "reason"), [(b"", "closed"), (b"garbage", "garbage"), (None, "connection reset by peer")]
)
async def test_every_end_has_a_reason(reply: bytes | None, reason: str) -> None:
    with _listener() as listener:
        async with _engine(listener) as (engine, cohort):
            engine.open([cohort.member(0)])
            peer, _ = await trio.to_thread.run_sync(listener.accept)
            await _until(lambda: cohort.held == 1)
            with peer:
                if reply is None:  # hang up with the client's bytes unread
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    peer.recv(100)
                    peer.send(reply)
            await _until(lambda: not cohort.held)
            assert cohort.ended == {reason: 1}
            assert cohort.lifetime.count == 1


async def test_a_closed_port_refuses() -> None:
    with _listener() as listener:
        async with _engine(listener) as (engine, cohort):
            listener.close()
            engine.open([cohort.member(0)])
            await _until(lambda: engine.settled)
            assert cohort.refused == {"connection refused": 1}


async def test_a_silent_server_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patient(Probe):
        __slots__ = ()

        def on_connected(self) -> None:
            """Wait for an answer."""

    monkeypatch.setattr("loadgen.engine.OPEN_DEADLINE_SECONDS", 0.1)
    with _listener() as listener:
        async with _engine(listener, Patient) as (engine, cohort):
            engine.open([cohort.member(0)])
            await _until(lambda: engine.settled)
            assert cohort.failed == {"not established in 0.1 s": 1}


async def test_our_own_lack_of_descriptors_is_no_fault_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with _listener() as listener:
        async with _engine(listener) as (engine, cohort):
            monkeypatch.setattr(engine, "_socket", none_left)
            engine.open([cohort.member(0)])
            await _until(lambda: engine.settled)
            assert engine.own_faults == {"too many open files": 1}
            assert not cohort.refused


async def test_alarms_are_kept_when_nothing_else_happens() -> None:
    with _listener() as listener:
        async with _engine(listener) as (engine, _):
            with trio.fail_after(10):
                for _ in range(5):
                    await engine.sleep_until(now() - 1)
            assert engine.lag.count == 5


async def test_cancelling_closes_every_descriptor() -> None:
    def descriptors() -> set[str]:
        return {entry.name for entry in Path("/proc/self/fd").iterdir()}

    with _listener() as listener:
        before = descriptors()
        async with _engine(listener) as (engine, cohort):
            engine.open([cohort.member(index) for index in range(10)])
            await _until(lambda: cohort.held == 10)
        assert descriptors() <= before | {max(descriptors(), key=int)}  # listing the folder is a descriptor too
        assert cohort.held == 0
        assert not cohort.ended, "closing them ourselves is not their end"


async def test_the_rate_of_connections_is_kept() -> None:
    with _listener(backlog=4096) as listener:
        engine = Engine(target.find(f"http://127.0.0.1:{listener.getsockname()[1]}"), connect_rate=100.0)
        place = Place(host="x", rooms=("lobby",), poll_wait_seconds=1.0, random=Random(1))
        cohort = Cohort(persona=Probe, engine=engine, place=place, wanted=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            begun = trio.current_time()
            engine.open([cohort.member(index) for index in range(50)])
            await _until(lambda: cohort.held == 50)
            assert trio.current_time() - begun >= 0.45
            nursery.cancel_scope.cancel()
