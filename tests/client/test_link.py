"""The client over real connections to a scripted server: each fault, and the events for its user."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NoReturn
from unittest.mock import Mock

import pytest
import trio
import trio.lowlevel
import trio.testing

from chatserver.client import (
    ANSWER_TIMEOUT,
    Backoff,
    Connected,
    Entered,
    Reconnecting,
    Rejected,
    TransportName,
    User,
    link,
    requests,
    websocket,
)
from chatserver.client.credentials import Credentials
from chatserver.client.feed import MAX_QUEUED_EVENTS
from chatserver.client.http1 import GREETING_TIMEOUT
from chatserver.client.link import ASKED_SPREAD, FIRST_DELAY, LONGEST_DELAY, STEADY_AFTER
from chatserver.client.session import LONGEST_WAIT, Session
from chatserver.client.stream import EndedError, WatchedStream, parse_target
from chatserver.client.websocket import MAX_QUEUED_FRAMES, SILENCE
from chatserver.exits import innermost
from tests.client.fake import NOT_NOW, FakeServer
from tests.client.listener import SOON, Listener, each_transport, listening
from tests.support.answering import answering
from tests.support.peers import raw_frame

pytestmark = pytest.mark.jumping_clock


@pytest.fixture
async def listener(server: FakeServer) -> AsyncIterator[Listener]:
    """A listener in the room."""
    async with listening(server.url) as listener:
        await listener.until(Entered)
        yield listener


async def test_a_server_that_is_down_for_a_while_is_tried_until_it_is_back() -> None:
    server = FakeServer()
    async with listening(server.url, jitter=1.0) as listener:
        tried = await listener.until(Reconnecting, times=2)
        assert [event.delay for event in tried] == [FIRST_DELAY, 2 * FIRST_DELAY]
        assert all("cannot connect" in event.why for event in tried)
        listener.chat.try_now()
        *_, third = await listener.until(Reconnecting, times=3)
        began = trio.current_time()
        await listener.until(Reconnecting, times=4)
        assert trio.current_time() > began + third.delay / 2, "only one attempt was made at once"
        listener.say("patience")
        async with server.running():
            assert await listener.texts(1) == ["patience"]
            await trio.sleep(STEADY_AFTER)
            await server.close_all(1012)
            *_, last = await listener.until(Reconnecting, times=len(listener.events(Reconnecting)) + 1)
            assert last.delay == FIRST_DELAY


async def test_nothing_is_sent_before_the_server_has_said_who_we_are() -> None:
    """A text was said in the name of a new guest, when the server had forgotten ours with its log."""
    sent: list[requests.Request] = []
    hello, frames = trio.Event(), [Connected(User("u_me", "Me"))]

    class Conversation:
        async def send(self, request: requests.Request) -> None:
            sent.append(request)

        async def receive(self) -> Connected:
            await hello.wait()
            if not frames:
                await trio.sleep_forever()
            return frames.pop()

    @asynccontextmanager
    async def open_() -> AsyncIterator[Conversation]:
        yield Conversation()

    session, tell = Session(), Mock()
    session.ask(requests.Publish(room="lobby", text="hi"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.Link(session, open_, tell, Backoff(jitter=lambda: 1.0)).run)
        await trio.sleep(2.5 * GREETING_TIMEOUT)
        delays = [call.args[0].delay for call in tell.call_args_list]
        assert delays == [FIRST_DELAY, 2 * FIRST_DELAY], "a server that never says it is tried less and less often"
        assert sent == []
        hello.set()
        await trio.sleep(LONGEST_DELAY)
        assert len(sent) == 1
        nursery.cancel_scope.cancel()


@each_transport
async def test_a_server_that_answers_nobody_is_tried_less_and_less_often(transport: TransportName) -> None:
    """An attempt that gives up after ten seconds counted as a connection that had lasted them.

    So each client of a network that was cut, or of a server too busy to answer, came back after 0.25 s on average.
    """
    async with answering(never) as address, listening(address, transport=transport, jitter=1.0) as listener:
        tried = await listener.until(Reconnecting, times=3)
    assert [event.delay for event in tried] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]


async def test_goaway_delays_the_reconnect(server: FakeServer, listener: Listener) -> None:
    listener.chat.try_now()  # without effect: there is a connection
    await server.tell(type="goaway", reason="restart", retry_after=3.2)
    await server.close_all(1012)
    (event,) = await listener.until(Reconnecting)
    began = trio.current_time()
    assert event.why == "the server is going away: restart"
    assert 3.2 <= event.delay <= 3.2 * (1 + ASKED_SPREAD)
    await listener.until(Entered, times=2)
    assert trio.current_time() > began + event.delay / 2
    await server.close_all(1012)
    (_, event) = await listener.until(Reconnecting, times=2)
    assert event.why == "the server closed the connection: service restart (1012)"


async def test_a_goaway_counts_also_after_another_identity_was_taken_without_a_connection(
    server: FakeServer, listener: Listener
) -> None:
    """The next end of the connection passed for the one that `become` asks for: the client came back at once.

    So it did after a close that told it not to.
    """
    await server.close_all(1012)
    await listener.until(Reconnecting)
    listener.chat.become("chat_session=other")
    await listener.until(Entered, times=2)
    await server.tell(type="goaway", reason="restart", retry_after=3.2)
    await server.close_all(1012)
    (_, event) = await listener.until(Reconnecting, times=2)
    assert event.delay >= 3.2


async def test_an_attempt_asked_for_during_one_does_not_shorten_the_next_delay() -> None:
    """Enter during an attempt that succeeded counted when that connection ended, perhaps a day later."""
    begun: list[float] = []

    @asynccontextmanager
    async def open_() -> AsyncIterator[link.Conversation]:
        begun.append(trio.current_time())
        await trio.sleep(1)
        if begun:
            raise EndedError("busy", retry_after=7)
        yield Mock()

    connecting = link.Link(Session(), open_, Mock(), Backoff())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connecting.run)
        await trio.sleep(0.5)
        connecting.try_now()
        await trio.sleep(5)
        assert len(begun) == 1
        nursery.cancel_scope.cancel()


async def test_retry_after_of_a_full_server_is_honoured() -> None:
    server = FakeServer(refusals=[503], retry_after="7")
    async with server.running(), listening(server.url) as listener:
        await listener.until(Entered)
        (event,) = listener.events(Reconnecting)
        assert event.why == f"the server answered 503: {NOT_NOW}"
        assert event.delay >= 7


async def test_an_answer_that_may_pass_does_not_end_the_client() -> None:
    """Of a proxy whose server is away, for example, or of a network that wants a sign-in: 302, 303, 307."""
    statuses = [302, 303, 307, 408, 429, 500, 521]
    server = FakeServer(refusals=[*statuses])
    async with server.running(), listening(server.url) as listener:
        await listener.until(Entered)
        told = [event.why for event in listener.events(Reconnecting)]
        assert told == [f"the server answered {status}: {NOT_NOW}" for status in statuses]


async def test_a_token_whose_key_the_server_is_fetching_is_sent_again() -> None:
    """After its provider had changed keys, the first who signed in was told that the token is not valid."""
    server = FakeServer(refusals=[401], retry_after="1")
    async with server.running(), listening(server.url) as listener:
        await listener.until(Entered)


@pytest.mark.parametrize(
    ("transport", "status"),
    [*(("ws", status) for status in (301, 308, 400, 401, 403, 404, 426)), ("poll", 401), ("sse", 404)],
)
async def test_a_final_answer_ends_the_client(transport: TransportName, status: int) -> None:
    server = FakeServer(refusals=[status], elsewhere=(status, b""))
    async with server.running(), listening(server.url, transport=transport) as listener:
        with pytest.raises(Rejected, match=str(status)):
            await listener.until(Entered)


async def test_the_client_comes_back_after_most_closes(server: FakeServer, listener: Listener) -> None:
    for times, code in enumerate((1000, 1001, 1008, 1011, 1012, 1013, 4000, 4499), 2):
        await server.tell(type="goaway", reason="restart", retry_after=0.0)
        await server.close_all(code, f"go {code}")
        await listener.until(Entered, times=times)


@pytest.mark.parametrize("code", [1002, 1007, 4500, 4999])
async def test_some_closes_end_the_client(server: FakeServer, listener: Listener, code: int) -> None:
    await server.tell(type="goaway", reason="restart", retry_after=0.0)
    await server.close_all(code, "go")
    with pytest.raises(Rejected, match=rf"go \({code}\)"):
        await listener.until(Reconnecting)


async def test_a_malformed_frame_is_reported_and_the_client_reconnects(server: FakeServer, listener: Listener) -> None:
    await server.tell(type="ack")
    (event,) = await listener.until(Reconnecting)
    assert "does not speak chat.v1" in event.why


@pytest.mark.parametrize(
    "frame", [b"\x81\x02\xff\xfe", b"\x83\x00", b"\xff\xff", b"\x81\x7e\x04\x00" + b"x" * 1024], ids=ascii
)
async def test_a_frame_that_we_refuse_is_no_refusal_of_ours(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that had closed a connection for a bad frame took its own code for the server's: it never came back,
    or gave up the text that was on its way as too big."""
    monkeypatch.setattr(websocket, "MAX_FRAME", 1000)
    server = FakeServer(deaf=True)
    async with server.running(), listening(server.url) as listener:
        listener.say("hi")
        while server.unheard < 2:  # the join and the text
            await trio.lowlevel.checkpoint()
        (connection,) = server.connections
        server.deaf = False
        await connection._stream.send_all(frame)
        (event,) = await listener.until(Reconnecting)
        assert "a bad frame" in event.why
        await listener.until(Entered)
        await listener.acknowledged(1)


