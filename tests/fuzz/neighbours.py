"""Healthy members of the lobby beside the random peers: one publishes, three listen, each over a transport of its own.

Owns: what each has sent and received. May not: measure time. A lost or doubled message and a closed connection are
failures.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.fuzz.grammar import LOBBY
from tests.support.peers import Address, Chatter, chatter
from tests.support.transports import TRANSPORTS, subscribe

#: Seconds between two messages of the publisher: a quarter of the rate that is allowed.
PACE = 0.2
#: The text of the last message.
GOODBYE = "goodbye, all"


@asynccontextmanager
async def neighbours(address: Address) -> AsyncIterator[dict[str, int]]:
    """Chat until the block ends and each has received everything. Yields the number of messages of each.

    All are connected when the block begins, since the server may be full later.
    """
    heard = dict.fromkeys(TRANSPORTS, 0)
    stop = trio.Event()

    async def listen(transport: str, before: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with subscribe(transport, address, LOBBY, str(before)) as listener:
            task_status.started()
            said = ""
            while said != GOODBYE:
                for message in await listener.batch():
                    heard[transport] += 1
                    assert message["offset"] == before + heard[transport], f"{transport}: a message was lost or doubled"
                    said = message.get("text", said)  # a reaction has none
                assert not listener.told_of_loss, f"{transport}: messages were skipped"

    async def talk(friend: Chatter) -> None:
        while True:
            text = GOODBYE if stop.is_set() else "still here"
            ack = await friend.ask("publish", room=LOBBY, text=text)
            assert ack["type"] == "ack", ack
            if text == GOODBYE:
                break
            with trio.move_on_after(PACE):
                await stop.wait()
        await friend.close()

    async with chatter(address) as friend, trio.open_nursery() as nursery:
        joined = await friend.ask("join", room=LOBBY)
        for transport in TRANSPORTS:
            await nursery.start(listen, transport, int(joined["cursor"].rpartition("-")[2]))
        nursery.start_soon(talk, friend)
        yield heard
        stop.set()
