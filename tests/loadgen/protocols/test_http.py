"""Plain requests at a rate: one at a time on a connection, timed from when they were due."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from loadgen.clients.traffic import Traffic
from loadgen.net import target
from loadgen.net.answers import MOST_PLANNED, OTHER_TYPE
from loadgen.net.line import GarbledError
from loadgen.net.target import Endpoint
from loadgen.net.timers import now
from loadgen.personas import registry
from loadgen.protocols.chat_v1 import StreamVictim
from loadgen.protocols.http import UNASKED, GetVictim, HttpPeer, http_peer
from loadgen.run import experiment
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import OperationFailedError
from tests.loadgen.plays import plan
from tests.loadgen.protocols.speaking import schedule, send
from tests.loadgen.stage import (
    PATIENCE,
    Play,
    Server,
    answer,
    answering,
    listening,
    parsed,
    playing,
    read_until,
    request_of,
    reset,
    unread,
    until,
)

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
        request, _ = parsed(await read_until(stream, lambda data: data.endswith(b"{}")))
        assert (request.method, request.target) == (b"POST", b"/api")
        fields = dict(request.headers)
        assert (fields[b"authorization"], fields[b"content-length"]) == (b"Bearer t", b"2")


@pytest.mark.parametrize(
    ("answer", "closes", "errors"),
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "", {"answered 500": 1}),
        (b"", "FIN", {"closed": 1}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "FIN", {"closed": 1}),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", "", {}),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "", {}),  # it closes, though it does not say so
        # as a server says it that does not know the length before: an HTTP/1.0 one, or a proxy of one
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "FIN", {}),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "FIN", {}),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "RST", {"connection reset by peer": 1}),  # then the rest may be missing
    ],
)
async def test_how_an_answer_is_booked(answer: bytes, closes: str, errors: dict[str, int]) -> None:
    async with requesting() as (server, stream, play, traffic):
        send(traffic)
        await read_until(stream, _whole)
        for half in (answer[:-2], answer[-2:]):
            await stream.send_all(half)
        if closes == "RST":
            reset(stream)
        elif closes:
            await stream.aclose()
        await until(lambda: not traffic.outstanding)
        assert dict(traffic.booked.errors) == errors
        if closes or b"close" in answer or b"/1.0" in answer:
            send(traffic)
            again = await server.accept()  # it comes when it is needed
            await read_until(again, _whole)
            await again.send_all(OK)  # the whole of an answer, of which the other connection had a part
            await until(lambda: not traffic.outstanding)
            assert (play.cohort.opened, dict(traffic.booked.errors)) == (2, errors)
        assert not play.cohort.ended
        assert not play.cohort.failed


@pytest.mark.parametrize(
    ("status", "fields", "is_error"),
    [(200, (), 1), (204, (), 1), (302, (), 1), (304, (), 1), (304, ('If-None-Match: "a"',), 0)],
)
async def test_no_page_is_an_error_where_others_had_one(status: int, fields: tuple[str, ...], is_error: int) -> None:
    """A server that answered every second request with an empty 200, or with a redirect to elsewhere, was held."""
    other = b"HTTP/1.1 %d X\r\nLocation: /busy\r\n%s\r\n" % (status, b"Content-Length: 0\r\n" * (status != 204))
    async with requesting(endpoint=Endpoint(fields=fields)) as (_, stream, _, traffic):
        for page in (other, OK, other):
            send(traffic)
            await read_until(stream, _whole)
            await stream.send_all(page)
            await until(lambda: not traffic.outstanding)
        errors = {f"answered {status} without the page that others had": 1}
        assert dict(traffic.booked.errors) == (errors if is_error else {})


@pytest.mark.parametrize(
    ("other", "errors"),
    [(b"text/html", {}), (b"Text/HTML; charset=utf-8", {}), (b"application/json", {OTHER_TYPE: 1})],
)
async def test_a_page_of_another_type_is_an_error(other: bytes, errors: dict[str, int]) -> None:
    """Of an overloaded server it is an excuse, though it says 200."""
    async with requesting() as (_, stream, _, traffic):
        for kind in (b"text/html", other):
            send(traffic)
            await read_until(stream, _whole)
            await answer(stream, 200, b"hi", b"Content-Type: " + kind)
            await until(lambda: not traffic.outstanding)
        assert dict(traffic.booked.errors) == errors


@pytest.mark.parametrize("is_asked", [True, False])
async def test_bytes_for_which_nobody_asked_are_an_error(is_asked: bool) -> None:
    """Each answer came twice, and the second was taken for that of the next request: the server was held."""
    async with requesting() as (_, stream, play, traffic):
        send(traffic)
        await read_until(stream, _whole)
        if is_asked:
            await stream.send_all(OK + OK)
        else:
            await stream.send_all(OK)
            await until(lambda: not traffic.outstanding)
            await stream.send_all(OK)
        await until(lambda: play.cohort.ended == {UNASKED: 1})
        assert dict(traffic.booked.errors) == ({UNASKED: 1} if is_asked else {})
        assert bool(traffic.speakers) is is_asked, "one for which nothing was due does not come back"


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


@pytest.mark.parametrize(
    ("method", "is_read", "error"),
    [("GET", False, ""), ("GET", True, "closed"), ("POST", False, "connection reset by peer")],
)
async def test_what_meets_the_end_of_an_idle_connection_is_sent_once_more(
    method: str, is_read: bool, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock uvicorn ends a connection that is idle for 5 s, and fell short where a request was due just then.

    A server that read every second request, and closed without an answer, was held.
    """
    async with requesting(endpoint=Endpoint(method=method)) as (server, first, play, traffic):
        send(traffic)
        await read_until(first, _whole)
        await first.send_all(OK)
        await until(lambda: not traffic.outstanding)
        monkeypatch.setattr("loadgen.clients.opening.OPENING_MAX", 0)
        send(traffic)
        await (read_until(first, _whole) if is_read else unread(first))
        await first.aclose()
        await until(lambda: play.cohort.held == 0)
        send(traffic)  # while it waits to be connected again, which it was twice then
        monkeypatch.setattr("loadgen.clients.opening.OPENING_MAX", 64)
        play.engine.at(now(), lambda: None)
        second = await server.accept()
        for _ in range(2 if not error else 1):
            await read_until(second, _whole)
            await second.send_all(OK)
        await until(lambda: not traffic.outstanding)
        assert dict(traffic.booked.errors) == ({error: 1} if error else {})
        assert play.cohort.opened == 2
        assert play.engine._clients.count(play.client) == 1
        send(traffic)
        await read_until(second, _whole)
        await second.aclose()
        await until(lambda: not traffic.outstanding)
        assert traffic.booked.errors["closed"] == 1 + (error == "closed")


