"""The client over real connections to a scripted server: each fault, and what the user saw of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

import pytest
import trio
import trio.lowlevel

from chatserver.client import RejectedError, connect, link
from chatserver.client.events import (
    Acknowledged,
    Connected,
    Entered,
    GoingAway,
    Reconnecting,
)
from chatserver.client.link import ASKED_SPREAD, FIRST_DELAY, LONGEST_DELAY, STEADY_AFTER, Backoff
from tests.client.fake import FakeServer
from tests.client.listener import SOON, Listener


@asynccontextmanager
async def listening(server: FakeServer) -> AsyncIterator[Listener]:
    async with connect(server.url, rooms=["lobby"], backoff=Backoff(jitter=lambda: 0.01)) as client:
        yield Listener(client)


async def test_talks() -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        key = listener.client.publish("lobby", "hello")
        await server.say("hi")
        assert sorted(await listener.texts(2)) == ["hello", "hi"]
        await listener.until_kind(Acknowledged)
        assert [event.key for event in listener.seen if isinstance(event, Acknowledged)] == [key]
        assert isinstance(listener.seen[0], Connected)


async def test_restart_in_the_middle_of_a_conversation_loses_and_doubles_nothing() -> None:
    server = FakeServer()
    async with server.running():
        await server.say("before")
    texts = [f"text {number}" for number in range(6)]
    async with server.running(), trio.open_nursery() as nursery:
        # The client outlives the first server, so it is started outside of that one's block.
        listener: Listener | None = None

        async def client_life(task_status: trio.TaskStatus[Listener]) -> None:
            async with listening(server) as made:
                task_status.started(made)
                await trio.sleep_forever()

        listener = await nursery.start(client_life)
        await listener.until_kind(Entered)
        for text in texts[:3]:
            listener.client.publish("lobby", text)
        await listener.texts(4)
        await server.close_all(1012, "restart")
        await server.say("while away")
        for text in texts[3:]:
            listener.client.publish("lobby", text)
        got = await listener.texts(8)
        await listener.until_kind(Acknowledged, times=6)
        nursery.cancel_scope.cancel()
    assert [text for text in got if text.startswith("text")] == texts
    assert sorted(got) == sorted([*texts, "before", "while away"])
    assert [join.get("after") for join in server.joins] == [None, "e1-4"]


async def test_a_server_that_is_down_for_a_while_is_tried_until_it_is_back() -> None:
    server = FakeServer()
    async with server.running():
        pass  # takes a port
    async with listening(server) as listener:
        await listener.until_kind(Reconnecting, times=2)
        assert all("cannot connect" in event.why for event in listener.seen if isinstance(event, Reconnecting))
        listener.client.publish("lobby", "patience")
        async with server.running():
            assert await listener.texts(1) == ["patience"]


async def test_a_gap_is_filled_from_the_history() -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await server.say("0")
        await listener.texts(1)
        server.pushes_to_lose = 5
        for number in range(1, 6):
            await server.say(str(number))
        await server.tell(**server.gap(after=1, until=6))
        assert await listener.texts(6) == ["0", "1", "2", "3", "4", "5"]
        await server.say("6")
        assert (await listener.texts(7))[-1] == "6"


async def test_the_guest_stays_the_same_user() -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Connected)
        await server.close_all(1012)
        await listener.until_kind(Connected, times=2)
    assert server.cookies == [None, "guest=g1"]


async def test_goaway_says_when_to_come_back(autojump_clock: trio.testing.MockClock) -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        await server.tell(type="goaway", reason="restart", retry_after=3.2)
        await server.close_all(1012)
        await listener.until_kind(Reconnecting)
        assert GoingAway("restart", 3.2) in listener.seen
        (event,) = [event for event in listener.seen if isinstance(event, Reconnecting)]
        assert event.why == "the server is going away: restart"
        assert 3.2 <= event.delay <= 3.2 * (1 + ASKED_SPREAD)
        await listener.until_kind(Entered, times=2)


async def test_retry_after_of_a_full_server_is_honoured(autojump_clock: trio.testing.MockClock) -> None:
    server = FakeServer(refusals=[503], retry_after="7")
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        (event,) = [event for event in listener.seen if isinstance(event, Reconnecting)]
        assert event.why == "the server answered 503: not now"
        assert event.delay >= 7


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 426])
async def test_an_answer_that_will_not_change_ends_the_client(status: int) -> None:
    server = FakeServer(refusals=[status])
    async with server.running(), listening(server) as listener:
        with pytest.raises(RejectedError, match=str(status)):
            await listener.until_kind(Entered)


@pytest.mark.parametrize("code", [1002, 1007, 4500, 4999])
async def test_a_close_for_good_ends_the_client(code: int) -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        await server.close_all(code, "go")
        with pytest.raises(RejectedError, match=f"{code} go"):
            await listener.until_kind(Reconnecting)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 4000, 4001])
async def test_other_closes_do_not(code: int) -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        await server.close_all(code)
        await listener.until_kind(Entered, times=2)


async def test_rate_limit_then_success_keeps_the_order(autojump_clock: trio.testing.MockClock) -> None:
    limited = {"code": "rate_limited", "message": "slowly", "retry_after": 5.0}
    server = FakeServer(errors=[limited, limited])
    async with server.running(), listening(server) as listener:
        for text in ("a", "b", "c"):
            listener.client.publish("lobby", text)
        assert await listener.texts(3) == ["a", "b", "c"]


async def test_what_is_not_chat_is_said_and_tried_again() -> None:
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        await server.tell(type="ack")
        seen = await listener.until_kind(Reconnecting)
        assert any("does not speak chat.v1" in event.why for event in seen if isinstance(event, Reconnecting))


async def test_a_port_where_nothing_answers_is_left(autojump_clock: trio.testing.MockClock) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with connect(f"127.0.0.1:{port}", rooms=["lobby"]) as client:
        listener = Listener(client)
        await listener.until_kind(Reconnecting)
        (event,) = listener.seen
        assert isinstance(event, Reconnecting)
        assert event.why == "no answer within 10 s"
    await listeners[0].aclose()


async def test_a_server_that_hangs_up_at_once_is_not_waited_for() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, trio.aclose_forcefully, 0, host="127.0.0.1")
        (server,) = await nursery.start(serve)
        port = server.socket.getsockname()[1]
        async with connect(f"127.0.0.1:{port}", rooms=["lobby"]) as client:
            listener = Listener(client)
            await listener.until_kind(Reconnecting)
            assert [event.why for event in listener.seen if isinstance(event, Reconnecting)] == ["hung up on"]
        nursery.cancel_scope.cancel()


async def test_a_server_gone_silent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the connection and then stopped: no message, no pong, no close."""
    monkeypatch.setattr(link, "SILENCE", 0.05)
    monkeypatch.setattr(link, "PONG_TIMEOUT", 0.05)
    monkeypatch.setattr(link, "CLOSE_TIMEOUT", 0.05)
    server = FakeServer()
    async with server.running(), listening(server) as listener:
        await listener.until_kind(Entered)
        (connection,) = server.connections

        async def deaf(_max_bytes: int) -> NoReturn:
            await trio.sleep_forever()

        monkeypatch.setattr(connection._stream, "receive_some", deaf)
        seen = await listener.until_kind(Reconnecting)
        assert any(event.why == "the server has gone silent" for event in seen if isinstance(event, Reconnecting))
        monkeypatch.undo()
        await listener.until_kind(Entered, times=2)


