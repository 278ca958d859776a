"""What comes before and behind bytes that are neither a request nor a frame.

The catalogue plays each kind of them, with its answer and its reason; tests/protocol has the parsers.
"""

import pytest

from tests.support.peers import Chatter, ask, connect, frame, request, say, upgrade
from tests.support.serving import neighbour, serving

pytestmark = pytest.mark.jumping_clock

POST = b"POST /rooms/lobby/messages HTTP/1.1\r\nHost: t\r\n"
TWO_LENGTHS = POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"


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
