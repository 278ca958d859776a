"""Reads a client's events until a test has seen what it expects."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from chatserver.client import Client, connect
from chatserver.client.events import Event, Received
from chatserver.client.link import Backoff

SOON = 120.0  # s; never reached unless something is broken, however busy the machine is

Kind = TypeVar("Kind", bound=Event)


class Listener:
    """Collects a client's events and waits for what a test expects."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.seen: list[Event] = []

    def events(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def until(self, kind: type[Kind], *, times: int = 1) -> list[Kind]:
        """Wait until so many events of a kind came; return them."""
        with trio.fail_after(SOON):
            while len(found := self.events(kind)) < times:
                self.seen.append(await anext(self.client))
        return found

    async def texts(self, count: int) -> list[str]:
        return [event.message.text for event in await self.until(Received, times=count)]


@asynccontextmanager
async def listening(url: str, room: str = "lobby", *, jitter: float = 0.01) -> AsyncIterator[Listener]:
    """Be in a room, with short delays before connecting again."""
    async with connect(url, rooms=[room], backoff=Backoff(jitter=lambda: jitter)) as client:
        yield Listener(client)
