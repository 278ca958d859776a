"""Bytes that are no request and no frame, end to end.

Each is told clearly, ends its own connection and no other, and is counted under a reason of its own; the log has a line
and no traceback. What the parsers make of them, cut in every way, is tested in tests/protocol.
"""

import socket
import struct
from collections import Counter
from collections.abc import Iterable

import pytest
import trio

from tests.support.peers import Chatter, Peer, ask, chatter, connect, frame, publish, request, say, upgrade
from tests.support.serving import Serving, neighbour, serving

pytestmark = pytest.mark.jumping_clock

POST = b"POST /rooms/lobby/messages HTTP/1.1\r\nHost: t\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def get(lines: bytes, first: bytes = b"GET /healthz HTTP/1.1") -> bytes:
    return first + b"\r\nHost: t\r\n" + lines + b"\r\n"


HTTP = {
    "bad byte in method": (get(b"", b"G\x80T / HTTP/1.1"), 400, "bad-request"),
    "space in method": (get(b"", b"GE T / HTTP/1.1"), 400, "bad-request"),
    "bad byte in target": (get(b"", b"GET /\x80 HTTP/1.1"), 400, "bad-request"),
    "fragment in target": (get(b"", b"GET /#top HTTP/1.1"), 400, "bad-request"),
    "target is no path": (get(b"", b"GET healthz HTTP/1.1"), 400, "bad-request"),
    "path is not UTF-8": (get(b"", b"GET /%ff HTTP/1.1"), 400, "bad-request"),
    "control in escaped path": (get(b"", b"GET /a%0d%0ab HTTP/1.1"), 400, "bad-request"),
    "bad byte in field name": (get(b"X\x80: y\r\n"), 400, "bad-request"),
    "space in field name": (get(b"X : y\r\n"), 400, "bad-request"),
    "control in field value": (get(b"X: a\x01b\r\n"), 400, "bad-request"),
    "NUL": (get(b"X: a\0b\r\n"), 400, "bad-request"),
    "NUL at once": (b"\0", 400, "bad-request"),
    "bare LF": (b"GET / HTTP/1.1\nHost: t\n\n", 400, "bad-request"),
    "bare CR": (get(b"X: a\rb\r\n"), 400, "bad-request"),
    "folded field": (get(b"X: a\r\n b\r\n"), 400, "bad-request"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
    "two Hosts": (get(b"Host: t\r\n"), 400, "bad-request"),
    "wrong Host": (b"GET / HTTP/1.1\r\nHost: a b/c@d\r\n\r\n", 400, "bad-request"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, "bad-request"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad-request"),
    "HTTP/3.7": (get(b"", b"GET / HTTP/3.7"), 505, "bad-request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request"),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", 400, "bad-request"),
    "two equal lengths": (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 400, "bad-request"),
    "a list of lengths": (POST + b"Content-Length: 2, 2\r\n\r\nhi", 400, "bad-request"),
    "a negative length": (POST + b"Content-Length: -2\r\n\r\nhi", 400, "bad-request"),
    "length and encoding": (
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request",
    ),
    "unknown encoding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "bad-request"),
    "encoding in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400, "bad-request"),
    "a chunk size that is none": (CHUNKED + b"xyz\r\n", 400, "bad-request"),
    "a chunk longer than it said": (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", 400, "bad-request"),
    "an expectation": (POST + b"Content-Length: 2\r\nExpect: tea\r\n\r\nhi", 417, "bad-request"),
    "a head too long": (get(b"X: " + b"y" * 20_000 + b"\r\n"), 431, "head-too-large"),
    "a head too long without an end": (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000, 431, "head-too-large"),
    "a target too long": (get(b"", b"GET /" + b"y" * 9_000 + b" HTTP/1.1"), 414, "head-too-large"),
    "too many fields": (get(b"X: y\r\n" * 101), 431, "head-too-large"),
    "a body too long": (POST + b"Content-Length: 65537\r\n\r\n", 413, "body-too-large"),
    "a length near 2^63": (POST + b"Content-Length: 9223372036854775807\r\n\r\n", 413, "body-too-large"),
    "a length of 5,000 digits": (POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400, "bad-request"),
    "a chunk near 2^63": (CHUNKED + b"7fffffffffffffff\r\n" + b"x" * 70_000, 413, "body-too-large"),
    "chunks too long together": (
        CHUNKED + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5, 413, "body-too-large",
    ),
    "fat chunk extensions": (CHUNKED + b"1;" + b"e" * 3_000 + b"\r\nx\r\n", 400, "chunk-overhead"),
    "too many chunks": (CHUNKED + b"4\r\nabcd\r\n" * 600, 400, "chunk-overhead"),
}  # fmt: skip


async def ended_as_expected(server: Serving, reasons: Iterable[str]) -> None:
    """Each is counted under its reason, and what the log says of it has no traceback."""
    for reason, times in Counter(reasons).items():
        await server.counted(reason, times)
    lines = [line for line in server.logs if line["event"] == "misbehaved"]
    assert lines
    assert {line["reason"] for line in lines} <= set(reasons)
    assert not any("exc_info" in line or "exception" in line for line in server.logs)


async def test_no_request() -> None:
    async with serving() as server, neighbour(server):
        for name, (wire, status, _) in HTTP.items():
            async with connect(server.address) as peer:
                await peer.send(wire)
                answer = await peer.response()
                assert (answer.status, answer.headers["connection"]) == (status, "close"), name
                assert answer.error, name
                assert await peer.rest() == b"", name
        await ended_as_expected(server, [reason for _, _, reason in HTTP.values()])


async def test_what_follows_a_refused_request_is_not_obeyed() -> None:
    """Where the next request would begin is unknown: reading on is how requests are smuggled."""
    async with serving() as server, connect(server.address) as peer:
        bad = POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"
        await peer.send(bad + request("POST", "/rooms/lobby/messages", b"smuggled"))
        assert (await peer.response()).status == 400
        assert await peer.rest() == b""
        assert (await ask(server.address, "GET", "/rooms/lobby/messages")).json["messages"] == []


async def test_bytes_behind_a_good_request_cost_only_what_follows() -> None:
    async with serving() as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(request("POST", "/rooms/lobby/messages", b"good") + b"\0garbage")
            assert (await peer.response()).status == 201
            assert (await peer.response()).status == 400
            assert await peer.rest() == b""
        await server.counted("bad-request")


async def test_a_peer_that_resets_at_our_answer_is_counted_for_what_it_did() -> None:
    async with serving() as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(b"\0")
            await server.in_phase("closing")
            peer.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await server.counted("bad-request")
        assert await server.closes("peer-reset") == 0


# -- frames ---------------------------------------------------------------------------------------------------------

HALF_EURO = "€".encode()[:2]
FRAMES = {
    "unmasked": (frame("x", masked=False), 1002, "bad-frame"),
    "reserved bit 1": (frame("x", rsv=4), 1002, "bad-frame"),
    "reserved bit 3": (frame("x", rsv=1), 1002, "bad-frame"),
    "opcode 3": (frame("x", opcode=3), 1002, "bad-frame"),
    "opcode 15": (frame("x", opcode=15), 1002, "bad-frame"),
    "a ping of 126 bytes": (frame(b"x" * 126, opcode=9), 1002, "bad-frame"),
    "a ping in fragments": (frame(b"x", opcode=9, fin=False), 1002, "bad-frame"),
    "nothing to continue": (frame("x", opcode=0), 1002, "bad-frame"),
    "a message inside a message": (frame("x", fin=False) + frame("y"), 1002, "bad-frame"),
    "binary": (frame(b"x", opcode=2), 1002, "bad-frame"),
    "text that is not UTF-8": (frame(b"\xff"), 1007, "bad-text"),
    "text cut inside a character": (frame(HALF_EURO), 1007, "bad-text"),
    "bad UTF-8 split across fragments": (frame(HALF_EURO, fin=False) + frame(b"\x28", opcode=0), 1007, "bad-text"),
    "a surrogate in UTF-8": (frame(b"\xed\xa0\x80"), 1007, "bad-text"),
    "a close of one byte": (frame(b"\x03", opcode=8), 1002, "bad-frame"),
    "a close with 1005": (frame((1005).to_bytes(2, "big"), opcode=8), 1002, "bad-frame"),
    "a close with 999": (frame((999).to_bytes(2, "big"), opcode=8), 1002, "bad-frame"),
    "a close with 5000": (frame((5000).to_bytes(2, "big"), opcode=8), 1002, "bad-frame"),
    "a close that is not UTF-8": (frame(b"\x03\xe8\xff", opcode=8), 1007, "bad-text"),
    "a frame too big": (frame("x" * 16_385), 1009, "message-too-big"),
    "a length near 2^63": (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009, "message-too-big"),
    "a length past 2^63": (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009, "message-too-big"),
    "fragments too big together": (
        frame("x" * 9_000, fin=False) + frame("x" * 9_000, opcode=0), 1009, "message-too-big",
    ),
    "too many fragments": (
        frame("x", fin=False) + frame("x", opcode=0, fin=False) * 64, 1009, "too-many-fragments",
    ),
    "too many empty fragments": (
        frame("", fin=False) + frame("", opcode=0, fin=False) * 64, 1009, "too-many-fragments",
    ),
    "a request on an open WebSocket": (request("GET", "/"), 1002, "bad-frame"),
}  # fmt: skip


async def test_no_frame() -> None:
    async with serving() as server, neighbour(server):
        for name, (wire, code, _) in FRAMES.items():
            async with chatter(server.address) as peer:
                await peer.ask("join", room="lobby")
                await peer.peer.send(wire)
                closed = await peer.closed()
                assert closed.code == code, name
                assert closed.reason, name
                assert await peer.peer.rest() == b"", name
            assert (await ask(server.address, "GET", "/rooms/lobby/members")).json["count"] == 0
        await ended_as_expected(server, [reason for _, _, reason in FRAMES.values()])


async def test_bad_frames_right_behind_the_handshake() -> None:
    async with serving() as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(upgrade() + say(type="ping", id=1) + frame("x", masked=False))
            assert (await peer.head()).status == 101
            friend = Chatter(peer)
            assert (await friend.next("pong"))["id"] == 1
            assert (await friend.closed()).code == 1002
        await server.counted("bad-frame")


async def test_a_good_message_before_a_bad_frame_counts() -> None:
    async with serving() as server, chatter(server.address) as peer:
        await peer.peer.send(say(type="publish", room="lobby", text="good") + frame("x", rsv=7))
        assert (await peer.closed()).code == 1002
        page = (await ask(server.address, "GET", "/rooms/lobby/messages")).json
        assert [message["text"] for message in page["messages"]] == ["good"]


# -- greed ----------------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    """Thousands in one write, and nothing read for a while: one is in flight, the rest waits in the kernel."""
    count = 2_000
    async with serving(send_buffer=8192) as server, neighbour(server):
        async with connect(server.address, receive_buffer=8192) as peer:
            from_here = request("GET", "/rooms/lobby/messages?after=0")
            await publish(server.address, "lobby", "x" * 500)
            await _pipeline(peer, from_here, count)
        assert await server.closes("flood") == 0


async def _pipeline(peer: Peer, wire: bytes, count: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, wire * count)
        await trio.sleep(0.3)
        for _ in range(count):
            answer = await peer.response()
            assert answer.status == 200
            assert b'"offset":1,' in answer.body
