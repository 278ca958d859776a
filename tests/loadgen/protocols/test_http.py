"""Plain requests at a rate: one at a time on a connection, timed from when they were due."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from loadgen import experiment, target
from loadgen.line import GarbledError
from loadgen.personas import registry
from loadgen.player import Player
from loadgen.preflight import InvalidRunError
from loadgen.protocols.chat_v1 import StreamVictim
from loadgen.protocols.http import HttpPeer
from loadgen.target import Endpoint
from loadgen.traffic import Traffic
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import OperationFailedError
from tests.loadgen.planted import planted
from tests.loadgen.plays import is_sound, plan
from tests.loadgen.protocols.speaking import schedule, send
from tests.loadgen.stage import Play, Server, answer, answering, listening, parsed, playing, read_until, reset, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
POST = Endpoint(asked="/api", method="POST", fields=("Authorization: Bearer t",), body=b"{}")


def _whole(data: bytes) -> bool:
    return data.endswith(b"\r\n\r\n")


@asynccontextmanager
async def requesting(**place: Any) -> AsyncIterator[tuple[Server, trio.SocketStream, Play, Traffic]]:
    """A server, its end of a connection on which requests are sent when the test says so, and the schedule."""
    traffic = schedule()
    async with listening() as server, playing(server.url, "request", traffic=traffic, **place) as play:
        stream = await server.accept()
        await until(lambda: play.cohort.held == 1)
        yield server, stream, play, traffic


async def test_one_request_at_a_time_and_the_next_waits() -> None:
    async with requesting() as (_, stream, play, traffic):
        send(traffic, 2)
        request, _ = parsed(await read_until(stream, _whole))
        assert (request.method, request.target) == (b"GET", b"/")
        with trio.move_on_after(0.05):
            assert not await stream.receive_some(), "the second waits for the first one's answer"
        assert traffic.result().unacknowledged == 2
        await stream.send_all(OK)
        parsed(await read_until(stream, _whole))
        await stream.send_all(OK)
        await until(lambda: traffic.booked.acks.count == 2)
        assert not traffic.outstanding
        assert play.cohort.connects.count == play.cohort.handshakes.count == 1


async def test_what_is_asked_is_what_was_said() -> None:
    async with requesting(endpoint=POST) as (_, stream, _, traffic):
        send(traffic)
        data = await read_until(stream, lambda data: data.endswith(b"{}"))
        request, _ = parsed(data)
        assert (request.method, request.target) == (b"POST", b"/api")
        assert dict(request.headers)[b"authorization"] == b"Bearer t"
        assert dict(request.headers)[b"content-length"] == b"2"


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", {"answered 500": 1}),
        (b"", {"closed": 1}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", {"closed": 1}),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", {}),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", {}),  # the connection closes, though it does not say so
    ],
)
async def test_how_an_answer_is_booked(answer: bytes, errors: dict[str, int]) -> None:
    async with requesting() as (server, stream, play, traffic):
        send(traffic)
        await read_until(stream, _whole)
        await stream.send_all(answer)
        if "closed" in errors:
            await stream.aclose()
        await until(lambda: not traffic.outstanding)
        assert dict(traffic.booked.errors) == errors
        if b"close" in answer or b"/1.0" in answer or "closed" in errors:
            send(traffic)
            await server.accept()  # it comes again when it is needed
            await until(lambda: play.cohort.opened == 2)
        assert not play.cohort.ended
        assert not play.cohort.failed


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_may_end_with_the_connection(version: str) -> None:
    """As a server says it that does not know the length before: an HTTP/1.0 one, or a proxy of one."""
    async with requesting() as (_, stream, play, traffic):
        send(traffic)
        await read_until(stream, _whole)
        await stream.send_all(f"HTTP/{version} 200 OK\r\n\r\nhel".encode())
        await stream.send_all(b"lo")
        await stream.aclose()
        await until(lambda: traffic.booked.acks.count == 1)
        assert not traffic.booked.errors
        assert not play.cohort.ended


async def test_an_answer_to_head_has_no_body() -> None:
    async with requesting(endpoint=Endpoint(method="HEAD")) as (_, stream, _, traffic):
        send(traffic)
        await read_until(stream, _whole)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        await until(lambda: traffic.booked.acks.count == 1)


async def test_an_idle_connection_that_is_ended_is_not_held_and_comes_back_when_needed() -> None:
    """A server that ends all idle ones was reconnected to thousands of times a second, and said to hold them."""
    async with requesting() as (server, first, play, traffic):
        await first.aclose()
        await until(lambda: play.cohort.held == 0)
        await trio.sleep(0.05)
        assert play.cohort.opened == 1
        send(traffic)
        second = await server.accept()
        await read_until(second, _whole)
        await second.send_all(OK)
        await until(lambda: traffic.booked.acks.count == 1)
        assert (play.cohort.held, play.cohort.opened) == (1, 2)


async def test_a_connection_that_is_reset_behind_an_answer_is_replaced_once() -> None:
    """It was reopened twice: for what it heard, and for the write that failed before."""
    async with requesting() as (server, stream, _, traffic):
        send(traffic, 3)
        await read_until(stream, _whole)
        os.write(stream.socket.fileno(), OK)
        reset(stream)
        await read_until(await server.accept(), _whole)
        with trio.move_on_after(0.1):
            raise AssertionError(await server.accept())


async def _page(context: Context, peer: HttpPeer) -> None:
    await peer.request("GET", "/")


async def _events(context: Context, peer: HttpPeer) -> None:
    await StreamVictim(context, 0, Schedule(0.0, 1.0))._listen(peer, task_status=trio.TASK_STATUS_IGNORED)


@pytest.mark.parametrize(
    ("ask", "limit", "error", "what"),
    [
        (_page, "protocols.http.MAX_BODY_BYTES", GarbledError, "an answer"),
        (_events, "wire.MAX_LINE_BYTES", OperationFailedError, "a line"),
    ],
)
async def test_an_answer_without_end_is_a_failure(
    ask: Callable[[Context, HttpPeer], Awaitable[None]], limit: str, error: type[Exception], what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Fifty victims of an endless page took all memory of the machine."""
    monkeypatch.setattr(f"loadgen.{limit}", 1000)
    async with listening() as server:
        context = Context(target.find(server.url), "t")
        async with context.dial(0) as line:
            await (await server.accept()).send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001))
            with pytest.raises(error, match=f"{what} of more than 1,000 bytes"):
                await ask(context, HttpPeer(line, context))


