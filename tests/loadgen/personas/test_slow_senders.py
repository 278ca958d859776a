"""Personas that send too little, too slowly: what they send is read by h11, OpenSSL or wsproto."""

import h11
import pytest
import trio
import wsproto
from wsproto import events

from loadgen.clients.client import Client
from loadgen.personas import registry
from loadgen.personas.slow_http import BODY_BYTES, EXTENSION_BYTES
from tests.loadgen.stage import listening, meeting, parsed, playing, read_until


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("slow-head", "drip-head", "slow-handshake", "slow-body", "slow-chunk"):
        monkeypatch.setattr(registry()[name], "every_seconds", 0.001)


async def test_slow_head_adds_fields_and_never_the_blank_line() -> None:
    async with listening() as server, playing(server.url, "slow-head", path="/somewhere") as play:
        said = await read_until(await server.accept(), lambda got: got.count(b"X-Line") >= 10)
        assert b"\r\n\r\n" not in said
        request, _ = parsed(said + b"\r\n")
        assert request.target == b"/somewhere"
        assert len([name for name, _ in request.headers if name.startswith(b"x-line-")]) >= 10
        assert play.cohort.held == 1


@pytest.mark.parametrize("name", ["drip-head", "slow-handshake"])
async def test_a_head_byte_by_byte_is_a_head_to_which_only_the_end_is_lacking(name: str) -> None:
    async with listening() as server, playing(server.url, name, path="/page", websocket_path="/socket") as play:
        said = await read_until(await server.accept(), lambda got: b"X-Padding: aaaaaaaaaa" in got)
        assert b"\r\n\r\n" not in said
        request, _ = parsed(said + b"\r\n\r\n")
        fields = dict(request.headers)
        if name == "drip-head":
            assert request.target == b"/page"
        else:
            assert (request.target, fields[b"upgrade"]) == (b"/socket", b"websocket")
            server_side = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
            server_side.receive_data(said + b"\r\n\r\n")
            assert isinstance(next(server_side.events()), events.Request)
        assert play.cohort.sent_bytes >= len(said), "a byte at a time, each counted"


async def test_slow_body_announces_much_and_sends_little() -> None:
    async with listening() as server, playing(server.url, "slow-body") as play:
        said = await read_until(await server.accept(), lambda got: got.endswith(b"xxxxxxxxxx"))
        request, body = parsed(said)
        assert (request.method, request.target) == (b"POST", b"/rooms/lobby/messages")
        assert dict(request.headers)[b"content-length"] == b"%d" % BODY_BYTES
        data = body.next_event()
        assert isinstance(data, h11.Data)
        sent = len(said) - len(said.rstrip(b"x"))  # perhaps more than ten, on a busy machine
        assert bytes(data.data) == b"x" * sent
        assert sent < 100
        assert body.next_event() is h11.NEED_DATA
        assert play.cohort.held == 1


async def test_slow_chunk_wraps_each_byte_in_a_kilobyte() -> None:
    async with listening() as server, playing(server.url, "slow-chunk"):
        said = await read_until(await server.accept(), lambda got: got.count(b"\r\nx\r\n") >= 5)
        request, body = parsed(said)
        assert request.target == b"/rooms/lobby/messages"
        data = b"".join(bytes(event.data) for event in iter(body.next_event, h11.NEED_DATA) if hasattr(event, "data"))
        assert data == b"x" * said.count(b"\r\nx\r\n")
        assert len(said) > 5 * EXTENSION_BYTES


async def test_expect_continue_waits_and_when_told_to_go_on_still_waits() -> None:
    async with meeting("expect-continue") as (play, stream):
        _, body = parsed(await read_until(stream, lambda got: b"\r\n\r\n" in got))
        assert body.they_are_waiting_for_100_continue
        await stream.send_all(b"HTTP/1.1 100 Continue\r\nX-Why: not\r\n\r\n")
        with trio.move_on_after(0.05):
            assert await stream.receive_some() is None, "it said something"
        assert not play.cohort.answers


async def test_a_crowd_does_not_act_in_step() -> None:
    async with listening() as server, playing(server.url, "slow-head") as play:
        await server.accept()
        client: Client = play.client
        assert isinstance(client, registry()["slow-head"])
        paces = {client.pace(10.0) for _ in range(50)}
        assert len(paces) == 50
        assert all(8 <= pace <= 12 for pace in paces)
