"""Plain requests at a rate: one at a time on a connection, timed from when they were due."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from loadgen.clients.traffic import Traffic
from loadgen.net.answers import OTHER_TYPE
from loadgen.net.target import Endpoint
from loadgen.net.timers import now
from loadgen.protocols.http import UNASKED, encoded
from tests.loadgen.protocols.speaking import schedule, send
from tests.loadgen.stage import (
    Play,
    Server,
    answer,
    answering,
    listening,
    parsed,
    playing,
    read_until,
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
    ("method", "length"), [("POST", True), ("PUT", True), ("PATCH", True), ("GET", False), ("HEAD", False)]
)
def test_an_empty_body_is_announced_where_the_method_has_a_meaning_for_one(method: str, length: bool) -> None:
    """lighttpd and IIS answer 411 without (RFC 9110 section 8.6), and that was blamed on the path."""
    request, _ = parsed(encoded(Endpoint(asked="/api", method=method), "localhost"))
    assert (dict(request.headers).get(b"content-length") == b"0") is length


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


@pytest.mark.parametrize("status", [200, 204, 302, 304])
@pytest.mark.parametrize("page_type", ["", None])
async def test_no_page_is_an_error_where_there_was_one_before_the_run(status: int, page_type: str | None) -> None:
    """A server that answered with an empty 200, or with a redirect to elsewhere, was held."""
    other = b"HTTP/1.1 %d X\r\nLocation: /busy\r\n%s\r\n" % (status, b"Content-Length: 0\r\n" * (status != 204))
    async with requesting(page_type=page_type) as (_, stream, _, traffic):
        for page in (other, OK):
            send(traffic)
            await read_until(stream, _whole)
            await stream.send_all(page)
            await until(lambda: not traffic.outstanding)
        lost = {f"answered {status} without the page that others had": 1}
        assert dict(traffic.booked.errors) == (lost if page_type is not None else {})


@pytest.mark.parametrize(
    ("other", "errors"),
    [(b"text/html", {}), (b"Text/HTML; charset=utf-8", {}), (b"application/json", {OTHER_TYPE: 1})],
)
async def test_a_page_of_another_type_is_an_error(other: bytes, errors: dict[str, int]) -> None:
    """Of an overloaded server it is an excuse, though it says 200."""
    async with requesting(page_type="text/html") as (_, stream, _, traffic):
        send(traffic)
        await read_until(stream, _whole)
        await answer(stream, 200, b"hi", b"Content-Type: " + other)
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
        monkeypatch.setattr("loadgen.clients.opening.OPEN_BATCH", 0)
        send(traffic)
        await (read_until(first, _whole) if is_read else unread(first))
        await first.aclose()
        await until(lambda: play.cohort.held == 0)
        send(traffic)  # while it waits to be connected again, which it was twice then
        monkeypatch.setattr("loadgen.clients.opening.OPEN_BATCH", 16)
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