async def test_fields_of_the_command_line_replace_our_own() -> None:
    """They were sent twice, and a server may refuse two of them."""
    fields = ("user-agent: mine", "Host: other")
    async with listening() as server:
        context = Context(target.find(server.url), "t", endpoint=Endpoint(fields=fields))
        async with context.dial(0) as line, trio.open_nursery() as nursery:
            stream = await server.accept()
            nursery.start_soon(HttpPeer(line, context).request, "GET", "/")
            request, _ = parsed(await read_until(stream, _whole))
            assert sorted(request.headers) == [(b"host", b"other"), (b"user-agent", b"mine")]
            await stream.send_all(OK)


async def test_load_at_a_rate_is_measured() -> None:
    load = experiment.honest_load({registry()["request"]: 5}, rate=40, seconds=1.0)
    with planted() as server:
        report = await Player(plan(server.url), load).play()
    figures = report.figures
    assert is_sound(report), report.verdict
    [row] = report.phases
    assert row.what == "acknowledged"
    assert row.succeeded >= 20, "one every 25 ms, open-loop"
    assert figures["message_errors"] == figures["unacknowledged"] == 0
    for name in ("ack_p99_ms", "connect_p99_ms", "handshake_p99_ms", "sent_bytes_per_s", "received_bytes_per_s"):
        assert figures[name], name
    for name in ("echo_p99_ms", "unreturned", "missed"):
        assert figures[name] is None, "a request comes back to nobody"


async def test_a_server_that_does_not_speak_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 105 seconds, and nobody was told why."""
    monkeypatch.setattr("loadgen.player.FIRST_SECONDS", 0.3)
    monkeypatch.setattr("loadgen.target.PROBE_SECONDS", 0.3)
    load = experiment.honest_load({registry()["idle"]: 3}, seconds=60.0)
    async with listening() as server, trio.open_nursery() as nursery:
        with pytest.raises(InvalidRunError, match=r"nobody was established: .* chat\.v1 .*0\.3 s.*--mix echo=100"):
            await Player(plan(server.url), load).play()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("mix", "status"), [({"idle": 2}, 404), ({"poll": 2}, 404), ({"idle": 2, "poll": 1}, 404), ({"idle": 2}, 200)]
)
async def test_a_web_server_is_not_blamed_for_being_no_chat(mix: dict[str, int], status: int) -> None:
    """All clients failed, by 404 or by a page at once, and the sound server was said to fall short."""

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await answer(stream, status)

    load = experiment.honest_load({registry()[name]: number for name, number in mix.items()}, seconds=60.0)
    async with answering(serve) as port:
        with pytest.raises(InvalidRunError, match=rf"chat\.v1 does \(answered {status}\); .*--request 'GET /path'"):
            await Player(plan(f"http://127.0.0.1:{port}"), load).play()
