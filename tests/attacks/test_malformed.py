"""Bytes that are neither a request nor a frame, end to end.

Each gets an error, closes its own connection only, and is counted under its reason; the log has a line and no
traceback. This is one case for each reason: the catalogue plays all cases of loadgen, and tests/protocol tests the
parsers and their answers with cuts everywhere.
"""

from collections import Counter
from functools import partial

import pytest

from tests.support.peers import Chatter, ask, chatter, connect, frame, request, say, upgrade
from tests.support.serving import neighbour, serving, until

pytestmark = pytest.mark.jumping_clock

POST = b"POST /rooms/lobby/messages HTTP/1.1\r\nHost: t\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TWO_LENGTHS = POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"

HTTP = {
    "NUL at once": (b"\0", 400, "bad-request"),
    "a head too long without an end": (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000, 431, "head-too-large"),
    "chunks too long together": (CHUNKED + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5, 413, "body-too-large"),
    "fat chunk extensions": (CHUNKED + b"1;" + b"e" * 3_000 + b"\r\nx\r\n", 400, "chunk-overhead"),
}
FRAMES = {
    "unmasked": (frame("x", masked=False), 1002, "bad-frame"),
    "text that is not UTF-8": (frame(b"\xff"), 1007, "bad-text"),
    "fragments too big together": (
        frame("x" * 9_000, fin=False) + frame("x" * 9_000, opcode=0), 1009, "message-too-big",
    ),
    "too many fragments": (frame("", fin=False) + frame("", opcode=0, fin=False) * 64, 1009, "too-many-fragments"),
}  # fmt: skip


async def test_malformed_input_is_answered_counted_and_logged() -> None:
    async with serving(presence_grace=1.0) as server, neighbour(server):
        for name, (wire, status, _) in HTTP.items():
            async with connect(server.address) as peer:
                await peer.send(wire)
                answer = await peer.response()
                assert (answer.status, answer.headers["connection"]) == (status, "close"), name
                assert answer.error, name
                assert await peer.rest() == b"", name
        for name, (wire, code, _) in FRAMES.items():
            async with chatter(server.address) as friend:
                await friend.ask("join", room="lobby")
                await friend.peer.send(wire)
                closed = await friend.closed()
                assert (closed.code, bool(closed.reason)) == (code, True), name
                assert await friend.peer.rest() == b"", name
        members = partial(ask, server.address, "GET", "/rooms/lobby/members")
        await until(members, lambda answer: answer.json["count"] == 0)
        reasons = Counter(reason for _, _, reason in (*HTTP.values(), *FRAMES.values()))
        for reason, times in reasons.items():
            await server.counted(reason, times)
        noted = {line["reason"] for line in server.logs if line["event"] == "misbehaved"}
        assert noted
        assert noted <= set(reasons)
        assert not any("exc_info" in line or "exception" in line for line in server.logs)


async def test_bytes_after_a_refused_request_are_ignored() -> None:
    """The start of the next request is unknown, so reading on would allow request smuggling."""
    async with serving() as server, connect(server.address) as peer:
        await peer.send(TWO_LENGTHS + request("POST", "/rooms/lobby/messages", b"smuggled"))
        assert (await peer.response()).status == 400
        assert await peer.rest() == b""
        assert (await ask(server.address, "GET", "/rooms/lobby/messages")).json["messages"] == []


async def test_valid_input_before_malformed_input_counts() -> None:
    """A valid request before garbage; a valid frame before a malformed one, right after the handshake."""
    async with serving() as server, connect(server.address) as poster, connect(server.address) as peer:
        await poster.send(request("POST", "/rooms/lobby/messages", b"one") + b"\0garbage")
        assert [(await poster.response()).status for _ in range(2)] == [201, 400]
        assert await poster.rest() == b""
        await peer.send(upgrade() + say(type="publish", room="lobby", text="two") + frame("x", rsv=7))
        assert (await peer.head()).status == 101
        assert (await Chatter(peer).closed()).code == 1002
        messages = (await ask(server.address, "GET", "/rooms/lobby/messages")).json["messages"]
        assert [message["text"] for message in messages] == ["one", "two"]


async def test_a_reset_after_the_answer_keeps_the_first_reason() -> None:
    async with serving() as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(b"\0")
            await server.in_phase("closing")
            peer.reset()
        await server.counted("bad-request")
        assert await server.closes("peer-reset") == 0
