"""The WebSocket of victims and fingerprints, against a server that the test holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto import events

from loadgen.net import target, websocket
from loadgen.net.line import GarbledError, describe, dial
from loadgen.net.websocket import ClosedError, RejectedError, WebSocket, upgrade
from tests.loadgen import stage
from tests.loadgen.stage import answer, listening, request_of


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[WebSocket, stage.WebSocket]]:
    """Both ends of a WebSocket."""
    async with listening() as server, dial(target.find(server.url)) as line:
        peer = stage.WebSocket(await server.accept())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.accept)
            socket = await upgrade(line, "/ws", "x")
        yield socket, peer


async def test_a_message_comes_whole_and_pings_within_it_are_answered() -> None:
    async with talking() as (socket, peer):
        await peer.send(events.TextMessage("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}", message_finished=False))
        await peer.send(events.Ping(b"still there?"))
        await peer.send(events.TextMessage("ezi"))
        await peer.send(events.BytesMessage(b"hello"))
        assert (await socket.message()).decode() == "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}ezi"
        with pytest.raises(GarbledError, match="a binary message, where text was sent"):  # it passed for text
            await socket.message()
        assert await peer.receive() == events.Pong(b"still there?")


async def test_what_no_server_may_send_is_no_close_of_its_own() -> None:
    """wsproto turns such bytes into an event that looks like a close frame, and the server was said to have sent it."""
    async with talking() as (socket, peer):
        await peer.stream.send_all(b"\x81\x02hi" + b"\x81\x85\0\0\0\0hello")
        assert await socket.message() == b"hi"
        with pytest.raises(GarbledError, match=r"the bytes are no WebSocket: .* masked"):
            await socket.message()


async def test_a_close_frame_is_answered_and_told() -> None:
    async with talking() as (socket, peer):
        await peer.send(events.CloseConnection(1012, "be right back"))
        with pytest.raises(ClosedError) as raised:
            await socket.message()
        assert describe(raised.value) == "close 1012 'be right back'"
        assert raised.value.code == 1012
        assert isinstance(await peer.receive(), events.CloseConnection)


async def test_a_message_without_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MESSAGE_BYTES", 1000)
    async with talking() as (socket, peer):
        for _ in range(2):
            await peer.send(events.TextMessage("x" * 501, message_finished=False))
        with pytest.raises(GarbledError, match="a message of more than 1,000 bytes"):
            await socket.message()


@pytest.mark.parametrize("answers", [True, False])
async def test_one_leaves_in_good_order_with_an_answer_or_without(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "LEAVE_SECONDS", stage.PATIENCE if answers else 0.05)
    async with talking() as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(socket.close)
        told = await peer.receive()
        assert isinstance(told, events.CloseConnection)
        assert told.code == 1000
        if answers:
            await peer.stream.send_all(b"\x81\x05hello")  # said before it heard of that
            await peer.send(told.response())


async def test_another_status_than_101_is_named() -> None:
    async with listening() as server, dial(target.find(server.url)) as line, trio.open_nursery() as nursery:
        stream = await server.accept()

        async def reject() -> None:
            request = await request_of(stream)
            assert (b"cookie", b"a=1") in request.headers
            await answer(stream, 403)

        nursery.start_soon(reject)
        with pytest.raises(RejectedError, match="answered 403"):
            await upgrade(line, "/ws", "x", "Cookie: a=1")