async def test_what_is_due_when_the_end_of_a_connection_has_come_is_not_sent_on_it() -> None:
    """A POST that might be done twice was lost there, behind an answer that did not say `Connection: close`."""
    async with requesting(endpoint=POST) as (server, stream, _, traffic):
        send(traffic, 2)
        await read_until(stream, lambda data: data.endswith(b"{}"))
        os.write(stream.socket.fileno(), OK)
        stream.socket.close()
        await read_until(await server.accept(), lambda data: data.endswith(b"{}"))
        assert not traffic.booked.errors


async def test_a_server_that_restarts_fails_what_is_due_meanwhile_and_nothing_later() -> None:
    """A client that was refused once never came back, and all requests that were due of it counted as unanswered."""
    traffic = schedule()
    async with listening() as server, playing(server.url, "request", traffic=traffic) as play:
        stream = await server.accept()
        await until(lambda: play.cohort.held == 1)
        await server.stop()
        await stream.aclose()
        await until(lambda: play.cohort.held == 0)
        send(traffic)
        await until(lambda: not traffic.outstanding)
        assert dict(traffic.booked.errors) == {"connection refused": 1}
        async with answering(lambda stream: stream.send_all(OK), port=server.port):
            send(traffic)
            await until(lambda: traffic.booked.acks.count == 2)
        assert not traffic.outstanding
        assert dict(play.cohort.refused) == {"connection refused": 1}


@asynccontextmanager
async def fetching(
    serve: Callable[[trio.SocketStream], Awaitable[object]], *, every: float = 0.01
) -> AsyncIterator[Context]:
    """A victim that fetches a page of this server again and again; both end at once, as one would see the other go."""
    async with trio.open_nursery() as nursery, answering(serve) as port:
        context = Context(target.find(f"http://127.0.0.1:{port}"), "t")
        context.recorder.timeout_seconds = PATIENCE
        nursery.start_soon(context.clock.run)
        nursery.start_soon(GetVictim(context, 0, Schedule(now(), every)).run)
        yield context
        nursery.cancel_scope.cancel()


