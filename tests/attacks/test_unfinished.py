"""Unfinished requests and messages of many connections: bounded together, without harm to honest clients."""

from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from chatserver.net.connections import FREE_INPUT
from tests.support.peers import connect, request, say, upgrade
from tests.support.serving import neighbour, serving

pytestmark = pytest.mark.jumping_clock

#: Bytes that all unfinished input may take.
MOST = 65_536
POST = partial(request, "POST", "/rooms/lobby/messages")
#: Bytes sent and received first; an unfinished item, how many of them fit, and the answer to one more; an honest
#: request, one that is long, and the beginning of the answer to both.
CASES = {
    "bodies": (
        (b"", b""),
        (POST(headers={"Content-Length": "60000"}) + b"x" * 31_000, 2, b"HTTP/1.1 503 "),
        (POST(b"hello"), POST(b"x" * 6000), b"HTTP/1.1 201 "),
    ),
    "heads": (
        (b"", b""),
        (request("GET", "/rooms/lobby", headers={"X-Long": "x" * 15_300})[:-2], 4, b"HTTP/1.1 503 "),
        (*(request("GET", "/rooms/lobby", headers={"Cookie": "x" * size}) for size in (1000, 6000)), b"HTTP/1.1 200 "),
    ),
    "messages": (
        (upgrade(), b'"hello"'),
        (say(type="publish", id=1, room="lobby", text="x" * 15_800)[:-10], 4, b"\x03\xf5"),  # close 1013
        (*(say(type="publish", id=1, room="lobby", text="y" * size) for size in (3000, 6000)), b'"ack"'),
    ),
}


@pytest.mark.parametrize("kind", CASES)
async def test_unfinished_input_is_bounded_together(kind: str) -> None:
    """One more is told to return later; an honest request in two pieces is served, a long one from another network."""
    (before, greeting), (fat, fitting, told), (question, long, answer) = CASES[kind]
    async with serving(all_unfinished_bytes=MOST, max_body_bytes=MOST) as server, neighbour(server):
        async with AsyncExitStack() as stack:
            sources = ["127.0.0.1"] * (fitting + 2) + ["127.0.0.9"]
            peers = [await stack.enter_async_context(connect(server.address, source=source)) for source in sources]
            for peer in peers if before else ():
                await peer.send(before)
                await peer.until(greeting)
            *attackers, another, honest, elsewhere = peers
            for number, attacker in enumerate(attackers, 1):
                await attacker.send(fat)
                await server.reaches(number * (len(fat) - FREE_INPUT), "chatserver_unfinished_bytes")
            await another.send(fat)
            assert told in await another.rest()
            await server.counted("unfinished-full")
            for peer, asked, cut in ((honest, question, 20), (elsewhere, long, 5000)):
                await peer.send(asked[:cut])
                await trio.sleep(0.1)
                await peer.send(asked[cut:])
                await peer.until(answer)
        await server.reaches(0, "chatserver_unfinished_bytes")
        await server.counted("unfinished-full")
