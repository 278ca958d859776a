"""Real servers: ours is never wrong, and `websockets` does what docs/loadgen.md says."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from loadgen.conform.suite import play, select
from loadgen.conform.summary import Options
from loadgen.net import target
from loadgen.report.schema import Outcome
from loadgen.run.progress import Progress
from tests.loadgen.conform.marks import only, reasons
from tests.support.certificates import certificate
from tests.support.serving import serving

#: All cases except the long ones.
SHORT = tuple(case for case in select(()) if case.family != "9")

#: Both servers check text only when it is complete.
LATE = {f"6.4.{number}" for number in range(1, 5)}


async def test_ours_does_what_the_rfc_wants() -> None:
    async with serving(echo=True, max_message_bytes=1 << 19) as server:
        where = target.find(f"http://{server.address.host}:{server.address.port}")
        report = await play(Options(target=where, path="/echo"), SHORT, Progress())
    assert report.outcome is Outcome.HELD
    assert only(report, "ok") == {case.id for case in SHORT} - LATE, reasons(report)
    assert only(report, "non-strict") == LATE


async def test_over_tls_the_cases_are_the_same(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    cases = select(["0.2,1.1.8,1.3.1,2.11,6.2.3,7.1.1,7.9.1"])
    async with serving(echo=True, tls_cert=cert, tls_key=key, max_message_bytes=1 << 17) as server:
        where = target.find(f"https://{server.address.host}:{server.address.port}")
        report = await play(Options(target=where, path="/echo"), cases, Progress())
    assert only(report, "ok") == {case.id for case in cases}, reasons(report)


@contextmanager
def websockets_echo() -> Iterator[int]:
    """The library's own asyncio server, in a thread; its port."""
    loop, ports, stop = asyncio.new_event_loop(), list[int](), asyncio.Event()
    ready = threading.Event()

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, max_size=1 << 20) as server:
            ports.append(next(iter(server.sockets)).getsockname()[1])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(20)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def test_websockets_keeps_to_the_rfc_once_it_is_open() -> None:
    with websockets_echo() as port:
        report = await play(Options(target=target.find(f"http://127.0.0.1:{port}"), path="/"), SHORT, Progress())
    assert only(report, "wrong") == {"0.16", "0.17"}, reasons(report)
    assert "400 without sec-websocket-version" in reasons(report)["0.16"]
    assert {"1.4.1", "1.4.2", "7.1.5", *LATE} <= only(report, "non-strict")
    assert only(report, "not exercised") == set()
