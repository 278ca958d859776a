"""Personas that send without end: the server's end is h11's and wsproto's."""

import json

import h11
import pytest
import trio
from wsproto import events
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import generate_accept_token

from loadgen.personas._shapes import BLOCK_BYTES
from loadgen.personas.floods import BOMB_BYTES, bomb
from tests.loadgen.stage import answer, listening, meeting, parsed, playing, read_until, request_of, reset, until

#: More than one block, so that it is seen to go on.
ENOUGH_BYTES = 5 * BLOCK_BYTES


async def _floods(name: str, *, clients: int = 1) -> list[list[events.Event]]:
    """What comes from each client while its flood is read: all of it, however much came with the last read."""
    floods = []
    async with listening() as server, playing(server.url, name, clients=clients):
        for _ in range(clients):
            socket, heard = await server.websocket(), list[events.Event]()
            while len(socket.data) < ENOUGH_BYTES:
                heard.append(await socket.receive())
            floods.append(heard + socket.received())
    return floods


def _messages(heard: list[events.Event]) -> list[dict[str, object]]:
    messages, text = [], ""
    for event in heard:
        if isinstance(event, events.TextMessage):
            text += event.data
            if event.message_finished:
                messages.append(json.loads(text))
                text = ""
    return messages


@pytest.mark.parametrize(("name", "kind"), [("ping-flood", events.Ping), ("pong-flood", events.Pong)])
async def test_control_frames_are_the_smallest_and_the_largest(
    name: str, kind: type[events.Ping | events.Pong]
) -> None:
    floods = await _floods(name, clients=2)
    assert sorted(len(flood) > 1000 for flood in floods) == [False, True]
    for flood in floods:
        sizes = set()
        for event in flood:
            assert isinstance(event, kind)
            sizes.add(len(event.payload))
        assert sizes in ({0}, {125})


async def test_empty_fragments_never_end_their_message() -> None:
    [flood] = await _floods("empty-fragments")
    assert len(flood) > 10_000
    assert all(
        isinstance(event, events.TextMessage) and (event.data, event.message_finished) == ("", False) for event in flood
    )


@pytest.mark.parametrize(
    ("name", "types", "room", "texts"),
    [("tiny-frames", ["publish"], "tiny-0", {"x"}), ("room-churn", ["join", "leave"], "lobby", {None})],
)
async def test_messages_at_full_speed(name: str, types: list[str], room: str, texts: set[str | None]) -> None:
    [messages] = map(_messages, await _floods(name))
    assert len(messages) > 500
    assert [message["type"] for message in messages] == (types * len(messages))[: len(messages)]
    assert ({message["room"] for message in messages}, {message.get("text") for message in messages}) == ({room}, texts)