def _booked(context: Context) -> tuple[int, dict[str, int]]:
    results = context.recorder.results(Counter())
    return sum(result.latency.count for result in results), {why: 1 for result in results for why in result.failed}


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_page_of_a_server_that_ends_each_connection_is_fetched_by_a_new_one(says_so: bool) -> None:
    """Victims of a server that ends its connections without a word all failed, though browsers ask such a one again."""

    async def serve(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await answer(stream, 200, b"hi", *([b"Connection: close"] * says_so))

    async with fetching(serve) as context:
        await until(lambda: _booked(context)[0] >= 5)
        assert not _booked(context)[1]


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_server_that_reads_a_request_and_closes_fails_it(is_reset: bool) -> None:
    """Each was asked for once more, so a server that dropped every second page was held.

    A reset may also come of a request that nobody has read, but not every time.
    """

    async def serve(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await answer(stream, 200, b"hi")
        await request_of(stream)
        if is_reset:
            reset(stream)

    async with fetching(serve) as context:
        await until(lambda: _booked(context)[1])
        assert set(_booked(context)[1]) == {"reset" if is_reset else "closed"}
        assert is_reset or _booked(context)[0] <= 2, "who has read it has not crossed with it"


async def test_a_new_connection_that_is_ended_before_its_first_request_is_read_fails_it() -> None:
    """It is no idle one, and the end of an idle one is all that may cross with a request."""
    connections = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await request_of(stream)
            await answer(stream, 200, b"hi", b"Connection: close")
        else:
            await unread(stream)

    async with fetching(serve) as context:
        await until(lambda: _booked(context)[1])
        assert connections == 2


async def test_a_page_that_comes_twice_fails() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await stream.send_all(OK + OK)
        await trio.sleep_forever()

    async with fetching(serve) as context:
        await until(lambda: context.failures > 1)
        assert context.last_failure == UNASKED


@pytest.mark.parametrize("is_fin", [False, True])
async def test_a_page_that_crosses_with_the_end_of_an_idle_connection_is_fetched_once_more(
    is_fin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, if the FIN proves it: nginx with a short keep-alive fell short for doing what it may."""
    if is_fin:  # the victim sees none before it asks
        monkeypatch.setattr("loadgen.net.line.Line.ending", None)
    crossed, times = 0, MOST_PLANNED * (1 + is_fin)

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal crossed
        while True:
            await request_of(stream)
            await answer(stream, 200, b"hi")
            if crossed < times:
                if not is_fin:
                    await unread(stream)
                crossed += 1
                return

    async with fetching(serve) as context:
        await until(lambda: crossed == times and _booked(context)[0] > 2 * times)
        assert not _booked(context)[1]


def test_a_page_that_is_empty_now_and_then_fails() -> None:
    """The empty pages before the baseline made each of them as good as the others."""
    context = Context(target.find("http://127.0.0.1:1"), "t")
    assert [bool(context.fault_in_page(200, size)) for size in (0, 9, 5, 0)] == [False, False, False, True]


def test_a_page_of_another_type_fails_and_one_of_a_type_from_before_does_not() -> None:
    context = Context(target.find("http://127.0.0.1:1"), "t")
    for kind in ("text/html", "text/plain"):  # a server may have several
        assert not context.fault_in_page(200, 9, kind)
    context.recorder.begin("baseline")
    kinds = ("text/plain", "application/json", "", "text/html")
    assert [context.fault_in_page(200, 9, kind) for kind in kinds] == ["", OTHER_TYPE, OTHER_TYPE, ""]


def test_a_redirect_is_a_failure_of_a_victim_too_where_others_had_a_page() -> None:
    """An attack held where every fiftieth page was a redirect with as many bytes, which `run` calls an error."""
    answers = [(302, 9), (200, 9), (302, 9), (304, 0), (200, 9), (101, 0)]
    context = Context(target.find("http://127.0.0.1:1"), "t")
    assert [bool(context.fault_in_page(*each)) for each in answers] == [False, False, True, True, False, True]
    asking = Context(target.find("http://127.0.0.1:1"), "t", Endpoint(fields=("If-Modified-Since: x",)))
    assert not asking.fault_in_page(200, 9)
    assert not asking.fault_in_page(304, 0)


async def test_a_victim_connects_when_it_has_a_request_and_not_before() -> None:
    """Idle connections of its own victims took the workers of gunicorn, of which each serves one at a time.

    So did those of which gunicorn waits for the end, after an answer that closes.
    """
    idle = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal idle
        idle += 1
        await request_of(stream)
        await answer(stream, 200, b"hi", b"Connection: close")
        await stream.send_eof()
        await stream.receive_some()
        idle -= 1

    async with fetching(serve, every=3600.0) as context:
        await until(lambda: _booked(context)[0] == 1)
        await until(lambda: not idle)


async def _page(context: Context, peer: HttpPeer) -> None:
    await peer.request("GET", "/")


async def _events(context: Context, peer: HttpPeer) -> None:
    await StreamVictim(context, 0, Schedule(0.0, 1.0))._listen(peer, task_status=trio.TASK_STATUS_IGNORED)


@pytest.mark.parametrize(
    ("ask", "limit", "error", "what"),
    [
        (_page, "protocols.http.MAX_BODY_BYTES", GarbledError, "an answer"),
        (_events, "net.wire.MAX_LINE_BYTES", OperationFailedError, "a line"),
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
        async with http_peer(context, 0) as peer:
            await (await server.accept()).send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001))
            with pytest.raises(error, match=f"{what} of more than 1,000 bytes"):
                await ask(context, peer)


async def test_fields_of_the_command_line_replace_our_own() -> None:
    """They were sent twice, and a server may refuse two of them."""
    fields = ("user-agent: mine", "Host: other")
    async with listening() as server:
        context = Context(target.find(server.url), "t", endpoint=Endpoint(fields=fields))
        async with http_peer(context, 0) as peer, trio.open_nursery() as nursery:
            stream = await server.accept()
            nursery.start_soon(peer.request, "GET", "/")
            request, _ = parsed(await read_until(stream, _whole))
            assert sorted(request.headers) == [(b"host", b"other"), (b"user-agent", b"mine")]
            await stream.send_all(OK)


async def test_a_server_that_does_not_speak_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 105 seconds, and nobody was told why."""
    monkeypatch.setattr("loadgen.run.player.FIRST_SECONDS", 0.3)
    monkeypatch.setattr("loadgen.net.target.PROBE_SECONDS", 0.3)
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