async def test_a_ping_that_cannot_be_answered_any_more_is_a_lost_connection(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sleep of a minute, with messages and a ping unread, the client said: the server does not speak WebSocket.

    A text of its own could not be sent. Then it answered the ping, on a connection that it took for closed.
    """

    async def break_off(*_: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    async def lose_it() -> None:
        async with websocket.websocket(parse_target(server.url), Credentials()) as conversation:
            await conversation.receive()
            (connection,) = server.connections
            unread = raw_frame(0x81, b"{}", mask=b"") * (MAX_QUEUED_FRAMES + 1) + raw_frame(0x89, mask=b"")
            await connection._stream.send_all(unread)
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(WatchedStream, "send_all", break_off)
            with suppress(EndedError):
                await conversation.send(requests.Typing(room="lobby"))
            await trio.sleep_forever()

    with pytest.raises((EndedError, ExceptionGroup)) as caught:  # in a group with Debian 12's Python 3.11.2
        await lose_it()
    ended = innermost(caught.value)
    assert isinstance(ended, EndedError)
    assert ended.why == "the connection was lost"


async def say_nothing(_: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def speak_ssh(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n")
    await trio.sleep_forever()


async def speak_http(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 two hundred\r\n\r\n")


async def hint(stream: trio.SocketStream) -> None:
    """wsproto takes it for the whole answer."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")


