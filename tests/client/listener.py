"""Reads a client's events until a test has seen what it expects."""

from collections.abc import Callable

import trio

from chatserver.client import Client
from chatserver.client.events import Event, Received

SOON = 120.0  # s; never reached unless something is broken, however busy the machine is


class Listener:
    """Collects a client's events and waits for what a test expects."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.seen: list[Event] = []

    async def until(self, done: Callable[[list[Event]], bool]) -> list[Event]:
        with trio.fail_after(SOON):
            while not done(self.seen):
                self.seen.append(await anext(self.client))
        return self.seen

    async def until_kind(self, kind: type[Event], *, times: int = 1) -> list[Event]:
        return await self.until(lambda seen: sum(isinstance(event, kind) for event in seen) >= times)

    async def texts(self, count: int) -> list[str]:
        await self.until_kind(Received, times=count)
        return [event.message.text for event in self.seen if isinstance(event, Received)]
