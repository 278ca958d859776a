"""Pages that victims fetch, one after the other: what is a failure, and which connection carries the next request."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

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
from tests.loadgen.stage import (
    PATIENCE,
    answer,
    answering,
    listening,
    parsed,
    read_until,
    request_of,
    reset,
    unread,
    until,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def _whole(data: bytes) -> bool:
    return data.endswith(b"\r\n\r\n")


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


async def test_a_victim_whose_connection_is_not_answered_tries_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for its first page for ever, and a server that was sound again fell short."""
    monkeypatch.setattr("loadgen.protocols.http.CONNECT_TIMEOUT_SECONDS", 0.2)
    connections = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await request_of(stream)
        if connections == 1:
            await trio.sleep_forever()
        await answer(stream, 200, b"hi", b"Connection: close")

    async with fetching(serve) as context:
        await until(lambda: _booked(context)[0] >= 2)


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


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ((), [(b"host", b"127.0.0.1")]),  # nothing by which a server may know its users from those who attack it
        (("user-agent: mine",), [(b"host", b"127.0.0.1"), (b"user-agent", b"mine")]),
    ],
)
async def test_fields_of_the_command_line_are_sent_once(
    fields: tuple[str, ...], sent: list[tuple[bytes, bytes]]
) -> None:
    """They were sent twice, and a server may refuse two of them."""
    async with listening() as server:
        context = Context(target.find(server.url), "t", endpoint=Endpoint(fields=fields))
        async with http_peer(context, 0) as peer, trio.open_nursery() as nursery:
            stream = await server.accept()
            nursery.start_soon(peer.request, "GET", "/")
            request, _ = parsed(await read_until(stream, _whole))
            assert sorted((name, value.split(b":")[0]) for name, value in request.headers) == sent
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