async def never_end(stream: trio.SocketStream) -> None:
    """All of it was kept for ten seconds: gigabytes, at an address that is a large download."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(b"x" * 65_536)


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        (trio.aclose_forcefully, "the server hung up"),
        (speak_ssh, "the server does not speak HTTP: it sent 'SSH-2.0-OpenSSH_9.2'"),
        (speak_http, "the server does not speak WebSocket"),
        (say_nothing, "no answer within 10 s"),
        (hint, "the server answered 103"),
        (never_end, "the answer is too long"),
    ],
)
async def test_a_server_that_does_not_speak_the_protocol_is_reported(
    serve: Callable[[trio.SocketStream], Awaitable[None]], why: str
) -> None:
    async with answering(serve) as address, listening(address) as listener:
        (event,) = await listener.until(Reconnecting)
        assert event.why == why


async def never(*_: object) -> NoReturn:
    await trio.sleep_forever()


async def test_a_silent_server_is_detected(
    server: FakeServer, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server accepts the connection and then stops: no message, no pong, no close."""
    (connection,) = server.connections
    with monkeypatch.context() as patch:
        patch.setattr(connection._stream, "receive_some", never)
        (event,) = await listener.until(Reconnecting)
    assert event.why == "the server has gone silent"
    await listener.until(Entered, times=2)


