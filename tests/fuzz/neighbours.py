"""Healthy people in the lobby while everything else goes on in it: one talks, three listen, over a transport each.

Owns: what each has said and heard. May not: measure time; they notice by counting. A message that is lost or
doubled, and a hang-up, are failures.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.fuzz.grammar import LOBBY
from tests.support.peers import Address, Chatter, chatter
from tests.support.transports import TRANSPORTS, subscribe

#: Seconds between two of the talker's messages: half of what its rate allows.
PACE = 0.1
#: What is said last.
GOODBYE = "goodbye, all"
#: Seconds in which a listener hears all that was said, when nobody says anything any more.
PATIENCE = 60.0


@dataclass
class Neighbours:
    """How often each did what it does, and up to which offset it got."""

    acknowledged: int = 0
    heard: dict[str, int] = field(default_factory=dict)  # messages, by transport
    reached: dict[str, int] = field(default_factory=dict)  # offset, by transport
    listening: trio.Event = field(default_factory=trio.Event)  # all of them have heard something

    async def talk(self, address: Address, stop: trio.Event, joined: trio.Event) -> None:
        async with chatter(address) as friend:
            begun = await friend.ask("join", room=LOBBY)
            self.reached = dict.fromkeys(TRANSPORTS, int(begun["cursor"].rpartition("-")[2]))
            joined.set()
            while not stop.is_set():
                await self._say(friend, f"still here, {self.acknowledged}")
                with trio.move_on_after(PACE):
                    await stop.wait()
            await self._say(friend, GOODBYE)
            await friend.close()

    async def _say(self, friend: Chatter, text: str) -> None:
        ack = await friend.ask("publish", room=LOBBY, text=text)
        assert ack["type"] == "ack", ack
        self.acknowledged += 1

    async def listen(self, transport: str, address: Address) -> None:
        self.heard[transport] = 0
        said = ""
        async with subscribe(transport, address, LOBBY, str(self.reached[transport])) as listener:
            while said != GOODBYE:
                for message in await listener.batch():
                    self.reached[transport] += 1
                    assert message["offset"] == self.reached[transport], f"{transport}: a message was lost or doubled"
                    self.heard[transport] += 1
                    said = message["text"]
                if len(self.heard) == len(TRANSPORTS) and all(self.heard.values()):
                    self.listening.set()
                assert not listener.told_of_loss, f"{transport}: messages were skipped"


@asynccontextmanager
async def neighbours(address: Address) -> AsyncIterator[Neighbours]:
    """They chat until the block ends, and then until each has heard everything.

    All have come in when the block begins: in the middle of an assault the server may be full.
    """
    they, joined, stop, heard_all = Neighbours(), trio.Event(), trio.Event(), trio.Event()

    async def listen_all() -> None:
        async with trio.open_nursery() as listening:
            for transport in TRANSPORTS:
                listening.start_soon(they.listen, transport, address)
        heard_all.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(they.talk, address, stop, joined)
        await joined.wait()
        nursery.start_soon(listen_all)
        with trio.fail_after(PATIENCE):
            await they.listening.wait()
        yield they
        stop.set()
        with trio.fail_after(PATIENCE):
            await heard_all.wait()
