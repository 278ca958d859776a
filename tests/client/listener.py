"""Collects the events of a client until an expected one arrives, and publishes in the background."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio

from chatserver.client import Ack, Backoff, Chat, ChatError, Event, Message, Room, TransportName, connect
from tests.support.serving import Serving

SOON = 120.0  # s; never reached unless something is broken, however busy the machine is

TRANSPORTS: tuple[TransportName, ...] = ("ws", "poll", "sse")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)

Kind = TypeVar("Kind", bound=Event)


def url(server: Serving) -> str:
    return f"{server.address.host}:{server.address.port}"


class Listener:
    """Collects events and waits for expected ones."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.seen: list[Event] = []
        self.acks: list[Ack] = []
        self.errors: list[ChatError] = []
        self._events = chat.events()
        self._say, self._said = trio.open_memory_channel[str](math.inf)
        self._told = trio.Event()

    def events(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def until(self, kind: type[Kind], *, times: int = 1) -> list[Kind]:
        """Wait until `times` events of a kind have arrived. Returns them."""
        with trio.fail_after(SOON):
            while len(found := self.events(kind)) < times:
                self.seen.append(await anext(self._events))
        return found

    async def texts(self, count: int) -> list[str]:
        return [message.text for message in await self.until(Message, times=count)]

    def say(self, *texts: str) -> None:
        """Publish in this order, in the background; the outcomes are in `acks` and `errors`."""
        for text in texts:
            self._say.send_nowait(text)

    async def acknowledged(self, count: int) -> None:
        with trio.fail_after(SOON):
            while len(self.acks) < count:
                self._told = trio.Event()
                await self._told.wait()

    async def publish(self) -> None:
        async for text in self._said:
            try:
                self.acks.append(await self.chat.publish("lobby", text))
            except ChatError as error:
                self.errors.append(error)
            self._told.set()


@asynccontextmanager
async def listening(
    url: str, room: str = "lobby", *, jitter: float = 0.01, transport: TransportName = "ws"
) -> AsyncIterator[Listener]:
    """Follow a room, with short delays before each reconnect."""
    backoff = Backoff(jitter=lambda: jitter)
    async with (
        connect(url, transport=transport, backoff=backoff, answer_timeout=SOON) as chat,
        trio.open_nursery() as nursery,
    ):
        listener = Listener(chat)
        chat.join(room, latest=50)
        nursery.start_soon(listener.publish)
        yield listener
        nursery.cancel_scope.cancel()


async def texts(room: Room, count: int) -> list[str]:
    with trio.fail_after(SOON):
        return [(await anext(room)).text for _ in range(count)]


async def until(room: Room, kind: type) -> object:
    """The next event of this kind in a room."""
    with trio.fail_after(SOON):
        async for event in room.events():
            if isinstance(event, kind):
                return event
    raise AssertionError("the room was left")