async def test_a_request_without_an_answer_shows_that_the_connection_is_dead(
    server: FakeServer, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a NAT has forgotten it. Only 40 s of silence ended it, so the call had failed before it was repeated."""
    (connection,) = server.connections
    await trio.sleep(1)
    with trio.fail_after(ANSWER_TIMEOUT), monkeypatch.context() as patch:
        patch.setattr(connection._stream, "receive_some", never)
        await listener.chat.publish("lobby", "which the server still reads")
        await trio.sleep(1)
        await listener.chat.publish("lobby", "which is lost with the connection")


async def test_a_sleep_of_the_machine_ends_the_connection(
    server: FakeServer, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing says that the connection is lost: a laptop that was opened showed no new message for up to 40 s."""
    slept = 0.0
    monkeypatch.setattr(link, "time", lambda: slept + trio.current_time())
    await trio.sleep(SILENCE)
    slept = 3600.0
    (event,) = await listener.until(Reconnecting)
    assert event.why == "this machine was asleep"
    await listener.until(Entered, times=2)
    await server.say("good morning")
    assert await listener.texts(1) == ["good morning"]


async def test_a_quiet_room_and_a_slow_reader_do_not_count_as_silence(server: FakeServer, listener: Listener) -> None:
    await trio.sleep(10 * SILENCE)
    for number in range(2 * MAX_QUEUED_EVENTS):
        await server.say(str(number))
    await trio.sleep(10 * SILENCE)
    assert await listener.texts(2 * MAX_QUEUED_EVENTS) == [str(number) for number in range(2 * MAX_QUEUED_EVENTS)]
    assert not listener.events(Reconnecting)


async def test_leaving_does_not_wait_for_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "GREETING_TIMEOUT", math.inf)
    async with answering(say_nothing) as address:
        with trio.fail_after(SOON):
            async with listening(address):
                await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["end of the block", "cancellation"])
async def test_leaving_sends_a_close_frame(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, *, is_cancelled: bool
) -> None:
    """At the end of the block the client also waits for the server's close frame; and it does not reconnect."""
    hurried, delay = Mock(wraps=websocket._send_close), Mock()
    monkeypatch.setattr(websocket, "_send_close", hurried)
    with trio.fail_after(SOON):
        with trio.CancelScope() as scope:
            async with listening(server.url) as listener:
                await listener.until(Entered)
                (connection,) = server.connections
                monkeypatch.setattr(Backoff, "delay", delay)
                if is_cancelled:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        while server.connections:
            await trio.lowlevel.checkpoint()
    assert connection.closed is not None
    assert connection.closed.code == 1000
    assert (hurried.called, delay.called) == (is_cancelled, False)


async def test_a_cancelled_client_ends_though_it_can_send_nothing(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.CancelScope() as scope:
        async with listening(server.url) as listener:
            await listener.until(Entered)
            monkeypatch.setattr(WatchedStream, "send_all", never)  # the kernel takes no more
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


def test_delays_are_jittered_and_double_up_to_a_maximum_until_a_connection_lasted() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    delays = [backoff.delay(asked=None) for _ in range(12)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    for seconds, delay in (STEADY_AFTER / 2, LONGEST_DELAY), (STEADY_AFTER, FIRST_DELAY):
        backoff.lived(seconds)
        assert backoff.delay(asked=None) == delay
    longest = LONGEST_WAIT * (1 + ASKED_SPREAD)
    assert [backoff.delay(asked=asked) for asked in (3.0, 1e300)] == [3.0 * (1 + ASKED_SPREAD), longest]
    assert [backoff.delay(asked=asked) for asked in (0.0, -3.0)] == [FIRST_DELAY * 8, FIRST_DELAY * 16], "no busy loop"
    least = Backoff(jitter=lambda: 0.0)
    assert [least.delay(asked=asked) for asked in (None, 3.0)] == [0.0, 3.0], "what the server asks is not shortened"
