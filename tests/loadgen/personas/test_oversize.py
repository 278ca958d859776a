"""Personas that send more than a server takes."""

import h11
import pytest
import trio

from loadgen.personas import oversize
from loadgen.personas.oversize import LENGTHS
from tests.loadgen.stage import PATIENCE, WebSocket, listening, meeting, parsed, playing, read_until


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oversize.BigBody, "most_bytes", 200_000)
    monkeypatch.setattr(oversize.BigFrame, "most_bytes", 200_000)


async def _rest(stream: trio.SocketStream) -> int:
    """How many bytes come until no more do."""
    size = 0
    with trio.fail_after(PATIENCE):
        while True:
            with trio.move_on_after(0.1) as quiet:
                size += len(await stream.receive_some())
            if quiet.cancelled_caught:
                return size


def _as_whole(head: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a head that lacks its end."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(head + b"\r\n\r\n")
    request = parser.next_event()
    assert isinstance(request, h11.Request)
    return list(request.headers)


async def test_big_head_is_one_field_of_256_kib() -> None:
    async with meeting("big-head") as (play, stream):
        head = await read_until(stream, lambda got: len(got) > 256 * 1024)
        assert await _rest(stream) == 0, "then it waits"
        assert play.cohort.sent_bytes == len(head)
        assert head.count(b"\r\n") == 2, "request line and Host; the third field has no end"
        assert len(dict(_as_whole(head))[b"x-big"]) == 256 * 1024


async def test_many_fields_are_20_000_small_ones() -> None:
    async with listening() as server, playing(server.url, "many-fields"):
        head = await read_until(await server.accept(), lambda got: got.count(b"\r\n") == 20_002)
        fields = _as_whole(head.removesuffix(b"\r\n"))
        assert len(fields) == 20_001
        assert max(len(name) for name, _ in fields) <= 4
        assert len(head) < 200_000


async def test_big_body_announces_a_gigabyte_or_sends_chunks_without_end() -> None:
    async with listening() as server, playing(server.url, "big-body", clients=2):
        framings: set[tuple[bytes, bytes]] = set()
        for _ in range(2):
            stream = await server.accept()
            sent = await read_until(stream, lambda got: len(got) > 200_000)
            assert len(sent) + await _rest(stream) < 250_000, "then it waits"
            request, parser = parsed(sent)
            assert (request.method, request.target) == (b"POST", b"/rooms/lobby/messages")
            body = parser.next_event()
            assert isinstance(body, h11.Data)
            assert set(bytes(body.data)) == set(b"x")
            framings.update(pair for pair in request.headers if pair[0] in {b"content-length", b"transfer-encoding"})
        assert framings == {(b"content-length", b"1073741824"), (b"transfer-encoding", b"chunked")}


async def test_big_frame_announces_a_gigabyte_2_to_the_63_or_sends_fragments_without_end() -> None:
    async with listening() as server, playing(server.url, "big-frame", clients=3) as play:
        starts = set()
        for _ in range(3):
            stream = await server.accept()
            socket = WebSocket(stream)
            await socket.accept()
            sent = await read_until(stream, lambda got: len(got) > 200_000)
            assert len(sent) + await _rest(stream) < 250_000, "then it waits"
            starts.add(sent[:10] if sent[0] == 0x81 else sent[:6])
        assert starts == {
            b"\x81\xff" + (1 << 30).to_bytes(8),
            b"\x81\xff" + ((1 << 63) - 1).to_bytes(8),
            b"\x01\x80\0\0\0\0",
        }
        assert play.cohort.held == 3


async def test_huge_lengths_are_sent_with_five_bytes_of_body() -> None:
    async with listening() as server, playing(server.url, "huge-length", clients=len(LENGTHS)):
        sent = set()
        for _ in LENGTHS:
            sent.add(await read_until(await server.accept(), lambda got: got.endswith(b"hello")))
    for field, body in LENGTHS:
        assert len([request for request in sent if field.encode() + b"\r\n\r\n" + body in request]) == 1
