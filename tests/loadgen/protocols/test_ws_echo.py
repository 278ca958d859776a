"""WebSocket echo at a rate, and where WebSockets are asked for."""

from __future__ import annotations

from wsproto import events

from loadgen.endpoint import Endpoint
from tests.loadgen.protocols.speaking import schedule, send
from tests.loadgen.stage import WebSocket, listening, playing, until

ENDPOINT = Endpoint(websocket_path="/echo", fields=("Cookie: a=1",), subprotocol="chat.v1")


async def test_an_echo_is_known_again() -> None:
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
        await peer.send(events.TextMessage(said.data))
        await until(lambda: traffic.acks.count == 1)
        assert traffic.quiet
        assert play.cohort.deliveries == 2


async def test_one_that_is_closed_speaks_no_more() -> None:
    traffic = schedule()
    async with listening() as server, playing(server.url, "echo", traffic=traffic) as play:
        peer = WebSocket(await server.accept())
        await peer.accept()
        await until(lambda: play.cohort.held == 1)
        await peer.send(events.CloseConnection(1001))
        await until(lambda: play.cohort.ended)
        send(traffic)
        assert traffic.unsent == 1
