"""Invariant: a client that reads slowly, answers late, and sends what it has in one piece or in two is never closed.

A mobile phone that wakes up is such a client: the ping, the pong and what its user asks for meet. It sends some bytes
within the time that a pong may take, and the rest of a frame within that of a message. Each of its requests is answered
once, and it gets the messages of its rooms in order.
"""

import json
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest
import trio

from chatserver.reasons import Reason
from tests.support.peers import Address, Peer, connect, frame, publish, say, upgrade
from tests.support.serving import serving

ROOMS = ("lobby", "ops")
CLIENTS, SECONDS = 10, 50.0
#: Messages in each room at first: a page of them is several times what the buffers of kernels take.
MESSAGES, TEXT = 16, "x" * 1500
SEND_BUFFER, RECEIVE_BUFFER = 4096, 2304
#: Bytes read at a time, and read in a second.
SIPS, PACES = (1_000, 4_000), (5_000, 20_000)
#: Deadlines of the server.
DEADLINES: dict[str, Any] = {"ping_interval": 4.0, "pong_deadline": 4.0, "message_deadline": 4.0}
#: Seconds between two things that a client does, unless a ping comes; and until it answers that, and sends the rest.
SILENCES, ANSWERS_WITHIN, RESTS_AFTER = (0.5, 3.0, 5.0, 20.0), 1.5, (0.01, 0.5, 2.0)


class SlowClient:
    """One of them."""

    def __init__(self, peer: Peer, rng: Random) -> None:
        self.peer, self.rng = peer, rng
        self.sip = rng.choice(SIPS)
        self.nap = self.sip / rng.choice(PACES)
        self.pongs: list[bytes] = []
        self.pinged = trio.Event()
        self.numbers = count(1)
        self.asked: dict[int, str] = {}
        self.all_answered = trio.Event()
        self.all_answered.set()
        self.at: dict[str, int] = {}  # the offset in each joined room
        self.is_over = False

    def ask(self, kind: str, **fields: object) -> bytes:
        number = next(self.numbers)
        self.asked[number] = kind
        self.all_answered = trio.Event()
        return say(type=kind, id=number, **fields)

    def something(self) -> bytes:
        room, rng = self.rng.choice(ROOMS), self.rng
        match rng.randrange(8):
            case 0 | 1 | 2:
                return self.ask("history", room=room, limit=rng.choice((1, MESSAGES)))
            case 3:
                return self.ask("join", room=room)
            case 4:
                return self.ask("publish", room=room, text=rng.choice(("hi", TEXT)))
            case 5:
                return self.ask("ping")
            case 6:
                return frame(b"p" * rng.choice((0, 125)), opcode=9)
            case _:
                return frame(b"", opcode=10)

    async def act(self, until: float) -> None:
        """Send things now and then, and close when all are answered."""
        rng = self.rng
        while trio.current_time() < until:
            with trio.move_on_after(rng.choice(SILENCES)):
                await self.pinged.wait()
            self.pinged = trio.Event()
            await trio.sleep(rng.choice((0.0, rng.uniform(0.0, ANSWERS_WITHIN))))
            things = 0 if self.asked else rng.choice((0, 1, 1, 3))
            pieces = [*self.pongs, *(self.something() for _ in range(things))]
            self.pongs.clear()
            if pieces:
                rng.shuffle(pieces)
                wire = b"".join(pieces)
                cut = rng.choice((len(wire), rng.randrange(1, len(wire)), max(len(wire) - 6, 1)))
                await self.peer.send(wire[:cut])
                if wire[cut:]:
                    await trio.sleep(rng.choice(RESTS_AFTER))
                    await self.peer.send(wire[cut:])
        await self.all_answered.wait()
        self.is_over = True
        await self.peer.send(frame(b"\x03\xe8", opcode=8))

    async def take(self, size: int) -> bytes:
        while len(self.peer.buffer) < size:
            await self.peer.more(self.sip)
            await trio.sleep(self.nap)
        return await self.peer.take(size)

    async def hear(self) -> None:
        """Read frames until the server's close frame."""
        while True:
            start, size = await self.take(2)
            if size == 126:
                size = int.from_bytes(await self.take(2))
            elif size == 127:
                size = int.from_bytes(await self.take(8))
            payload = await self.take(size)
            match start:
                case 0x89:
                    self.pongs.append(frame(payload, opcode=10))
                    self.pinged.set()
                case 0x81:
                    self.heard(json.loads(payload))
                case 0x88:
                    assert self.is_over, payload
                    return

    def heard(self, message: dict[str, object]) -> None:
        kind, room = message["type"], str(message.get("room"))
        if kind == "message":
            self.at[room] += 1
            assert message["offset"] == self.at[room]
        elif kind == "joined":
            self.at[room] = int(str(message["cursor"]).partition("-")[2])
        if isinstance(number := message.get("id"), int):
            assert kind in (self.asked.pop(number), "ack", "joined", "pong")
            if not self.asked:
                self.all_answered.set()


async def live(address: Address, seed: str) -> None:
    async with connect(address, receive_buffer=RECEIVE_BUFFER) as peer:
        await peer.send(upgrade())
        await peer.head()
        client = SlowClient(peer, Random(seed))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.act, trio.current_time() + SECONDS)
            await client.hear()


@pytest.mark.slow
@pytest.mark.jumping_clock
async def test_slow_clients_are_never_closed() -> None:
    async with serving(send_buffer=SEND_BUFFER, **DEADLINES) as server:
        for room in ROOMS:
            for _ in range(MESSAGES):
                await publish(server.address, room, TEXT)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(partial(live, server.address, f"1 {number}"))
        assert server.ended(Reason.PEER_CLOSED) >= CLIENTS
