"""WebSocket echo at a rate, and where WebSockets are asked for."""

import pytest
import trio
from wsproto import events

from loadgen.net import target
from loadgen.net.line import describe
from loadgen.net.target import Endpoint
from loadgen.protocols.http import http_peer
from loadgen.protocols.ws_echo import connect
from loadgen.victims.probe import Context
from loadgen.victims.victim import failure_in
from tests.loadgen.protocols.speaking import schedule, send
from tests.loadgen.stage import PATIENCE, WebSocket, listening, playing, reset, until

ENDPOINT = Endpoint(websocket_path="/echo", fields=("Cookie: a=1",), subprotocol="chat.v1")


async def test_an_echo_is_known_again() -> None:
    """One that was changed within passed for the whole."""
    traffic = schedule()
    async with listening() as server, playing(server.url, "echo", traffic=traffic, endpoint=ENDPOINT) as play:
        peer = WebSocket(await server.accept())
        request = await peer.accept()
        assert (request.target, request.subprotocols) == ("/echo", ["chat.v1"])
        assert (b"cookie", b"a=1") in request.extra_headers
        await until(lambda: play.cohort.held == 1)
        send(traffic)
        said = await peer.receive()
        assert isinstance(said, events.TextMessage)
        await peer.send(events.TextMessage("something else"))
        await peer.send(events.TextMessage(said.data.replace("dog", "d?g")))
        await peer.send(events.TextMessage(said.data))
        await until(lambda: traffic.booked.acks.count == 1)
        assert not traffic.outstanding
        assert play.cohort.deliveries == 3


async def test_an_echo_in_fragments_is_one_echo() -> None:
    """A sound server that sends long texts in fragments (RFC 6455 section 5.4) answered none, it was said."""
    traffic = schedule()
    async with listening() as server, playing(server.url, "echo", traffic=traffic) as play:
        peer = await server.websocket()
        await until(lambda: play.cohort.held == 1)
        send(traffic)
        said = await peer.text()
        for event in (
            events.TextMessage(said[:9], message_finished=False),
            events.Ping(b""),
            events.TextMessage(said[9:20], message_finished=False),
            events.TextMessage(said[20:]),
        ):
            await peer.send(event)
        await until(lambda: traffic.booked.acks.count == 1)
        assert (traffic.outstanding, play.cohort.deliveries) == (0, 1)


async def test_an_echo_without_end_is_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.net.wire.MAX_FRAME_BYTES", 100)
    async with listening() as server, playing(server.url, "echo", traffic=schedule()) as play:
        peer = await server.websocket()
        for _ in range(3):
            await peer.send(events.TextMessage("x" * 40, message_finished=False))
        await until(lambda: play.cohort.ended == {"a message of more than 100 bytes": 1})


async def test_a_text_that_comes_back_as_binary_is_no_echo() -> None:
    traffic = schedule()
    async with listening() as server, playing(server.url, "echo", traffic=traffic) as play:
        peer = await server.websocket()
        await until(lambda: play.cohort.held == 1)
        send(traffic)
        await peer.send(events.BytesMessage((await peer.text()).encode()))
        await until(lambda: play.cohort.ended == {"a binary message, where text was sent": 1})


async def test_one_that_is_closed_speaks_no_more() -> None:
    traffic = schedule()
    async with listening() as server, playing(server.url, "echo", traffic=traffic) as play:
        peer = WebSocket(await server.accept())
        await peer.accept()
        await until(lambda: play.cohort.held == 1)
        await peer.send(events.CloseConnection(1008))
        await until(lambda: play.cohort.ended)
        send(traffic)
        assert traffic.result().unsent == 1


async def test_what_was_under_way_at_a_planned_end_is_asked_for_again() -> None:
    """A server with a planned life for its connections failed a text of each, and each client was ended."""
    traffic = schedule()
    async with listening() as server, playing(server.url, "echo", traffic=traffic) as play:
        heard = []
        for ends in range(5):
            peer = await server.websocket()
            if not ends:
                await until(lambda: play.cohort.held)
                send(traffic)
            heard.append(await peer.receive())
            if ends < 4:
                await peer.send(events.CloseConnection(1001))
        [said] = {each.data for each in heard if isinstance(each, events.TextMessage)}
        await peer.send(events.TextMessage(said))
        await until(lambda: traffic.booked.acks.count == 1)
        assert not play.cohort.ended
        await peer.send(events.CloseConnection(1001))
        await until(lambda: play.cohort.ended == {"close 1001": 1})  # the fifth in a few seconds is no plan


@pytest.mark.parametrize(
    ("speaks", "answer", "resets", "reason"),
    [
        ("HTTP", b"", False, "closed"),
        ("HTTP", b"", True, "reset"),
        ("WebSocket", b"", False, "closed"),
        ("WebSocket", b"", True, "reset"),
        ("WebSocket", b"SSH-2.0-X\r\n\r\n", False, "no HTTP"),
        ("WebSocket", b"HTTP/1.1 101 X\r\n\r\n", False, "wrong Sec-WebSocket-Accept"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure_at_once(
    speaks: str, answer: bytes, resets: bool, reason: str
) -> None:

    async def ask(context: Context) -> None:
        if speaks == "HTTP":
            async with http_peer(context, 0) as peer:
                await peer.request("GET", "/")
        async with context.dial(0) as line:
            await connect(context, line)

    async with listening() as server:
        context = Context(target.find(server.url), "t")
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                accepted = await server.accept()
                await accepted.receive_some()
                await accepted.send_all(answer)
                reset(accepted) if resets else await accepted.aclose()

            nursery.start_soon(close)
            with trio.move_on_after(PATIENCE) as limit, pytest.raises(BaseException) as raised:  # noqa: PT011  in groups
                await ask(context)
    assert not limit.cancel_called, "at once"
    assert reason in describe(failure_in(raised.value))
