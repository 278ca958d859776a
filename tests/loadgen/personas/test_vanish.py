"""Personas that vanish: no FIN, no RST, no acknowledgement."""

import os
import socket
import struct
from unittest.mock import patch

import h11
import pytest
import trio
from wsproto import events

from loadgen.clients.client import Client
from loadgen.net import sockets
from loadgen.personas import _shapes, registry, vanish
from tests.loadgen.stage import (
    Server,
    WebSocket,
    answer,
    listening,
    meeting,
    parsed,
    playing,
    read_until,
    request_of,
    reset,
    until,
)
from tests.support.darkness import needs_darkness

VANISHING = ("vanish", "vanish-stream", "poll-abandon")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for what, seconds in (("ALIVE", 0.02), ("LOOK_EVERY", 0.02), ("KNOCK_EVERY", 0.05), ("ECHO", 0.05)):
        monkeypatch.setattr(_shapes, f"{what}_SECONDS", seconds)
    monkeypatch.setattr(vanish, "RETURN_SECONDS", 0.05)


async def _opened(server: Server, name: str) -> trio.SocketStream:
    stream = await server.accept()
    if name == "vanish":
        await WebSocket(stream).accept()
    await read_until(stream, lambda got: got)
    return stream


def _unacknowledged(stream: trio.SocketStream) -> int:
    """Segments that the peer has not acknowledged (tcpi_unacked)."""
    info = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    unacknowledged: int = struct.unpack_from("=I", info, 24)[0]
    return unacknowledged


@needs_darkness
@pytest.mark.parametrize("name", VANISHING)
async def test_what_is_said_to_one_who_vanished_is_not_even_acknowledged(name: str) -> None:
    async with listening() as server, playing(server.url, name) as play:
        stream = await _opened(server, name)
        await until(lambda: play.client.is_dark)
        received = play.cohort.received_bytes
        await stream.send_all(b"hello?")
        await trio.sleep(0.1)
        assert _unacknowledged(stream) == 1
        assert (play.cohort.received_bytes, play.cohort.held) == (received, 1)


@needs_darkness
@pytest.mark.parametrize("name", VANISHING)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_it_finds_out_by_itself_that_the_server_has(name: str, how: str) -> None:
    with patch.object(Client, "is_forgotten", autospec=True, side_effect=Client.is_forgotten) as looks:
        async with listening() as server, playing(server.url, name) as play:
            stream = await _opened(server, name)
            await until(lambda: looks.call_count >= 3)
            assert play.client.is_dark
            if how == "close":
                stream.socket.close()
            else:
                reset(stream)
            await until(lambda: play.cohort.ended)
            assert play.cohort.ended == {"closed while it was dark": 1}
            assert play.cohort.lifetime.count == 1


@needs_darkness
@pytest.mark.parametrize("name", VANISHING)
async def test_where_the_kernel_cannot_know_it_comes_back_and_knocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "is_forgotten", lambda *_: None)
    monkeypatch.setattr(_shapes, "LOOK_EVERY_SECONDS", 600.0)
    async with listening() as server, playing(server.url, name) as play:
        stream = await _opened(server, name)
        knock = await read_until(stream, lambda got: got.endswith(registry()[name].knock))  # type: ignore[attr-defined]
        assert knock
        assert play.cohort.held == 1
        await until(lambda: play.client.is_dark)
        reset(stream)
        await until(lambda: play.cohort.ended)
        assert set(play.cohort.ended) == {"connection reset by peer"}


async def test_a_kernel_that_forbids_it_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: int) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(sockets, "deafen", forbidden)
    async with listening() as server, playing(server.url, "vanish-stream") as play:
        await _opened(server, "vanish-stream")
        await until(lambda: play.engine.own_faults)
        assert [fault for fault in play.engine.own_faults if "CAP_NET_ADMIN" in fault]
        assert play.cohort.held == 1


# a poll that is closed by half


async def test_halfclose_says_that_this_was_all_and_reads_on() -> None:
    """The room of a poll is a name of at most 64 letters."""
    async with meeting("poll-halfclose", poll_wait_seconds=2.5, rooms=("r" * 64,)) as (play, stream):
        assert (await request_of(stream)).target == b"/rooms/%s.silent/messages?wait=2.5" % (b"r" * 57)
        assert await stream.receive_some() == b""
        assert play.cohort.held == 1
        await answer(stream, 200, b"{}", b"Connection: close")
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"answered 200": 1})
        assert play.cohort.answers == {"answered 200": 1}


# publish-reset


async def _posted(server: Server) -> trio.SocketStream:
    stream = await server.accept()
    said = await read_until(stream, lambda got: got.endswith(b"x" * vanish.TEXT_BYTES))
    request, body = parsed(said)
    assert (request.method, request.target) == (b"POST", b"/rooms/publish-reset/messages")
    data = body.next_event()
    assert isinstance(data, h11.Data)
    assert len(data.data) == vanish.TEXT_BYTES
    return stream


async def test_publishers_read_their_receipt_and_reset_again_and_again() -> None:
    async with listening() as server, playing(server.url, "publish-reset", clients=2) as play:
        member = await server.websocket()
        assert await member.hear() == {"type": "join", "id": 0, "room": "publish-reset"}
        await member.send(events.Ping(b"there?"))
        assert isinstance(await member.receive(), events.Pong), "it listens"
        for number in range(1, 4):
            stream = await _posted(server)
            assert play.cohort.held == 2
            await answer(stream, 201, b"{}")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            assert play.cohort.answers == {"answered 201": number}
            assert play.cohort.left == number
        assert not play.cohort.ended


async def test_a_publisher_that_is_refused_comes_back_and_one_that_is_cut_off_is_booked() -> None:
    async with listening() as server, playing(server.url, "publish-reset", clients=2) as play:
        await server.accept()
        stream = await _posted(server)
        await answer(stream, 429)
        stream = await _posted(server)
        assert play.cohort.answers == {"answered 429": 1}
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})
