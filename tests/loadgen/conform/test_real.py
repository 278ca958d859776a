"""Real servers: ours is never wrong, and `websockets` does what was measured."""

from contextlib import suppress
from functools import partial
from pathlib import Path

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

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


async def test_websockets_keeps_to_the_rfc_once_it_is_open() -> None:
    async def echo(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await connection.send(await connection.recv())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, echo, 0, host="127.0.0.1", max_size=1 << 20))
        where = target.find(f"http://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}")
        report = await play(Options(target=where, path="/"), SHORT, Progress())
        nursery.cancel_scope.cancel()
    assert only(report, "wrong") == {"0.16", "0.17"}, reasons(report)
    assert "400 without sec-websocket-version" in reasons(report)["0.16"]
    assert {"1.4.1", "1.4.2", "7.1.5", *LATE} <= only(report, "non-strict")
    assert only(report, "not exercised") == set()