async def test_leaving_closes_politely() -> None:
    server = FakeServer()
    async with server.running():
        async with listening(server) as listener:
            await listener.until_kind(Entered)
            (connection,) = server.connections
        with trio.fail_after(SOON):
            while server.connections:
                await trio.lowlevel.checkpoint()
        assert connection.closed is not None
        assert connection.closed.code == 1000


# -- back-off ---------------------------------------------------------------------------------------------------------


def test_doubles_up_to_the_longest() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    delays = [backoff.delay(asked=None) for _ in range(12)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY


def test_is_spread_over_the_whole_span() -> None:
    assert Backoff(jitter=lambda: 0.0).delay(asked=None) == 0.0


def test_what_the_server_asked_is_never_cut_short() -> None:
    assert Backoff(jitter=lambda: 0.0).delay(asked=3.0) == 3.0
    assert Backoff(jitter=lambda: 1.0).delay(asked=3.0) == 3.0 * (1 + ASKED_SPREAD)


def test_only_a_connection_that_lasted_resets_it() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    backoff.delay(asked=None)
    backoff.lived(STEADY_AFTER / 2)
    assert backoff.delay(asked=None) == 2 * FIRST_DELAY
    backoff.lived(STEADY_AFTER)
    assert backoff.delay(asked=None) == FIRST_DELAY
