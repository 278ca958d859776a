"""Unfinished requests and messages of many connections: bounded together, and no harm to honest clients."""

from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from tests.support.peers import chatter, connect, request, say
from tests.support.serving import eventually, neighbour, serving

pytestmark = pytest.mark.jumping_clock

#: Bytes of all that is unfinished.
MOST = 65_536
#: A part of a request that does not end, how many of it there is room for, and what an honest client asks and is told.
BODIES = (
    request("POST", "/rooms/lobby/messages", headers={"Content-Length": "60000"}) + b"x" * 30_000,
    2,
    request("POST", "/rooms/lobby/messages", b"hello"),
    201,
)
HEADS = (
    request("GET", "/rooms/lobby", headers={"X-Long": "x" * 14_000})[:-2],
    4,
    request("GET", "/rooms/lobby", headers={"Cookie": "x" * 1000}),
    200,
)


@pytest.mark.parametrize(("fat", "fitting", "question", "status"), [BODIES, HEADS], ids=["bodies", "heads"])
async def test_fat_requests_that_never_end(fat: bytes, fitting: int, question: bytes, status: int) -> None:
    """Another one is told to come back; an honest request in two pieces is served, and so are all afterwards."""
    async with serving(all_unfinished_bytes=MOST, max_body_bytes=MOST) as server, neighbour(server):

        async def kept(size: int) -> bool:
            return await server.metric("chatserver_unfinished_bytes") == size

        async with AsyncExitStack() as stack:
            for number in range(1, fitting + 1):
                attacker = await stack.enter_async_context(connect(server.address))
                await attacker.send(fat)
                await eventually(partial(kept, number * len(fat)))
            async with connect(server.address) as another:
                await another.send(fat)
                answer = await another.response()
                assert (answer.status, answer.error) == (503, "unavailable")
                assert 5 <= int(answer.headers["retry-after"]) < 15
                assert answer.headers["connection"] == "close"
                await another.rest()
            await server.counted("unfinished-full")
            async with connect(server.address) as honest:
                await honest.send(question[:-2])
                await trio.sleep(0.1)
                await honest.send(question[-2:])
                assert (await honest.response()).status == status
        await eventually(partial(kept, 0))
        await server.counted("unfinished-full")


async def test_fat_messages_that_never_end() -> None:
    """The fifth is told to come back; a whole message is taken, and a small one in two pieces."""
    async with (
        serving(all_unfinished_bytes=MOST, max_body_bytes=MOST) as server,
        neighbour(server),
        AsyncExitStack() as stack,
    ):
        fat = say(type="publish", id=1, room="lobby", text="x" * 15_800)[:-10]
        kept = 0

        async def all_kept() -> bool:
            return await server.metric("chatserver_unfinished_bytes") == kept

        for _ in range(4):
            attacker = await stack.enter_async_context(chatter(server.address))
            await attacker.peer.send(fat)
            kept += len(fat)
            await eventually(all_kept)
        async with chatter(server.address) as fifth:
            await fifth.peer.send(fat)
            assert (await fifth.closed()).code == 1013
        await server.counted("unfinished-full")
        async with chatter(server.address) as honest:
            message = say(type="publish", id=1, room="lobby", text="hello")
            await honest.peer.send(message[:-2])
            await trio.sleep(0.1)
            await honest.peer.send(message[-2:])
            assert (await honest.next("ack"))["id"] == 1
            await honest.ask("publish", room="lobby", text="y" * 3000)
        await stack.aclose()
        kept = 0
        await eventually(all_kept)