async def test_pipeline_asks_on_and_on_and_reads_no_answer() -> None:
    async with meeting("pipeline", path="/page") as (play, stream):
        asked = await read_until(stream, lambda got: len(got) > ENOUGH_BYTES)
        request, parser = parsed(asked)
        assert (request.method, request.target) == (b"GET", b"/page")
        assert isinstance(parser.next_event(), h11.EndOfMessage), "requests are whole"
        single = play.client.opening()
        assert asked == (single * (len(asked) // len(single) + 1))[: len(asked)]
        await answer(stream, 200)
        await read_until(stream, lambda got: len(got) > ENOUGH_BYTES)
        assert not play.cohort.received_bytes
        reset(stream)
        await until(lambda: play.cohort.ended == {"connection reset by peer": 1})


async def test_sse_flood_asks_for_a_stream_and_talks_behind_it_while_events_come() -> None:
    async with meeting("sse-flood") as (play, stream):
        said = await read_until(stream, lambda got: b"\r\n\r\n" in got)
        request, _ = parsed(said)
        assert request.target == b"/rooms/lobby/events"
        assert (b"accept", b"text/event-stream") in list(request.headers)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n")
        await until(lambda: play.cohort.answers == {"answered 200": 1})
        for _ in range(3):
            await stream.send_all(b"data: {}\n\n")
            said += await read_until(stream, lambda got: len(got) > ENOUGH_BYTES)
        assert set(said.split(b"\r\n\r\n")[1]) == set(b"x")
        await stream.aclose()
        await until(lambda: sum(play.cohort.ended.values()) == 1)
        assert "answered 200" not in play.cohort.ended, "that it was given a stream says nothing about its end"


async def test_long_requests_are_whole_and_as_long_as_they_may_be() -> None:
    async with listening() as server, playing(server.url, "long-requests", clients=4) as play:
        seen = set()
        for _ in range(4):
            stream = await server.accept()
            asked = await read_until(stream, lambda got: len(got) > ENOUGH_BYTES)
            await answer(stream, 200)
            request, parser = parsed(asked)
            size = 0
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                assert isinstance(event, h11.Data)
                size += len(event.data)
            seen.add((request.method, len(request.headers) > 90, size > 50_000, b"chunked" in asked[:500]))
            assert len(parser.trailing_data[0]) > BLOCK_BYTES, "and there is always another"
        assert len(seen) == 4
        await until(lambda: play.cohort.received_bytes)
        assert not play.cohort.answers


async def test_long_messages_are_valid_and_as_long_as_they_may_be() -> None:
    floods = list(map(_messages, await _floods("long-messages", clients=3)))
    by_type = {str(flood[0]["type"]): flood for flood in floods}
    assert set(by_type) == {"ping", "publish", "history"}
    assert by_type["ping"][0]["id"] == "A"
    sizes = {kind: len(json.dumps(flood[0], ensure_ascii=False).encode()) for kind, flood in by_type.items()}
    assert sizes["ping"] > 14_000
    assert 7_000 < sizes["publish"] < 8 * 1024
    assert 512 < sizes["history"] < 1024, "one fits into chatserver's reads of 1 KiB, and not two"


async def test_connect_flood_says_nothing_and_closes_in_both_ways() -> None:
    async with listening(backlog=128) as server, playing(server.url, "connect-flood", clients=2) as play:
        ends = set()
        for _ in range(40):
            stream = await server.accept()
            try:
                ends.add(await stream.receive_some())
            except trio.BrokenResourceError:
                ends.add(b"RST")
        assert ends == {b"", b"RST"}
        await until(lambda: play.cohort.left >= 40)
        assert not play.cohort.ended


async def _until_reset(stream: trio.SocketStream) -> bytes:
    said = bytearray()
    while True:
        try:
            data = await stream.receive_some()
        except trio.BrokenResourceError:
            return bytes(said)
        assert data, "FIN"
        said += data


async def test_request_reset_asks_for_a_join_a_post_and_a_search_and_resets() -> None:
    """What arrived before the RST can be read, and each is whole."""
    async with listening(backlog=128) as server, playing(server.url, "request-reset", clients=3) as play:
        asked = set()
        for _ in range(30):
            stream = await server.accept()
            request, body = parsed(await _until_reset(stream))
            target = bytes(request.target)
            asked.add(target[:21])
            rest = body.next_event()
            if target.startswith(b"/ws"):
                frames = body.trailing_data[0]
                assert (b'"join"' in frames, frames[0]) == (True, 0x81)
            elif request.method == b"POST":
                assert isinstance(rest, h11.Data)
                assert len(rest.data) == 4000
            else:
                assert isinstance(rest, h11.EndOfMessage)
        assert asked == {b"/ws", b"/rooms/request-reset-", b"/search?q=words&limit"}
        await until(lambda: play.cohort.left >= 30)
        assert not play.cohort.ended


async def test_request_reset_asks_a_server_without_a_chat_for_its_page() -> None:
    async with listening() as server, playing(server.url, "request-reset", clients=3, path="/a", is_chat=False):
        for _ in range(3):
            request, _ = parsed(await _until_reset(await server.accept()))
            assert (request.method, request.target) == (b"GET", b"/a")


@pytest.mark.parametrize("accepts", [True, False])
async def test_compress_bomb_is_sent_only_to_those_that_unpack(accepts: bool) -> None:
    async with meeting("compress-bomb") as (play, stream):
        fields = dict((await request_of(stream)).headers)
        assert fields[b"sec-websocket-extensions"] == b"permessage-deflate"
        accept = b"Sec-WebSocket-Accept: " + generate_accept_token(fields[b"sec-websocket-key"])
        extension = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"
        lines = (b"HTTP/1.1 101 X", accept, *([extension] if accepts else []), b"", b"")
        await stream.send_all(b"\r\n".join(lines))
        got = await read_until(stream, lambda got: len(got) >= (len(bomb()) if accepts else 7))
        assert got[0] == 0xC2, "a whole binary frame with the first reserved bit"
        assert got.startswith(bomb()) if accepts else len(got) == 7
        assert play.cohort.answers == {f"permessage-deflate {'' if accepts else 'not '}accepted": 1}
        assert play.cohort.held == 1


def test_the_bomb_is_a_valid_message_to_those_who_unpack_it() -> None:
    extension = PerMessageDeflate()
    extension.accept("permessage-deflate")
    server = Connection(ConnectionType.SERVER, [extension])
    server.receive_data(bomb())
    unpacked = sum(len(event.data) for event in server.events() if isinstance(event, events.BytesMessage))
    assert unpacked == BOMB_BYTES
    assert len(bomb()) < BOMB_BYTES / 900
