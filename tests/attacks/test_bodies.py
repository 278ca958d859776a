"""Unfinished bodies of many connections: bounded together, and no harm to whoever sends a message."""

from functools import partial

import trio

from tests.support.peers import connect, request
from tests.support.serving import eventually, neighbour, serving

#: Bytes of all unfinished bodies: two of the attackers' and a little.
MOST = 65_536
FAT = request("POST", "/rooms/lobby/messages", headers={"Content-Length": "60000"}) + b"x" * 30_000


async def test_fat_bodies_that_never_end() -> None:
    """The third is told to come back, an honest one that comes in two pieces is served, and so are all afterwards."""
    async with serving(all_bodies_bytes=MOST, max_body_bytes=MOST) as server, neighbour(server):

        async def kept(size: int) -> bool:
            return await server.metric("chatserver_bodies_kept_bytes") == size

        async with connect(server.address) as first, connect(server.address) as second:
            for number, attacker in enumerate((first, second), 1):
                await attacker.send(FAT)
                await eventually(partial(kept, number * len(FAT)))
            async with connect(server.address) as third:
                await third.send(FAT)
                answer = await third.response()
                assert (answer.status, answer.error) == (503, "unavailable")
                assert 5 <= int(answer.headers["retry-after"]) < 15
                assert answer.headers["connection"] == "close"
                await third.rest()
            await server.counted("bodies-full")
            async with connect(server.address) as honest:
                message = request("POST", "/rooms/lobby/messages", b"hello")
                await honest.send(message[:-2])
                await trio.sleep(0.1)
                await honest.send(message[-2:])
                assert (await honest.response()).status == 201
        await eventually(partial(kept, 0))
        await server.counted("bodies-full")
